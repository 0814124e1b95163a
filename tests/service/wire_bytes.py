"""Bytes of HTTP/2 as a caller sends them, by the `h2` package and by hand."""

from __future__ import annotations

from struct import Struct

from h2.config import H2Configuration
from h2.connection import H2Connection

from warmscaler.service.front.http2.answered import Answered
from warmscaler.service.front.http2.control import LIMITS, ConnectionLimits
from warmscaler.service.front.http2.frames import HEADER, PREFACE, SETTINGS, frame
from warmscaler.service.front.http2.requests import Code
from warmscaler.service.front.http2.rpc import Call, GrpcConnection
from warmscaler.service.front.methods import Conversation, Method, Unary

MAX_MESSAGE = 1 << 16
UNARY, TALK = "/test.Echo/One", "/test.Echo/Many"
HELLO = PREFACE + frame(SETTINGS, 0, 0)
_PREFIX = Struct(">BI")


class Echo:
    """Answers every message with itself."""

    def __init__(
        self, limits: ConnectionLimits = LIMITS, *, at_once: bool = True, takes: bool = True
    ) -> None:
        """With one unary method, answered `at_once` or not, and one conversation, of which what
        comes is left where it is without `takes`."""
        methods: list[Method] = [
            Unary(
                *(UNARY, lambda message, _: message, _short if at_once else None),
                refusable=True,
                take_back=lambda answer: self.taken_back.append(answer),
            ),
            Conversation(TALK, lambda messages: messages),
        ]
        paths = {each.path.encode(): each for each in methods}
        self.machine = GrpcConnection(paths, MAX_MESSAGE, self, Answered(), limits)
        self._takes = takes
        self.taken_back: list[bytes] = []
        """Answers of the unary method that nobody will read."""

    def called(self, call: Call[Method], message: bytes) -> None:
        self.machine.answer(call, message)

    def failed(self, call: Call[Method]) -> None:
        raise AssertionError

    def began(self, call: Call[Method]) -> None:
        call.owner = self

    def message(self, call: Call[Method], message: bytes) -> None:
        if self._takes:
            self.machine.took(call, message)
            self.machine.send(call, message)

    def ended(self, call: Call[Method]) -> None:
        self.machine.finish(call, Code.OK)

    def lost(self, call: Call[Method]) -> None:
        call.owner = None


def _short(message: bytes) -> bytes | None:
    """Of long ones the answer comes the other way."""
    return message if len(message) < 5_000 else None


def machine(limits: ConnectionLimits = LIMITS, *, takes: bool = True) -> GrpcConnection[Method]:
    """With one unary method and one conversation, both of which echo; see Echo."""
    return Echo(limits, takes=takes).machine


def echo(here: GrpcConnection[Method], content: bytes, now_s: float = 0.0) -> bytes:
    """Gives the bytes; what goes out."""
    here.receive(content, now_s)
    return here.http.take()


def message(content: bytes) -> bytes:
    """As gRPC frames it."""
    return _PREFIX.pack(0, len(content)) + content


def fields(path: str = UNARY, *more: tuple[str, str]) -> list[tuple[str, str]]:
    """The headers of a call."""
    return [
        *((":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "here")),
        *(("content-type", "application/grpc"), ("te", "trailers"), *more),
    ]


def caller() -> H2Connection:
    """The client's side, by the `h2` package."""
    here = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    here.initiate_connection()
    return here


def captured() -> list[bytes]:
    """What callers send that do as they should: several conversations of bytes."""
    made = []
    for path, size in ((UNARY, 20), (UNARY, 40_000), (TALK, 100)):
        here = caller()
        out = here.data_to_send()
        for stream in (1, 3, 5):
            here.send_headers(stream, fields(path, ("grpc-timeout", f"{stream}S")))
            content = message(bytes(size))
            for at in range(0, len(content), 16_000):
                part = content[at : at + 16_000]
                if here.local_flow_control_window(stream) < len(part):
                    break
                here.send_data(stream, part, end_stream=at + 16_000 >= len(content))
        here.ping(b"12345678")
        made.append(out + here.data_to_send())
    return made


def kinds(out: bytes) -> list[tuple[int, int, bytes]]:
    """Kind, stream and payload of each frame that was sent."""
    found, at = [], 0
    while at < len(out):
        word, _, stream = HEADER.unpack_from(out, at)
        end = at + HEADER.size + (word >> 8)
        assert end <= len(out)
        found.append((word & 0xFF, stream, out[at + HEADER.size : end]))
        at = end
    return found
