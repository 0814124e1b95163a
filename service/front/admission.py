"""How much is read of each connection in a turn of the event loop, and whom there is no time for.

A read that brings less than it might has emptied its socket: nobody waits there. Where read after
read brings all it might, what waits is a queue, and once it has stood for a while every call in it
would be answered late: then calls are refused, for the price of a frame, until it is empty. A call
that frees what others wait for is never refused. (K. Nichols, V. Jacobson, "Controlling Queue Delay",
ACM Queue 10, 2012: a queue is judged by the delay that stands, not by its length.)
"""

from __future__ import annotations

from warmscaler.service.front.http2.answered import Answered

READ_BYTES = 1 << 16
"""Of all connections with a queue, in a turn."""
LEAST_READ_BYTES = 1 << 12
"""Of one of them."""
STANDS_S = 0.008
"""A queue that was not empty for so long is no burst."""


class Admission:
    """Of one event loop; asked by each connection when it reads."""

    def __init__(self, calls: int) -> None:
        """`calls` of one connection that may be refused are answered in a turn."""
        self.answered = Answered()
        self._calls = calls
        self._memory = memoryview(bytearray(READ_BYTES))
        """Of whoever reads just now."""
        self._behind: dict[object, float] = {}
        """Connections with a queue, and since when."""

    def buffer(self, reader: object) -> memoryview:
        """Where to read to."""
        if reader not in self._behind:
            return self._memory
        return self._memory[: max(LEAST_READ_BYTES, READ_BYTES // len(self._behind))]

    def content(self, size: int) -> bytes:
        """What was read."""
        return bytes(self._memory[:size])

    def read(self, reader: object, now_s: float, *, all_of_it: bool) -> tuple[bool, int]:
        """Something was read, `all_of_it` if its socket is empty now: whether it is to wait for its
        next turn, and how many calls that may be refused are not."""
        since_s = self._behind.get(reader)
        if all_of_it:
            if since_s is not None:
                del self._behind[reader]
        elif since_s is None:
            self._behind[reader] = since_s = now_s
        stands = since_s is not None and now_s - since_s >= STANDS_S
        return not all_of_it, 0 if stands else self._calls

    def leave(self, reader: object) -> None:
        """It is closed."""
        self._behind.pop(reader, None)
