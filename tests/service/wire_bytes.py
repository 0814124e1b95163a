"""Bytes of HTTP/2 as a caller sends them, by the `h2` package and by hand."""

from __future__ import annotations

from struct import Struct

from h2.config import H2Configuration
from h2.connection import H2Connection

from warmscaler.service.front.http2.control import LIMITS, ConnectionLimits
from warmscaler.service.front.http2.frames import HEADER, PREFACE, SETTINGS, frame
from warmscaler.service.front.http2.requests import Code
from warmscaler.service.front.http2.rpc import GrpcConnection, Kind
from warmscaler.service.front.methods import Conversation, Method, Unary

MAX_MESSAGE = 1 << 16
UNARY, TALK = "/test.Echo/One", "/test.Echo/Many"
HELLO = PREFACE + frame(SETTINGS, 0, 0)
_PREFIX = Struct(">BI")


def machine(limits: ConnectionLimits = LIMITS) -> GrpcConnection[Method]:
    """With one unary method and one conversation."""
    methods: list[Method] = [
        Unary(UNARY, lambda message, _: message),
        Conversation(TALK, lambda messages: messages),
    ]
    return GrpcConnection({each.path.encode(): each for each in methods}, MAX_MESSAGE, limits)


def echo(here: GrpcConnection[Method], content: bytes, now_s: float = 0.0) -> bytes:
    """Gives the bytes, answers every message with itself; what goes out."""
    for event in here.receive(content, now_s):
        if event.kind is Kind.MESSAGE and event.call.request.method is not None:
            if event.call.request.method.unary:
                here.answer(event.call, event.message)
            else:
                here.took(event.call, event.message)
                here.send(event.call, event.message)
        elif event.kind is Kind.ENDED:
            here.finish(event.call, Code.OK)
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
