"""How many calls the front takes on in one turn of the event loop.

All that callers have sent when a turn begins is read in it, oldest first: it is what waits. So many
calls are answered; those beyond are refused for the price of a frame, as they would be answered too
late. A call that frees what others wait for is never refused.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

TURN_S = 0.003
"""For so long calls that may be refused are answered in a turn, however few that are: what begins an
instance costs many times what a warm call does."""
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
        self._until_s = 0.0
        self._readers: set[Any] = set()
        self._refused = False
        self.refused = 0
        """Calls, in all."""

    def enter(self, reader: Any) -> None:
        """The calls that follow are of this connection."""
        if not self._readers:
            asyncio.get_running_loop().call_soon(self._turn)
            self._until_s = time.monotonic() + TURN_S
        self._readers.add(reader)
        self._share_left = self._share

    def admits(self, refusable: bool) -> bool:
        """Whether the next call is to be answered."""
        self._left -= 1
        self._share_left -= 1
        if not refusable:
            return True
        few = self._calls - self._left <= LEAST_SHARE  # a turn always has time for them
        if min(self._left, self._share_left) >= 0 and (few or time.monotonic() < self._until_s):
            return True
        self._refused = True
        self.refused += 1
        return False

    def _turn(self) -> None:
        self._left = self._calls
        share = max(LEAST_SHARE, self._calls // len(self._readers))
        self._share = share if self._refused else self._calls
        self._refused = False
        self._readers.clear()
