"""The traffic of an app as if no request had ever waited: who served it leaves no trace in it.

A request occupies its concurrency level from its arrival for as long as it executes. Of one that
waits, the time at which it would have been done is known only once it is: until then, what comes
after its arrival is held back, and told in order afterwards.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from heapq import heappop, heappush
from math import inf

from warmscaler.models.policy import Wait

MOST_HELD_BACK = 4_096
"""Arrivals and completions held back; beyond, the oldest are told though one before them is missing."""


class Traffic:
    """Turns arrivals and completions as they are seen into those as if nobody had waited."""

    __slots__ = ("_held", "_late", "_told_ms", "at_once")

    def __init__(self) -> None:
        self.at_once = 0
        """Requests there, of what was told."""
        self._late: OrderedDict[float, int] = OrderedDict()
        """Arrivals of the requests that waited, or wait, and are not done; how many at each."""
        self._held: list[tuple[float, int]] = []
        """Told later: times, with 1 for an arrival and -1 for a completion; a heap."""
        self._told_ms = -inf

    @property
    def behind(self) -> bool:
        """Something is held back: what comes must go through `arrived` and `completed`."""
        return bool(self._held or self._late)

    def arrived(self, now_ms: float, *, waits: bool) -> Iterator[tuple[float, int, bool]]:
        """A request came. Yields what is known now, in order: when, which level, taken or left."""
        heappush(self._held, (now_ms, 1))
        if waits:
            self._late[now_ms] = self._late.get(now_ms, 0) + 1
        return self._known(now_ms)

    def completed(self, now_ms: float, wait: Wait | None) -> Iterator[tuple[float, int, bool]]:
        """A request is done, at `now_ms`, that waited so before. Yields as `arrived` does."""
        if wait is None:
            heappush(self._held, (now_ms, -1))
        else:
            executed_ms = now_ms - wait.to_ms
            self._goes(wait.from_ms, executed_ms)
        return self._known(now_ms)

    def gone(self, now_ms: float, arrived_ms: float) -> Iterator[tuple[float, int, bool]]:
        """A request that waited is not served after all. Yields as `arrived` does."""
        self._goes(arrived_ms, 0.0)
        return self._known(now_ms)

    def _goes(self, arrived_ms: float, executed_ms: float) -> None:
        # A request of no duration still comes before it goes.
        heappush(self._held, (arrived_ms + max(executed_ms, 1.0), -1))
        others = self._late.get(arrived_ms, 1) - 1
        if others:
            self._late[arrived_ms] = others
        else:
            self._late.pop(arrived_ms, None)

    def _known(self, now_ms: float) -> Iterator[tuple[float, int, bool]]:
        held = self._held
        # Whoever waited is there at least until after his arrival.
        until_ms = next(iter(self._late), now_ms)
        while held and (held[0][0] <= until_ms or len(held) > MOST_HELD_BACK):
            at_ms, step = heappop(held)
            self._told_ms = max(at_ms, self._told_ms)
            if step > 0:
                self.at_once += 1
                yield self._told_ms, self.at_once, True
            elif self.at_once:
                yield self._told_ms, self.at_once, False
                self.at_once -= 1
