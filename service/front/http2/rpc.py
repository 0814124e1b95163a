"""gRPC on one HTTP/2 connection: bytes in, calls told; answers in, bytes out."""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import Generic, Protocol, TypeAlias, TypeVar

from warmscaler.service.front.http2 import frames
from warmscaler.service.front.http2.answered import Answered
from warmscaler.service.front.http2.connection import Connection
from warmscaler.service.front.http2.control import LIMITS, ConnectionLimits
from warmscaler.service.front.http2.frames import END_HEADERS, END_STREAM, HEADER, HEADERS, PREFIX
from warmscaler.service.front.http2.headers import Fields
from warmscaler.service.front.http2.messages import Unreadable, end_of_first, first
from warmscaler.service.front.http2.outgoing import Reply
from warmscaler.service.front.http2.requests import (
    DONE,
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

ANSWER = Reply(RESPONSE, DONE)
BUSY = failure(Code.RESOURCE_EXHAUSTED, "the scaler is overloaded")
MAX_BUFFERED = 1 << 22
"""Bytes of messages that are not complete, on one connection."""
_BEHIND = Struct(">IBIBI")
"""What follows the headers of a call that comes whole: DATA's header, and its message's."""
_BEHIND_LEAST = HEADER.size + _BEHIND.size
_MOST = frames.LEAST_FRAME_SIZE - PREFIX.size


class Handler(Protocol[M]):
    """Who is told of the calls, in the order in which things came. It may answer at once."""

    def called(self, call: Call[M], message: bytes) -> None:
        """A unary call, whole: it waits for its answer."""

    def failed(self, call: Call[M]) -> None:
        """Its method's `at_once` raised what is being handled; it is to be ended."""

    def began(self, call: Call[M]) -> None:
        """A call that is not unary. One that gets an owner here is told of from now on."""

    def message(self, call: Call[M], message: bytes) -> None:
        """One message of it."""

    def ended(self, call: Call[M]) -> None:
        """It has no more messages."""

    def lost(self, call: Call[M]) -> None:
        """The caller of a call with an owner cancelled it, or is gone: nobody hears an answer."""


class GrpcConnection(Generic[M]):
    """A caller's connection. Every call that is neither lost nor answered is open."""

    def __init__(
        self,
        methods: Mapping[bytes, M],
        max_message_bytes: int,
        handler: Handler[M],
        answered: Answered,
        limits: ConnectionLimits = LIMITS,
    ) -> None:
        """`methods` by their path, `/package.Service/Method`."""

        def meaning(fields: Fields) -> Request[M] | None:
            return interpret(fields, methods)

        self._handler = handler
        self._answered = answered
        self._name = answered.connection()
        self.http: Connection[Request[M]] = Connection(meaning, self, limits)
        self.admitted = 1 << 62
        """So many more calls that may be refused are not. Whoever counts sets it at every read."""
        self._max_message_bytes = max_message_bytes
        self._buffered = 0

    def receive(self, content: bytes, now_s: float) -> None:
        """Bytes from the peer, and the time in seconds."""
        self.http.receive(content, now_s)

    def gone(self) -> None:
        """The peer is gone."""
        self.http.lost()

    # Answers. Of a call that is not open they change nothing.

    def answer(self, call: Call[M], message: bytes) -> None:
        """The one answer of a unary call."""
        if not call.open:
            return
        method = call.request.method
        if method is not None and method.take_back is not None:
            self._answered.add(self._name + call.id, method.take_back, message)
        if not self.http.reply(call, ANSWER, message):
            self.send(call, message)
            self.finish(call)

    def send(self, call: Call[M], message: bytes) -> None:
        """One of several."""
        if call.open:
            if not call.sent_head:
                self.http.begin(call, RESPONSE)
            self.http.sending.data(call, PREFIX.pack(0, len(message)) + message)

    def finish(self, call: Call[M], code: Code = Code.OK, text: str = "") -> None:
        """The call ends, after what was sent."""
        if call.open:
            done = trailers(code, text) if call.sent_head else failure(code, text)
            self.refuse(call, done)

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

    def shortcut(self, content: bytes, at: int) -> int:
        """See Listener. Takes all calls that come whole, one behind the other: headers seen before and
        one short message, of a method that mostly answers at once. What happens is what would happen
        frame by frame."""
        http, handler = self.http, self._handler
        sending, streams, last = http.sending, http.streams, http.last_stream
        known, known_but_for_timeout = http.blocks.known, http.blocks.known_but_for_timeout
        unpack, behind = HEADER.unpack_from, _BEHIND.unpack_from
        whole, frame = ANSWER.frames, frames.frame
        read, limits, end, done = http.to_return, http.limits, len(content), 0
        while end - at >= _BEHIND_LEAST and len(streams) < limits.streams:
            head, flags, number = unpack(content, at)
            data = at + 9 + (head >> 8)
            if head & 0xFF != HEADERS or flags != END_HEADERS or end - data < 14:
                break
            length, flags, stream, packed, size = behind(content, data)
            begin = data + 14
            stop = begin + size
            if length != size + 5 << 8 or flags != END_STREAM or stream != number or packed:
                break  # that DATA's kind is 0 is in the first of them
            if not last < number <= http.last_taken or not number & 1:
                break
            if stop > end or size > _MOST or 2 * (read + size + 5) >= limits.window:
                break
            block = content[at + 9 : data]
            request = known(block) or known_but_for_timeout(block)
            if request is None or (method := request.method) is None:
                break
            if (at_once := method.at_once) is None or request.content_length is not None:
                break
            http.last_stream = last = number
            read += size + 5
            message, at = content[begin:stop], stop
            if method.refusable:
                if self.admitted <= 0:
                    sending.out.append(frame(HEADERS, END_STREAM | END_HEADERS, number, BUSY))
                    done += 1
                    continue
                self.admitted -= 1
            try:
                answer = at_once(message)
            except Exception:
                handler.failed(self._whole_call(number, request))
                continue
            if answer is None:
                handler.called(self._whole_call(number, request), message)
                continue
            room = len(answer) + 5
            if room > sending.window or room > sending.initial_window or room > sending.frame_size:
                self.answer(self._whole_call(number, request), answer)
                continue
            sending.window -= room
            sending.out.append(whole(number, answer))
            done += 1
            if method.take_back is not None:
                self._answered.add(self._name + number, method.take_back, answer)
        http.to_return = read
        http.calm += done * limits.nuisance_per_call
        return at

    def _whole_call(self, number: int, request: Request[M]) -> Call[M]:
        call = self.http.open(number, request)
        call.peer_ended = True
        return call

    def began(self, call: Call[M]) -> None:
        """See Listener."""
        request = call.request
        if request.refusal is not None and request.content is None:
            self.http.end(call, request.refusal)
            return
        if request.method is not None and not request.method.unary:
            self._handler.began(call)
        if call.peer_ended and call.open:
            self.data(call, b"")

    def data(self, call: Call[M], content: bytes) -> None:
        """See Listener."""
        request, method = call.request, call.request.method
        unary = method is not None and method.unary
        if unary and call.peer_ended and call.buffer is None and request.content_length is None:
            size = len(content) - PREFIX.size
            if 0 <= size <= self._max_message_bytes and PREFIX.unpack_from(content) == (0, size):
                self._called(call, content[PREFIX.size :])
                return
        most = request.content_length
        if most is not None and (
            call.received > most or (call.peer_ended and call.received < most)
        ):
            self.http.reset(call, frames.ErrorCode.PROTOCOL_ERROR)
            self.lost(call)
            return
        if request.refusal is not None:
            if call.peer_ended:
                self.http.begin(call, request.refusal)
                self.http.sending.data(call, request.content or b"")
                self.http.end(call, b"")
            elif call.receive_window * 2 < frames.DEFAULT_WINDOW:
                self.http.expect(call, frames.DEFAULT_WINDOW - call.receive_window)
            return
        if call.buffer is None:
            call.buffer = bytearray()
        call.buffer += content
        call.held += len(content)
        self._buffered += len(content)
        try:
            if self._buffered > MAX_BUFFERED:
                raise Unreadable(Code.RESOURCE_EXHAUSTED, "too many messages that are not complete")
            self._read_one(call, call.buffer) if unary else self._read_all(call, call.buffer)
        except Unreadable as error:
            self.finish(call, error.code, str(error))
            self.lost(call)

    def lost(self, call: Call[M]) -> None:
        """See Listener."""
        self._drop(call)
        if call.owner is not None:
            self._handler.lost(call)

    def reset_late(self, number: int) -> None:
        """See Listener."""
        self._answered.cancelled(self._name + number)

    def _called(self, call: Call[M], message: bytes) -> None:
        method = call.request.method
        if method is not None and method.refusable:
            if self.admitted <= 0:
                self.refuse(call, BUSY)
                return
            self.admitted -= 1
        self._handler.called(call, message)

    def _drop(self, call: Call[M]) -> None:
        self._buffered -= call.held
        call.held = 0
        call.buffer = None

    def _read_one(self, call: Call[M], buffer: bytearray) -> None:
        whole = self._whole(call, buffer)
        if whole is not None and len(buffer) > whole:
            raise Unreadable(Code.UNIMPLEMENTED, "more than one message")
        if call.peer_ended:
            if whole is None:
                cut = Code.INTERNAL if buffer else Code.UNIMPLEMENTED
                raise Unreadable(cut, "a message is cut short" if buffer else "no message")
            message = first(buffer, whole, self._max_message_bytes)
            self._drop(call)
            self._called(call, message)

    def _read_all(self, call: Call[M], buffer: bytearray) -> None:
        while call.owner is not None and (whole := self._whole(call, buffer)) is not None:
            message = first(buffer, whole, self._max_message_bytes)
            del buffer[:whole]
            self._handler.message(call, message)
        if call.peer_ended and call.owner is not None:
            if buffer:
                raise Unreadable(Code.INTERNAL, "a message is cut short")
            self._handler.ended(call)

    def _whole(self, call: Call[M], buffer: bytearray) -> int | None:
        """Where the first message ends, if all of it is there; else there is room for it."""
        whole = end_of_first(buffer, self._max_message_bytes, gzip=call.request.gzip)
        missing = 0 if whole is None else whole - len(buffer)
        if missing > call.receive_window and not call.peer_ended:
            self.http.expect(call, missing - call.receive_window)
        return None if missing > 0 else whole
