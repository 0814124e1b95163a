"""The server's side of one HTTP/2 connection (RFC 9113): what its peer's frames do, and its limits.

Bytes go in by `receive`, which tells a `Listener` of the streams; what is to be sent is taken out by
`take`. Nothing here reads a clock: time comes in with the bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from warmscaler.service.front.http2 import frames
from warmscaler.service.front.http2.control import LIMITS, STREAM_COST, ConnectionLimits
from warmscaler.service.front.http2.frames import ErrorCode, Violation
from warmscaler.service.front.http2.headers import MAX_FIELDS_BYTES, Blocks, Fields, Meaning
from warmscaler.service.front.http2.outgoing import Outgoing
from warmscaler.service.front.http2.streams import Stream

T = TypeVar("T", bound=Meaning)


class Listener(Protocol[T]):
    """Who is told of the streams."""

    def began(self, stream: Stream[T]) -> None:
        """Its headers came, and are well formed."""

    def data(self, stream: Stream[T], content: bytes) -> None:
        """DATA came; after the last of it `stream.peer_ended`, which may come with none."""

    def lost(self, stream: Stream[T]) -> None:
        """Its peer reset it, or is gone: there is nobody to answer."""

    def reset_late(self, number: int) -> None:
        """Its peer reset a stream that is over here: the end was under way."""

    def shortcut(self, content: bytes, at: int) -> int:
        """HEADERS of a new stream begin at `at`. Whoever can do with what follows all that would be
        done here says where the rest begins; else `at`."""


class Connection(Outgoing[T]):
    """Ends by `closing`, from when on nothing that comes is read."""

    def __init__(
        self,
        interpret: Callable[[Fields], T | None],
        listener: Listener[T],
        limits: ConnectionLimits = LIMITS,
    ) -> None:
        """`interpret` says what the headers of a request mean, None if they are malformed."""
        super().__init__(limits)
        self._listener = listener
        self.blocks = Blocks(interpret)
        self._rest = bytearray(0)
        self._needed = len(frames.PREFACE)
        self._began = False
        self._headers: tuple[int, int, bytearray, int] | None = None
        """A header block that goes on: stream, flags, what came, CONTINUATIONs."""
        self.to_return = 0
        """Bytes of DATA read, for which the peer has no WINDOW_UPDATE yet."""
        self._kinds: tuple[Callable[[int, int, bytes], None], ...] = (
            *(self._data, self._request, self._priority, self._reset, self._settings),
            *(self._push, self._ping, self._goaway, self._window_update, self._continuation),
        )
        mine = {
            frames.HEADER_TABLE_SIZE: 0,
            frames.MAX_CONCURRENT_STREAMS: limits.streams,
            frames.MAX_HEADER_LIST_SIZE: MAX_FIELDS_BYTES,
        }
        self.sending.out += (
            frames.settings(mine),
            frames.window_update(0, limits.window - frames.DEFAULT_WINDOW),
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
                if not frames.PREFACE.startswith(content[: len(frames.PREFACE)]):
                    raise Violation(ErrorCode.PROTOCOL_ERROR, "not HTTP/2 with prior knowledge")
                at = len(frames.PREFACE) if len(content) >= len(frames.PREFACE) else 0
                self._began = at > 0
                self._calm_s = now_s
            if self._began:
                at = self._frames(content, at)
            self._rest += content[at:]
        except Violation as violation:
            self.close(violation)

    def _frames(self, content: bytes, at: int) -> int:
        """Reads whole frames from `at` on; where the first one begins that is not whole."""
        unpack, end, kinds = frames.HEADER.unpack_from, len(content), self._kinds
        shortcut = self._listener.shortcut
        while end - at >= frames.HEADER_LENGTH:
            length, flags, number = unpack(content, at)
            kind, length, number = length & 0xFF, length >> 8, number & frames.MAX_STREAM
            begin = at + frames.HEADER_LENGTH
            if length > frames.LEAST_FRAME_SIZE:
                raise Violation(ErrorCode.FRAME_SIZE_ERROR, "a frame over 16 kB")
            if self._headers is not None:
                if kind != frames.CONTINUATION:
                    raise Violation(ErrorCode.PROTOCOL_ERROR, "a header block was not ended")
            elif not self.greeted:
                if kind != frames.SETTINGS or flags & frames.ACK:
                    raise Violation(ErrorCode.PROTOCOL_ERROR, "no SETTINGS after the preface")
            elif (
                kind == frames.HEADERS and flags == frames.END_HEADERS and number > self.last_stream
            ):
                ahead = shortcut(content, at)
                if ahead > at:
                    at = ahead
                    continue
            if end - begin < length:
                self._needed = frames.HEADER_LENGTH + length
                return at
            at = begin + length
            if kind < len(kinds):
                kinds[kind](flags, number, content[begin:at])
            else:
                self._annoy(1)
            if self.closing is not None:
                return end
        self._needed = frames.HEADER_LENGTH
        return at

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        length = len(payload)
        self.to_return += length
        if self.to_return * 2 >= self.limits.window:
            if self.to_return > self.limits.window:
                raise Violation(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the window")
            self.sending.out.append(frames.window_update(0, self.to_return))
            self.to_return = 0
        stream = self.streams.get(number)
        if stream is None or stream.peer_ended:
            self._data_of_none(number, stream)
            return
        if flags & frames.PADDED:
            payload = frames.unpadded(payload)
        stream.received += len(payload)
        stream.receive_window -= length
        if stream.receive_window < 0:
            self._stream_error(number, ErrorCode.FLOW_CONTROL_ERROR)
            return
        if flags & frames.END_STREAM:
            stream.peer_ended = True
        elif not payload:
            self._annoy(1)
        self._listener.data(stream, payload)

    def _data_of_none(self, number: int, stream: Stream[T] | None) -> None:
        if stream is None and (number == 0 or number > self.last_stream or number % 2 == 0):
            raise Violation(ErrorCode.PROTOCOL_ERROR, "DATA of no stream")
        if stream is not None or number not in self._ended_early:
            self._stream_error(number, ErrorCode.STREAM_CLOSED)

    def _request(self, flags: int, number: int, payload: bytes) -> None:
        if flags & frames.PADDED:
            payload = frames.unpadded(payload)
        if flags & frames.WITH_PRIORITY:
            if len(payload) < 5:
                raise Violation(ErrorCode.FRAME_SIZE_ERROR, "HEADERS cut short")
            if frames.NUMBER.unpack_from(payload)[0] & frames.MAX_STREAM == number:
                raise Violation(ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself")
            payload = payload[5:]
        if number % 2 == 0:
            raise Violation(ErrorCode.PROTOCOL_ERROR, "HEADERS of a stream that no peer opens")
        if flags & frames.END_HEADERS:
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
        if flags & frames.END_HEADERS:
            self._headers = None
            self._block(number, first_flags, bytes(block))

    def _block(self, number: int, flags: int, block: bytes) -> None:
        if number <= self.last_stream:
            self._trailers(number, flags, block)
            return
        request = self.blocks.request(block)
        self.last_stream = number
        if number > self.last_taken:
            self._ended_early.append(number)  # told by GOAWAY that it is not heard
            return
        if request is None or len(self.streams) >= self.limits.streams:
            code = ErrorCode.PROTOCOL_ERROR if request is None else ErrorCode.REFUSED_STREAM
            self._annoy(STREAM_COST)
            self._ended_early.append(number)
            self.sending.out.append(frames.rst_stream(number, code))
            return
        stream = self.open(number, request)
        stream.peer_ended = bool(flags & frames.END_STREAM)
        self._listener.began(stream)

    def open(self, number: int, request: T) -> Stream[T]:
        """A stream begins."""
        stream = Stream(number, request, self._now_s, self.sending.initial_window)
        self.streams[number] = stream
        self.calm += self.limits.nuisance_per_call
        return stream

    def _trailers(self, number: int, flags: int, block: bytes) -> None:
        well_formed = self.blocks.trailers(block)
        stream = self.streams.get(number)
        if stream is None and number in self._ended_early:
            return
        if stream is None or stream.peer_ended:
            raise Violation(ErrorCode.STREAM_CLOSED, "HEADERS of a stream that ended")
        if not well_formed or not flags & frames.END_STREAM:
            self._stream_error(number, ErrorCode.PROTOCOL_ERROR)
            return
        self._annoy(STREAM_COST)
        stream.peer_ended = True
        self._listener.data(stream, b"")

    def _reset(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Violation(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM of a wrong length")
        self._known(number, "RST_STREAM")
        stream = self.streams.get(number)
        self._annoy_by_ending(stream)
        self._lose(stream) if stream is not None else self._listener.reset_late(number)

    def _stream_error(self, number: int, code: ErrorCode) -> None:
        stream = self.streams.get(number)
        self._annoy_by_ending(stream)
        self.sending.out.append(frames.rst_stream(number, code))
        if stream is not None:
            self._ended_early.append(number)
            self._lose(stream)

    def _lost(self, stream: Stream[T]) -> None:
        self._listener.lost(stream)
