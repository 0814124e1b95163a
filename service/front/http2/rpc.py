"""gRPC on one HTTP/2 connection: bytes in, calls out; answers in, bytes out."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from struct import Struct
from typing import Generic, TypeAlias, TypeVar

from warmscaler.service.front.http2.connection import Connection
from warmscaler.service.front.http2.control import LIMITS, ConnectionLimits
from warmscaler.service.front.http2.frames import ErrorCode
from warmscaler.service.front.http2.headers import Fields
from warmscaler.service.front.http2.outgoing import Reply
from warmscaler.service.front.http2.requests import (
    DONE,
    NOT_GRPC,
    RESPONSE,
    Code,
    Method,
    Request,
    failure,
    interpret,
    trailers,
)
from warmscaler.service.front.http2.streams import Stream

M = TypeVar("M", bound=Method)
Call: TypeAlias = Stream[Request[M]]

PREFIX = Struct(">BI")
"""Of a message: whether it is compressed, and its length."""
_ANSWER = Reply(RESPONSE, DONE)
MAX_BUFFERED = 1 << 22
"""Bytes of messages that are not complete, on one connection."""
_GZIP = 31


class Kind(Enum):
    """What happened to a call."""

    BEGAN = auto()
    """A call that is not unary."""
    MESSAGE = auto()
    """One message; of a unary call the only one, and then it waits for its answer."""
    ENDED = auto()
    """A call that is not unary has no more messages."""
    LOST = auto()
    """Its caller cancelled it, or is gone: nobody hears an answer."""


@dataclass(slots=True)
class Event(Generic[M]):
    """One of them, in the order in which they came."""

    kind: Kind
    call: Call[M]
    message: bytes = b""


class GrpcConnection(Generic[M]):
    """A caller's connection. Every call that is neither lost nor answered is open."""

    def __init__(
        self,
        methods: Mapping[bytes, M],
        max_message_bytes: int,
        limits: ConnectionLimits = LIMITS,
    ) -> None:
        """`methods` by their path, `/package.Service/Method`."""

        def meaning(fields: Fields) -> Request[M] | None:
            return interpret(fields, methods)

        self.http: Connection[Request[M]] = Connection(meaning, self, limits)
        self._max_message_bytes = max_message_bytes
        self._events: list[Event[M]] = []
        self._buffered = 0

    def receive(self, content: bytes, now_s: float) -> list[Event[M]]:
        """Bytes from the peer, and the time in seconds."""
        self.http.receive(content, now_s)
        events, self._events = self._events, []
        return events

    def gone(self) -> list[Event[M]]:
        """The peer is gone."""
        self.http.lost()
        events, self._events = self._events, []
        return events

    # Answers. Of a call that is not open they change nothing.

    def answer(self, call: Call[M], message: bytes) -> None:
        """The one answer of a unary call."""
        if call.open and not self.http.reply(call, _ANSWER, message):
            self.send(call, message)
            self.finish(call)

    def send(self, call: Call[M], message: bytes) -> None:
        """One of several."""
        if call.open:
            if not call.sent_head:
                self.http.begin(call, RESPONSE)
            self.http.send(call, PREFIX.pack(0, len(message)) + message)

    def finish(self, call: Call[M], code: Code = Code.OK, text: str = "") -> None:
        """The call ends, after what was sent."""
        if call.open:
            done = trailers(code, text) if call.sent_head else failure(code, text)
            self.refuse(call, done)

    def cancel(self, call: Call[M]) -> None:
        """The call ends at once, whatever still waits to be sent."""
        if call.open:
            self._drop(call)
            self.http.reset(call, ErrorCode.CANCEL)

    def refuse(self, call: Call[M], block: bytes) -> None:
        """As `finish`, of a call to which nothing was sent, with a block made before."""
        if call.open:
            self._drop(call)
            self.http.end(call, block)

    def took(self, call: Call[M], message: bytes) -> None:
        """A message of a call that is not unary needs no room here any more."""
        if call.open:
            size = min(len(message) + PREFIX.size, call.held)
            call.held -= size
            self._buffered -= size
            if not call.peer_ended:
                self.http.expect(call, size)

    # Told by HTTP/2

    def began(self, call: Call[M]) -> None:
        """See Listener."""
        request = call.request
        if request.refusal is not None and request.is_grpc:
            self.http.end(call, request.refusal)
            return
        if request.method is not None and not request.method.unary:
            self._events.append(Event(Kind.BEGAN, call))
        if call.peer_ended:
            self.data(call, b"")

    def data(self, call: Call[M], content: bytes) -> None:
        """See Listener."""
        request, method = call.request, call.request.method
        unary = method is not None and method.unary
        if unary and call.peer_ended and call.buffer is None and request.content_length is None:
            size = len(content) - PREFIX.size
            if size >= 0 and PREFIX.unpack_from(content) == (0, size):
                self._events.append(Event(Kind.MESSAGE, call, content[PREFIX.size :]))
                return
        if request.content_length is not None and (
            call.received > request.content_length
            or (call.peer_ended and call.received < request.content_length)
        ):
            self.http.reset(call, ErrorCode.PROTOCOL_ERROR)
            self.lost(call)
            return
        if request.refusal is not None:
            if call.peer_ended:
                self.http.begin(call, request.refusal)
                self.http.send(call, NOT_GRPC)
                self.http.end(call, b"")
            return
        if call.buffer is None:
            call.buffer = bytearray()
        call.buffer += content
        call.held += len(content)
        self._buffered += len(content)
        if self._buffered > MAX_BUFFERED:
            self.finish(call, Code.RESOURCE_EXHAUSTED, "too many messages that are not complete")
            return
        try:
            self._read_one(call, call.buffer) if unary else self._read_all(call, call.buffer)
        except _Unreadable as error:
            self.finish(call, error.code, str(error))
            if call.owner is not None:
                self._events.append(Event(Kind.LOST, call))

    def lost(self, call: Call[M]) -> None:
        """See Listener."""
        self._drop(call)
        if call.owner is not None:
            self._events.append(Event(Kind.LOST, call))

    def _drop(self, call: Call[M]) -> None:
        self._buffered -= call.held
        call.held = 0
        call.buffer = None

    def _read_one(self, call: Call[M], buffer: bytearray) -> None:
        whole = self._whole(call, buffer)
        if whole is not None and len(buffer) > whole:
            raise _Unreadable(Code.UNIMPLEMENTED, "more than one message")
        if call.peer_ended:
            if whole is None:
                cut = Code.INTERNAL if buffer else Code.UNIMPLEMENTED
                raise _Unreadable(cut, "a message is cut short" if buffer else "no message")
            message = self._message(call, buffer, whole)
            self._drop(call)
            self._events.append(Event(Kind.MESSAGE, call, message))

    def _read_all(self, call: Call[M], buffer: bytearray) -> None:
        while (whole := self._whole(call, buffer)) is not None:
            message = self._message(call, buffer, whole)
            del buffer[:whole]
            self._events.append(Event(Kind.MESSAGE, call, message))
        if call.peer_ended:
            if buffer:
                raise _Unreadable(Code.INTERNAL, "a message is cut short")
            self._events.append(Event(Kind.ENDED, call))

    def _whole(self, call: Call[M], buffer: bytearray) -> int | None:
        """Where the first message ends, if all of it is there; else there is room for it."""
        if len(buffer) < PREFIX.size:
            return None
        compressed, length = PREFIX.unpack_from(buffer)
        if compressed > call.request.gzip:
            raise _Unreadable(Code.INTERNAL, "a compressed message without grpc-encoding")
        if length > self._max_message_bytes:
            limit = f"a message of {length} bytes; the most is {self._max_message_bytes}"
            raise _Unreadable(Code.RESOURCE_EXHAUSTED, limit)
        whole = PREFIX.size + int(length)
        missing = whole - len(buffer)
        if missing <= 0:
            return whole
        if missing > call.receive_window and not call.peer_ended:
            self.http.expect(call, missing - call.receive_window)
        return None

    def _message(self, call: Call[M], buffer: bytearray, whole: int) -> bytes:
        content = bytes(buffer[PREFIX.size : whole])
        if not buffer[0]:
            return content
        inflate = zlib.decompressobj(_GZIP)
        try:
            message = inflate.decompress(content, self._max_message_bytes)
        except zlib.error:
            raise _Unreadable(Code.INTERNAL, "a message that is not gzip") from None
        if inflate.unconsumed_tail:
            raise _Unreadable(Code.RESOURCE_EXHAUSTED, "a message too long once inflated")
        if not inflate.eof:
            raise _Unreadable(Code.INTERNAL, "a message that is not gzip")
        return message


class _Unreadable(Exception):
    """Why no message can be read, and how the call ends by it."""

    def __init__(self, code: Code, what: str) -> None:
        super().__init__(what)
        self.code = code
