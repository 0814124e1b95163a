"""What a peer's frames say of the connection itself, and how much of that it may send.

SETTINGS, PING, GOAWAY, WINDOW_UPDATE, PRIORITY (RFC 9113, 6): everything but requests.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

from warmscaler.service.front.http2 import frames
from warmscaler.service.front.http2.frames import ErrorCode, Violation
from warmscaler.service.front.http2.headers import MOST_FIELDS_BYTES
from warmscaler.service.front.http2.streams import Sending, Stream

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What one peer may do. Beyond it the connection ends with ENHANCE_YOUR_CALM, if not said else."""

    streams: int = 25_000
    """Open at once; those beyond are refused. More than requests may wait: else their Idles could
    not come through."""
    block_bytes: int = MOST_FIELDS_BYTES
    """Of a header block before it is read."""
    continuations: int = 8
    """Frames that one header block goes on in."""
    window: int = 1 << 20
    """Bytes of DATA under way to us, of all streams."""
    nuisance: int = 2_000
    """What a peer may send at once that brings no work: PING, SETTINGS, RST_STREAM, empty DATA, …"""
    nuisance_per_s: float = 100.0
    nuisance_per_call: int = 6
    """So much more for every call, from when it begins: one that waits has its WINDOW_UPDATEs too."""
    rapid_s: float = 0.1
    """A call that its caller resets sooner brought no work. Later it is one that was given up."""


LIMITS = ConnectionLimits()
_LAST_CALL = b"draining"
"""The PING behind our GOAWAY: its answer follows all that the peer sent before it heard that."""
STREAM_COST, _SETTINGS_COST = 2, 10


class Control(ABC, Generic[T]):
    """The state that peer and server share, and what changes it."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.streams: dict[int, Stream[T]] = {}
        self.sending = Sending(frames.DEFAULT_WINDOW, frames.LEAST_FRAME_SIZE)
        self.greeted = False
        """The peer's preface and SETTINGS came."""
        self.leaving = False
        """No new streams come or are taken: once there are none it may be closed."""
        self.closing: Violation | None = None
        """Why it is to be closed once all is sent."""
        self.last_stream = 0
        self.last_taken = frames.MAX_STREAM
        self._draining = False
        self.calm = float(limits.nuisance)
        """How much more a peer may send that brings no work."""
        self._calm_s = 0.0
        """Since when rest is not counted yet: from the preface on."""
        self._now_s = 0.0

    def drain(self, *, last: bool) -> None:
        """GOAWAY: no new streams, what is open finishes. Those that are under way to us are still
        heard, until the peer has answered that it knows; with `last` they are not."""
        if self.closing is not None:
            return
        self._draining = True
        number = self._take_no_more() if last else frames.MAX_STREAM
        self.sending.out.append(frames.goaway(number, ErrorCode.NO_ERROR))
        if not last:
            self.sending.out.append(frames.frame(frames.PING, 0, 0, _LAST_CALL))

    def _take_no_more(self) -> int:
        """Returns the last stream that is heard."""
        self.leaving = True
        self.last_taken = min(self.last_taken, self.last_stream)
        return self.last_taken

    @abstractmethod
    def _stream_ends(self, stream: Stream[T]) -> None:
        """All was sent."""

    @abstractmethod
    def _stream_error(self, number: int, code: ErrorCode) -> None:
        """The peer broke a rule on this stream alone."""

    def _priority(self, flags: int, number: int, payload: bytes) -> None:
        self._annoy(1)
        if number == 0:
            raise Violation(ErrorCode.PROTOCOL_ERROR, "PRIORITY of no stream")
        if len(payload) != 5:
            self._stream_error(number, ErrorCode.FRAME_SIZE_ERROR)
        elif frames.NUMBER.unpack_from(payload)[0] & frames.MAX_STREAM == number:
            self._stream_error(number, ErrorCode.PROTOCOL_ERROR)

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number != 0:
            raise Violation(ErrorCode.PROTOCOL_ERROR, "SETTINGS of a stream")
        if len(payload) % 6 or (flags & frames.ACK and payload):
            raise Violation(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS of a wrong length")
        if flags & frames.ACK:
            self._annoy(1)
            return
        self._annoy(_SETTINGS_COST + len(payload) // 6)
        for name, value in frames.SETTING.iter_unpack(payload):
            self._set(name, value)
        self.greeted = True
        self.sending.out.append(frames.frame(frames.SETTINGS, frames.ACK, 0))

    def _set(self, name: int, value: int) -> None:
        if name == frames.INITIAL_WINDOW_SIZE:
            if value > frames.MAX_WINDOW:
                raise Violation(ErrorCode.FLOW_CONTROL_ERROR, "an initial window over 2^31 - 1")
            more = value - self.sending.initial_window
            self.sending.initial_window = value
            for stream in list(self.streams.values()):
                self._grow(stream, more, Violation(ErrorCode.FLOW_CONTROL_ERROR, "a window's size"))
        elif name == frames.MAX_FRAME_SIZE:
            if not frames.LEAST_FRAME_SIZE <= value <= frames.MOST_FRAME_SIZE:
                raise Violation(ErrorCode.PROTOCOL_ERROR, "a frame size out of bounds")
            self.sending.frame_size = min(value, 1 << 16)
        elif name == frames.ENABLE_PUSH and value > 1:
            raise Violation(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")

    def _push(self, flags: int, number: int, payload: bytes) -> None:
        raise Violation(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if number != 0:
            raise Violation(ErrorCode.PROTOCOL_ERROR, "PING of a stream")
        if len(payload) != 8:
            raise Violation(ErrorCode.FRAME_SIZE_ERROR, "PING of a wrong length")
        self._annoy(1)
        if not flags & frames.ACK:
            self.sending.out.append(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif self._draining and not self.leaving and payload == _LAST_CALL:
            self.sending.out.append(frames.goaway(self._take_no_more(), ErrorCode.NO_ERROR))

    def _goaway(self, flags: int, number: int, payload: bytes) -> None:
        if number != 0:
            raise Violation(ErrorCode.PROTOCOL_ERROR, "GOAWAY of a stream")
        if len(payload) < 8:
            raise Violation(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY of a wrong length")
        self._annoy(1)
        self.leaving = True

    def _window_update(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Violation(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong length")
        self._annoy(1)
        more = frames.NUMBER.unpack(payload)[0] & frames.MAX_WINDOW
        if number == 0:
            if more == 0:
                raise Violation(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
            for stream in self.sending.grow(more):
                self._stream_ends(stream)
            return
        self._known(number, "WINDOW_UPDATE")
        if more == 0:
            self._stream_error(number, ErrorCode.PROTOCOL_ERROR)
        elif number in self.streams:
            self._grow(self.streams[number], more, None)

    def _grow(self, stream: Stream[T], more: int, violation: Violation | None) -> None:
        try:
            if self.sending.grow_stream(stream, more):
                self._stream_ends(stream)
        except OverflowError:
            if violation is not None:
                raise violation from None
            self._stream_error(stream.id, ErrorCode.FLOW_CONTROL_ERROR)

    def _known(self, number: int, what: str) -> None:
        if number == 0 or number > self.last_stream or number % 2 == 0:
            raise Violation(ErrorCode.PROTOCOL_ERROR, f"{what} of no stream")

    def _annoy_by_ending(self, stream: Stream[T] | None) -> None:
        """A peer ended a call before its answer: one that had hardly begun earned nothing."""
        if stream is None:
            self._annoy(STREAM_COST)
        elif self._now_s - stream.began_s < self.limits.rapid_s:
            self._annoy(STREAM_COST + self.limits.nuisance_per_call)

    def _annoy(self, cost: int) -> None:
        self.calm = min(self.calm, float(self.limits.nuisance)) - cost
        if self.calm < 0.0:
            limits = self.limits
            rested = (self._now_s - self._calm_s) * limits.nuisance_per_s
            self.calm = min(float(limits.nuisance), self.calm + rested)
            self._calm_s = self._now_s
            if self.calm < 0.0:
                raise Violation(ErrorCode.ENHANCE_YOUR_CALM, "too much that brings no work")
