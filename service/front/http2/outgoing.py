"""What a server sends on its streams, and how they and the connection end."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import TypeVar

from warmscaler.service.front.http2 import frames
from warmscaler.service.front.http2.control import ConnectionLimits, Control
from warmscaler.service.front.http2.frames import ErrorCode, Violation
from warmscaler.service.front.http2.streams import Stream

T = TypeVar("T")

_NOT_SEEN_YET = 1_000
"""Of so many streams that we ended before their peer, what was under way is expected."""
_KEPT_LENGTH = 512
"""Answers no longer than that have frames made for their length."""


class Reply:
    """The frames of a whole answer, but for its message: made once, filled in for each call."""

    __slots__ = ("_by_length", "_head", "_trailers")

    def __init__(self, head: bytes, trailers: bytes) -> None:
        self._head, self._trailers = head, trailers
        self._by_length: dict[int, Callable[[int, bytes], bytes]] = {}

    def frames(self, stream: int, message: bytes) -> bytes:
        """HEADERS, DATA with one gRPC message that is not compressed, trailers."""
        made = self._by_length.get(len(message)) or self._for_length(len(message))
        return made(stream, message)

    def _for_length(self, length: int) -> Callable[[int, bytes], bytes]:
        head, trailers = self._head, self._trailers
        pack = Struct(f">5sI{len(head) + 5}sI5s{length}s5sI{len(trailers)}s").pack
        begin = frames.HEADER.pack(len(head) << 8 | frames.HEADERS, frames.END_HEADERS, 0)[:5]
        data = head + frames.HEADER.pack((length + 5) << 8 | frames.DATA, 0, 0)[:5]
        prefix = frames.PREFIX.pack(0, length)
        end = frames.HEADER.pack(
            len(trailers) << 8 | frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 0
        )[:5]

        def made(stream: int, message: bytes) -> bytes:
            return pack(begin, stream, data, stream, prefix, message, end, stream, trailers)

        if length <= _KEPT_LENGTH:
            self._by_length[length] = made
        return made


class Outgoing(Control[T]):
    """The server's half of every stream."""

    def __init__(self, limits: ConnectionLimits) -> None:
        super().__init__(limits)
        self._ended_early: deque[int] = deque(maxlen=_NOT_SEEN_YET)

    @abstractmethod
    def _lost(self, stream: Stream[T]) -> None:
        """There is nobody to answer any more."""

    def reply(self, stream: Stream[T], reply: Reply, message: bytes) -> bool:
        """A whole answer at once, where the peer's windows have room for it; whether they had."""
        sending, length = self.sending, len(message) + 5
        if length > sending.window or length > stream.send_window or length > sending.frame_size:
            return False
        sending.window -= length
        sending.out.append(reply.frames(stream.id, message))
        self._stream_ends(stream)
        return True

    def begin(self, stream: Stream[T], head: bytes) -> None:
        """The response's headers."""
        stream.sent_head = True
        self.sending.out.append(frames.frame(frames.HEADERS, frames.END_HEADERS, stream.id, head))

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

    def close(self, violation: Violation) -> None:
        """GOAWAY with the reason; every stream is lost."""
        if self.closing is None:
            self.closing = violation
            self.sending.out.append(frames.goaway(self.last_stream, violation.code, str(violation)))
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
        if stream.peer_ended:
            self._forget(stream)
        else:
            self.reset(stream, ErrorCode.NO_ERROR)

    def _lose(self, stream: Stream[T]) -> None:
        self._forget(stream)
        self._lost(stream)

    def _forget(self, stream: Stream[T]) -> None:
        stream.open = False
        self.sending.forget(stream)
        del self.streams[stream.id]
