"""The traffic of an app as if no request had ever waited: who served it leaves no trace in it.

A request occupies its concurrency level from its arrival for as long as it executes. Of one that
waited, the time at which it would have been done is known only once it is. Until it has an instance,
what comes after its arrival is held back; from then on, what comes within its wait of now: one that
waited for a second and executes for hours would have been there until a second ago.
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

    __slots__ = ("_held", "_late", "_longest_ms", "_told_ms", "_waited", "at_once")

    def __init__(self) -> None:
        self.at_once = 0
        """Requests there, of what was told."""
        self._late: OrderedDict[float, int] = OrderedDict()
        """Arrivals of the requests that wait; how many at each."""
        self._waited: dict[float, int] = {}
        """For how long those waited that execute now, in ms; how many so long."""
        self._longest_ms = 0.0
        """Of these."""
        self._held: list[tuple[float, int]] = []
        """Told later: times, with 1 for an arrival and -1 for a completion; a heap."""
        self._told_ms = -inf

    @property
    def behind(self) -> bool:
        """Something is held back, or will be: what comes must go through `arrived` and `completed`."""
        return bool(self._held or self._late or self._waited)

    def arrived(self, now_ms: float, *, waits: bool) -> Iterator[tuple[float, int, bool]]:
        """A request came. Yields what is known now, in order: when, which level, taken or left."""
        heappush(self._held, (now_ms, 1))
        if waits:
            self._late[now_ms] = self._late.get(now_ms, 0) + 1
        return self.known(now_ms)

    def served(self, now_ms: float, arrived_ms: float) -> Iterator[tuple[float, int, bool]]:
        """A request that waited has its instance, from now on. Yields as `arrived` does."""
        _one_less(self._late, arrived_ms)
        waited_ms = now_ms - arrived_ms
        self._waited[waited_ms] = self._waited.get(waited_ms, 0) + 1
        self._longest_ms = max(waited_ms, self._longest_ms)
        return self.known(now_ms)

    def completed(self, now_ms: float, wait: Wait | None) -> Iterator[tuple[float, int, bool]]:
        """A request is done, at `now_ms`, that waited so before. Yields as `arrived` does."""
        if wait is None:
            heappush(self._held, (now_ms, -1))
        else:
            self._executes_no_more(wait.to_ms - wait.from_ms)
            self._goes(wait.from_ms, now_ms - wait.to_ms)
        return self.known(now_ms)

    def gone(self, now_ms: float, arrived_ms: float) -> Iterator[tuple[float, int, bool]]:
        """A request that waited is not served after all. Yields as `arrived` does."""
        _one_less(self._late, arrived_ms)
        self._goes(arrived_ms, 0.0)
        return self.known(now_ms)

    def known(self, now_ms: float) -> Iterator[tuple[float, int, bool]]:
        """What is known by now, of what was held back. Yields as `arrived` does."""
        held = self._held
        # Whoever waits is there at least until after his arrival, and who waited, until so long ago.
        until_ms = min(next(iter(self._late), now_ms), now_ms)
        there_ms = now_ms - self._longest_ms if self._waited else inf
        while held and (
            (held[0][0] <= until_ms and held[0][0] < there_ms) or len(held) > MOST_HELD_BACK
        ):
            at_ms, step = heappop(held)
            self._told_ms = max(at_ms, self._told_ms)
            if step > 0:
                self.at_once += 1
                yield self._told_ms, self.at_once, True
            elif self.at_once:
                yield self._told_ms, self.at_once, False
                self.at_once -= 1

    def _goes(self, arrived_ms: float, executed_ms: float) -> None:
        # A request of no duration still comes before it goes.
        heappush(self._held, (arrived_ms + max(executed_ms, 1.0), -1))

    def _executes_no_more(self, waited_ms: float) -> None:
        _one_less(self._waited, waited_ms)
        if waited_ms == self._longest_ms and waited_ms not in self._waited:
            self._longest_ms = max(self._waited, default=0.0)


def _one_less(counts: dict[float, int], what: float) -> None:
    others = counts.get(what, 1) - 1
    if others:
        counts[what] = others
    else:
        counts.pop(what, None)
