"""The server's side of one HTTP/2 connection (RFC 9113): what its peer's frames do, and its limits.

Bytes go in by `receive`, which tells a `Listener` of the streams; what is to be sent is taken out by
`take`. Nothing here reads a clock: time comes in with the bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeVar

from warmscaler.service.front.http2 import frames
from warmscaler.service.front.http2.control import LIMITS, STREAM_COST, ConnectionLimits, Control
from warmscaler.service.front.http2.frames import (
    ACK,
    CONTINUATION,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEADER,
    HEADER_LENGTH,
    HEADERS,
    LEAST_FRAME_SIZE,
    MAX_STREAM,
    NUMBER,
    PREFACE,
    SETTINGS,
    WITH_PRIORITY,
    ErrorCode,
    Violation,
)
from warmscaler.service.front.http2.headers import MAX_FIELDS_BYTES, Blocks, Fields
from warmscaler.service.front.http2.streams import Stream

T = TypeVar("T")

_NOT_SEEN_YET = 1_000
"""Of so many streams that we ended before their peer, DATA that was under way is expected."""


class Listener(Protocol[T]):
    """Who is told of the streams."""

    def began(self, stream: Stream[T]) -> None:
        """Its headers came, and are well formed."""

    def data(self, stream: Stream[T], content: bytes) -> None:
        """DATA came; after the last of it `stream.peer_ended`, which may come with none."""

    def lost(self, stream: Stream[T]) -> None:
        """Its peer reset it, or is gone: there is nobody to answer."""


class Connection(Control[T]):
    """Ends by `closing`, from when on nothing that comes is read."""

    def __init__(
        self,
        interpret: Callable[[Fields], T | None],
        listener: Listener[T],
        limits: ConnectionLimits = LIMITS,
    ) -> None:
        """`interpret` says what the headers of a request mean, None if they are malformed."""
        super().__init__(limits)
        self.closing: Violation | None = None
        """Why it is to be closed once all is sent."""
        self._listener = listener
        self._blocks = Blocks(interpret)
        self._rest = bytearray(0)
        self._needed = len(PREFACE)
        self._began = False
        self._last_taken = MAX_STREAM
        self._headers: tuple[int, int, bytearray, int] | None = None
        """A header block that goes on: stream, flags, what came, CONTINUATIONs."""
        self._to_return = 0
        """Bytes of DATA read, for which the peer has no WINDOW_UPDATE yet."""
        self._ended_early: deque[int] = deque(maxlen=_NOT_SEEN_YET)
        self._kinds: tuple[Callable[[int, int, bytes], None], ...] = (
            *(self._data, self._request, self._priority, self._reset, self._settings),
            *(self._push, self._ping, self._goaway, self._window_update, self._continuation),
        )
        mine = {
            frames.MAX_CONCURRENT_STREAMS: limits.streams,
            frames.MAX_HEADER_LIST_SIZE: MAX_FIELDS_BYTES,
        }
        self.sending.out += (
            frames.settings(mine),
            frames.window_update(0, limits.window - DEFAULT_WINDOW),
        )

    # In

    def receive(self, content: bytes, now_s: float) -> None:
        """Bytes from the peer, and the time in seconds."""
        if self.closing is not None:
            return
        self._now_s = now_s
        if self._rest:
            self._rest += content
            if len(self._rest) < self._needed:
                return
            content = bytes(self._rest)
            self._rest.clear()
        try:
            at = 0
            if not self._began:
                if not PREFACE.startswith(content[: len(PREFACE)]):
                    raise Violation(ErrorCode.PROTOCOL_ERROR, "not HTTP/2 with prior knowledge")
                at = len(PREFACE) if len(content) >= len(PREFACE) else 0
                self._began = at > 0
            if self._began:
                at = self._frames(content, at)
            self._rest += content[at:]
        except Violation as violation:
            self.close(violation)

    def _frames(self, content: bytes, at: int) -> int:
        """Reads whole frames from `at` on; where the first one begins that is not whole."""
        unpack, end, kinds = HEADER.unpack_from, len(content), self._kinds
        while end - at >= HEADER_LENGTH:
            length, flags, number = unpack(content, at)
            kind, length = length & 0xFF, length >> 8
            if length > LEAST_FRAME_SIZE:
                raise Violation(ErrorCode.FRAME_SIZE_ERROR, "a frame over 16 kB")
            begin = at + HEADER_LENGTH
            if end - begin < length:
                self._needed = HEADER_LENGTH + length
                return at
            at = begin + length
            if self._headers is not None and kind != CONTINUATION:
                raise Violation(ErrorCode.PROTOCOL_ERROR, "a header block was not ended")
            if not self.greeted and (kind != SETTINGS or flags & ACK):
                raise Violation(ErrorCode.PROTOCOL_ERROR, "no SETTINGS after the preface")
            if kind < len(kinds):
                kinds[kind](flags, number & MAX_STREAM, content[begin:at])
            else:
                self._annoy(1)
            if self.closing is not None:
                return end
        self._needed = HEADER_LENGTH
        return at

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        length = len(payload)
        self._to_return += length
        if self._to_return > self.limits.window:
            raise Violation(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the window")
        if self._to_return * 2 >= self.limits.window:
            self.sending.out.append(frames.window_update(0, self._to_return))
            self._to_return = 0
        stream = self.streams.get(number)
        if stream is None or stream.peer_ended:
            self._data_of_none(number, stream)
            return
        if flags & frames.PADDED:
            payload = frames.unpadded(flags, payload)
        stream.received += len(payload)
        stream.receive_window -= length
        if stream.receive_window < 0:
            self._stream_error(number, ErrorCode.FLOW_CONTROL_ERROR)
            return
        if flags & END_STREAM:
            stream.peer_ended = True
        elif not payload:
            self._annoy(1)
        self._listener.data(stream, payload)

    def _data_of_none(self, number: int, stream: Stream[T] | None) -> None:
        if stream is None and (number == 0 or number > self._last_stream or number % 2 == 0):
            raise Violation(ErrorCode.PROTOCOL_ERROR, "DATA of no stream")
        if stream is None and number in self._ended_early:
            return
        self._stream_error(number, ErrorCode.STREAM_CLOSED)

    def _request(self, flags: int, number: int, payload: bytes) -> None:
        payload = frames.unpadded(flags, payload)
        if flags & WITH_PRIORITY:
            if len(payload) < 5:
                raise Violation(ErrorCode.FRAME_SIZE_ERROR, "HEADERS cut short")
            if NUMBER.unpack_from(payload)[0] & MAX_STREAM == number:
                raise Violation(ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself")
            payload = payload[5:]
        if number % 2 == 0:
            raise Violation(ErrorCode.PROTOCOL_ERROR, "HEADERS of a stream that no peer opens")
        if flags & END_HEADERS:
            self._block(number, flags, payload)
        else:
            self._headers = (number, flags, bytearray(payload), 0)

    def _continuation(self, flags: int, number: int, payload: bytes) -> None:
        if self._headers is None or self._headers[0] != number:
            raise Violation(ErrorCode.PROTOCOL_ERROR, "CONTINUATION of nothing")
        _, first_flags, block, count = self._headers
        block += payload
        if count >= self.limits.continuations or len(block) > self.limits.block_bytes:
            raise Violation(ErrorCode.ENHANCE_YOUR_CALM, "a header block without an end")
        self._headers = (number, first_flags, block, count + 1)
        if flags & END_HEADERS:
            self._headers = None
            self._block(number, first_flags, bytes(block))

    def _block(self, number: int, flags: int, block: bytes) -> None:
        if number <= self._last_stream:
            self._trailers(number, flags, block)
            return
        request = self._blocks.request(block)
        self._last_stream = number
        if number > self._last_taken:
            self._ended_early.append(number)  # told by GOAWAY that it is not heard
            return
        refusal = None
        if request is None:
            refusal = ErrorCode.PROTOCOL_ERROR
        elif len(self.streams) >= self.limits.streams:
            refusal = ErrorCode.REFUSED_STREAM
        if request is None or refusal is not None:
            self._annoy(STREAM_COST)
            self._ended_early.append(number)
            self.sending.out.append(frames.rst_stream(number, refusal or ErrorCode.PROTOCOL_ERROR))
            return
        stream = Stream(number, request, self._now_s, DEFAULT_WINDOW, self.sending.initial_window)
        stream.peer_ended = bool(flags & END_STREAM)
        self.streams[number] = stream
        self._listener.began(stream)

    def _trailers(self, number: int, flags: int, block: bytes) -> None:
        well_formed = self._blocks.trailers(block)
        stream = self.streams.get(number)
        if stream is None and number in self._ended_early:
            return
        if stream is None or stream.peer_ended:
            raise Violation(ErrorCode.STREAM_CLOSED, "HEADERS of a stream that ended")
        if not well_formed or not flags & END_STREAM:
            self._stream_error(number, ErrorCode.PROTOCOL_ERROR)
            return
        self._annoy(STREAM_COST)
        stream.peer_ended = True
        self._listener.data(stream, b"")

    def _reset(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Violation(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM of a wrong length")
        self._known(number, "RST_STREAM")
        self._annoy(STREAM_COST)
        stream = self.streams.get(number)
        if stream is not None:
            self._lose(stream)

    def _stream_error(self, number: int, code: ErrorCode) -> None:
        self._annoy(STREAM_COST)
        self.sending.out.append(frames.rst_stream(number, code))
        stream = self.streams.get(number)
        if stream is not None:
            self._ended_early.append(number)
            self._lose(stream)

    def _lose(self, stream: Stream[T]) -> None:
        self._forget(stream)
        self._listener.lost(stream)

    def _forget(self, stream: Stream[T]) -> None:
        stream.open = False
        self.sending.forget(stream)
        del self.streams[stream.id]

    # Out

    def respond(self, stream: Stream[T], head: bytes, content: bytes, trailers: bytes) -> None:
        """Headers, DATA and trailers at once: the stream ends."""
        sending, number, length = self.sending, stream.id, len(content)
        room = min(sending.window, stream.send_window, sending.frame_size)
        begin = HEADER.pack(len(head) << 8 | HEADERS, END_HEADERS, number) + head
        if length > room or not trailers:
            sending.out.append(begin)
            stream.sent_head = True
            sending.data(stream, content)
            self.end(stream, trailers)
            return
        sending.window -= length
        sending.out += (
            begin,
            HEADER.pack(length << 8, 0, number) + content,
            HEADER.pack(len(trailers) << 8 | HEADERS, END_HEADERS | END_STREAM, number) + trailers,
        )
        self._stream_ends(stream)

    def begin(self, stream: Stream[T], head: bytes) -> None:
        """The response's headers."""
        stream.sent_head = True
        self.sending.out.append(frames.frame(HEADERS, END_HEADERS, stream.id, head))

    def send(self, stream: Stream[T], content: bytes) -> None:
        """DATA, now or once the peer's windows have room."""
        self.sending.data(stream, content)

    def end(self, stream: Stream[T], trailers: bytes) -> None:
        """Trailers; or, where nothing was sent before, headers that end the stream."""
        if self.sending.end(stream, trailers):
            self._stream_ends(stream)

    def reset(self, stream: Stream[T], code: ErrorCode) -> None:
        """Ends the stream; the listener is not told."""
        self.sending.out.append(frames.rst_stream(stream.id, code))
        self._ended_early.append(stream.id)
        self._forget(stream)

    def expect(self, stream: Stream[T], more: int) -> None:
        """Lets the peer send so many more bytes of DATA on it."""
        stream.receive_window += more
        self.sending.out.append(frames.window_update(stream.id, more))

    def drain(self, *, last: bool) -> None:
        """GOAWAY: no new streams, what is open finishes. Those that are under way to us are still
        heard, until the one that is `last`."""
        if last:
            self._last_taken = self._last_stream
        if self.closing is None:
            self.leaving = True
            self.sending.out.append(frames.goaway(self._last_taken, ErrorCode.NO_ERROR))

    def close(self, violation: Violation) -> None:
        """GOAWAY with the reason; every stream is lost."""
        if self.closing is None:
            self.closing = violation
            self.sending.out.append(
                frames.goaway(self._last_stream, violation.code, str(violation))
            )
            self.lost()

    def lost(self) -> None:
        """The peer is gone, and every stream with it."""
        for stream in list(self.streams.values()):
            self._lose(stream)

    def take(self) -> bytes:
        """What is to be sent now."""
        out = self.sending.out
        content = b"".join(out)
        out.clear()
        return content

    def _stream_ends(self, stream: Stream[T]) -> None:
        if not stream.peer_ended:
            self.reset(stream, ErrorCode.NO_ERROR)
        else:
            self._forget(stream)
        self._calm = min(self._calm + self.limits.nuisance_per_call, float(self.limits.nuisance))
