"""Which calls the front takes on when more come than can be answered.

All that callers have sent when a turn of the event loop begins is read in it, oldest first: it is what
waits. A burst is answered whole, up to a number of calls a turn. Where turns have been long for a while,
what waits is no burst but a queue that stands, and every call would be answered late: then a turn
answers for a bounded time, and refuses the rest for the price of a frame. A call that frees what others
wait for is never refused. (K. Nichols, V. Jacobson, "Controlling Queue Delay", ACM Queue 10, 2012: a
queue is judged by the delay that stands for an interval, not by its length.)
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

LONG_TURN_S = 0.015
"""A call that comes in a turn of so much waits so long for the next one."""
STANDS_S = 0.1
"""Turns that were long for so long are no burst."""
ANSWERING_S = 0.008
"""For so long calls that may be refused are answered in a turn, once a queue stands."""
LEAST_SHARE = 8
"""Calls of one connection that are answered in a turn, however many connections there are."""


class Admission:
    """Of one event loop; told by each connection when it has read."""

    def __init__(self, calls: int) -> None:
        """`calls` a turn."""
        self._calls = calls
        self._left = calls
        self._share = self._share_left = calls
        """Of one connection: where there were too many calls, each has its part."""
        self._begun_s = 0.0
        self._long_since_s: float | None = None
        """Since when every turn was long."""
        self._stands = False
        self._readers: set[Any] = set()
        self._refused = False
        self.refused = 0
        """Calls, in all."""

    def enter(self, reader: Any) -> None:
        """What follows was read from this connection."""
        if not self._readers:
            asyncio.get_running_loop().call_soon(self._turn)
            self._begun_s = time.monotonic()
        self._readers.add(reader)
        self._share_left = self._share

    def admits(self, refusable: bool) -> bool:
        """Whether the next call is to be answered."""
        self._left -= 1
        self._share_left -= 1
        if not refusable:
            return True
        if self._left >= 0 and self._share_left >= 0:
            if not self._stands or self._calls - self._left <= LEAST_SHARE:
                return True
            if time.monotonic() - self._begun_s < ANSWERING_S:
                return True
        self._refused = True
        self.refused += 1
        return False

    def _turn(self) -> None:
        """A turn is over."""
        now_s = time.monotonic()
        if now_s - self._begun_s < LONG_TURN_S and not self._refused:
            self._long_since_s, self._stands = None, False
        elif self._long_since_s is None:
            self._long_since_s = self._begun_s
        elif now_s - self._long_since_s >= STANDS_S:
            self._stands = True
        self._left = self._calls
        share = max(LEAST_SHARE, self._calls // len(self._readers))
        self._share = share if self._refused else self._calls
        self._refused = False
        self._readers.clear()
