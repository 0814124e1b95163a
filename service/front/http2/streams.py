"""One stream, and what may be sent on it: flow control (RFC 9113, 5.2 and 6.9)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from warmscaler.service.front.http2 import frames
from warmscaler.service.front.http2.frames import ErrorCode, Violation

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Stream(Generic[T]):
    """A stream that is open, or half closed by its peer."""

    id: int
    request: T
    """What its headers mean."""
    began_s: float
    send_window: int
    receive_window: int = frames.DEFAULT_WINDOW
    open: bool = True
    peer_ended: bool = False
    received: int = 0
    """Bytes of DATA, without padding."""
    buffer: bytearray | None = None
    """What the layer above has of a message that is not complete."""
    held: int = 0
    """Bytes of messages that nobody has taken."""
    sent_head: bool = False
    queue: deque[bytes] | None = None
    """DATA that waits for the peer's window."""
    trailers: bytes | None = None
    """To be sent behind it."""
    owner: Any = None
    """Whatever answers on this stream keeps here what it needs."""


class Sending:
    """What may be sent on a connection, and what waits until it may."""

    def __init__(self, initial_window: int, frame_size: int) -> None:
        self.out: list[bytes] = []
        """Frames, in order."""
        self.window = initial_window
        self.initial_window = initial_window
        self.frame_size = frame_size
        self._stalled: dict[int, Stream[Any]] = {}
        """Streams with DATA that waits for the connection's window, longest waiting first."""
        self.queued_bytes = 0
        """DATA that waits, of all streams."""

    def data(self, stream: Stream[Any], content: bytes) -> None:
        """Sends DATA, now or once the peer's windows have room for it."""
        if stream.queue is None:
            stream.queue = deque()
        stream.queue.append(content)
        self.queued_bytes += len(content)
        self._advance(stream)

    def end(self, stream: Stream[Any], trailers: bytes) -> bool:
        """Ends the stream with these trailers, or without any; whether that is done already."""
        stream.trailers = trailers
        return self._advance(stream)

    def grow(self, more: int) -> list[Stream[Any]]:
        """WINDOW_UPDATE of the connection: which streams have ended by it. Raises Violation."""
        self.window += more
        if self.window > frames.MAX_WINDOW:
            raise Violation(ErrorCode.FLOW_CONTROL_ERROR, "a window beyond 2^31 - 1")
        ended = []
        while self._stalled and self.window > 0:
            stream = next(iter(self._stalled.values()))
            del self._stalled[stream.id]
            if self._advance(stream):
                ended.append(stream)
        return ended

    def grow_stream(self, stream: Stream[Any], more: int) -> bool:
        """WINDOW_UPDATE of a stream: whether it has ended by it. Raises OverflowError."""
        stream.send_window += more
        if stream.send_window > frames.MAX_WINDOW:
            raise OverflowError
        return stream.queue is not None and self._advance(stream)

    def forget(self, stream: Stream[Any]) -> None:
        """The stream is no more."""
        if stream.queue:
            self.queued_bytes -= sum(map(len, stream.queue))
            stream.queue = None
        self._stalled.pop(stream.id, None)

    def _advance(self, stream: Stream[Any]) -> bool:
        queue = stream.queue
        while queue:
            content = queue[0]
            room = min(self.window, stream.send_window, self.frame_size)
            if room <= 0 and content:
                if stream.send_window > 0:
                    self._stalled[stream.id] = stream
                return False
            now = content[:room] if len(content) > room else content
            self.out.append(frames.frame(frames.DATA, 0, stream.id, now))
            self.window -= len(now)
            stream.send_window -= len(now)
            self.queued_bytes -= len(now)
            queue[0] = content[len(now) :]
            if not queue[0]:
                queue.popleft()
        self._stalled.pop(stream.id, None)
        if stream.trailers is None:
            return False
        kind, flags = (frames.HEADERS, frames.END_HEADERS) if stream.trailers else (frames.DATA, 0)
        self.out.append(frames.frame(kind, flags | frames.END_STREAM, stream.id, stream.trailers))
        return True
