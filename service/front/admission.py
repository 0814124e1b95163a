"""How much is read of each connection in a turn of the event loop, and whom there is no time for.

A read that leaves nothing in its socket kept nobody waiting. Where read after read leaves something,
what is left is a queue, and its length by the pace at which it is read is how late the next call is.
Once such a queue has stood for a while, a share of the calls is refused for the price of a frame: the
later they are, the more, so that it stands where as many are answered as there is time for. A call
that frees what others wait for is never refused. (K. Nichols, V. Jacobson, "Controlling Queue Delay",
ACM Queue 10, 2012: a queue is judged by the delay that stands. S. Floyd, V. Jacobson, IEEE/ACM
Transactions on Networking 1, 1993: refused with a chance that grows from one bound to another.)
"""

from __future__ import annotations

from dataclasses import dataclass

from warmscaler.service.front.http2.answered import Answered

READ_BYTES = 1 << 16
"""Of all connections with a queue, in a turn."""
LEAST_READ_BYTES = 1 << 12
"""Of one of them."""
STANDS_S = 0.02
"""A queue that stood for less is a burst, and answered whole."""
SOON_S, LATE_S = 0.002, 0.008
"""Calls that are so late are all answered, and all refused."""
_SMOOTHING = 0.3


@dataclass(slots=True)
class _Queue:
    since_s: float
    read_s: float
    """The last time."""
    bytes_per_s: float = 0.0
    """The pace at which it is read."""


class Admission:
    """Of one event loop; asked by each connection when it reads."""

    def __init__(self, calls: int) -> None:
        """At most `calls` of one read that may be refused are answered."""
        self.answered = Answered()
        self.calls = calls
        self._memory = memoryview(bytearray(READ_BYTES))
        """Of whoever reads just now."""
        self._queues: dict[object, _Queue] = {}
        """By connection."""

    def buffer(self, reader: object) -> memoryview:
        """Where to read to."""
        if reader not in self._queues:
            return self._memory
        return self._memory[: max(LEAST_READ_BYTES, READ_BYTES // len(self._queues))]

    def content(self, size: int) -> bytes:
        """What was read."""
        return bytes(self._memory[:size])

    def share(self, reader: object, now_s: float, size: int, left: int) -> float:
        """So many bytes were read, and so many are left: which share of the calls that may be refused
        is answered."""
        queue = self._queues.get(reader)
        if not left:
            if queue is not None:
                del self._queues[reader]
            return 1.0
        if queue is None:
            self._queues[reader] = _Queue(now_s, now_s)
            return 1.0
        pace = size / max(now_s - queue.read_s, 1e-6)
        queue.bytes_per_s += (_SMOOTHING if queue.bytes_per_s else 1.0) * (pace - queue.bytes_per_s)
        queue.read_s = now_s
        if now_s - queue.since_s < STANDS_S:
            return 1.0
        late_s = left / queue.bytes_per_s
        return min(max((LATE_S - late_s) / (LATE_S - SOON_S), 0.0), 1.0)

    def leave(self, reader: object) -> None:
        """It is closed."""
        self._queues.pop(reader, None)
