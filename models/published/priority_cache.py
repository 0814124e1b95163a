"""A keep-alive cache of a fixed size: what greedy-dual and CIDRE share.

Nothing is destroyed while memory lasts. When a start needs room, the idle instances of least
priority go, and the cache's clock rises to the priority of each: what is used later starts from there.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from heapq import heappop, heappush, heapreplace
from math import inf
from typing import ClassVar

from warmscaler.models.policy import FOREVER_MS, AppPolicy, Policy, Pool

MB_PER_GB = 1024.0


class CachedApp(AppPolicy):
    """`clocks` runs beside `pool.idle`: the cache's clock when each was last used."""

    __slots__ = ("_cache", "believed", "clocks", "frequency")

    def __init__(self, cache: PriorityCache) -> None:
        super().__init__()
        self._cache = cache
        self.clocks: list[float] = []
        self.frequency = 0
        """The app's requests since it last had no instance."""
        self.believed = inf
        """The least priority under which the cache's queue has this app; infinite where it has not."""

    def arrival(self, now_ms: float, pool: Pool) -> int:
        self.frequency += 1
        del self.clocks[len(pool.idle) :]  # an idle instance that took the request was the last
        return 1 if len(pool.waiting) > pool.starting else 0

    def idle(self, now_ms: float, pool: Pool) -> float:
        self.clocks.append(self._cache.clock)
        self._cache.remember(pool, self)
        return FOREVER_MS

    def evicted(self, now_ms: float, pool: Pool) -> None:
        self.clocks.pop(0)

    @abstractmethod
    def priority(self, pool: Pool) -> float:
        """Of the least recently idle instance, the lowest of the app's."""


class PriorityCache(Policy):
    """Keep-alive in `capacity_gb` of memory. Busy instances may exceed it: nothing is refused."""

    late_binding: ClassVar[bool] = True

    def __init__(self, capacity_gb: float) -> None:
        self.capacity_gb = capacity_gb
        self.clock = 0.0
        # An entry for each app with an idle instance, under its `believed` priority. One that is
        # higher is left over from before the priority fell, and thrown away when met.
        self._queue: list[tuple[float, int, Pool, CachedApp]] = []
        self._entries = 0

    def remember(self, pool: Pool, app: CachedApp) -> None:
        """An app has one idle instance more: its priority may have fallen."""
        priority = app.priority(pool)
        if priority < app.believed:
            app.believed = priority
            self._entries += 1
            heappush(self._queue, (priority, self._entries, pool, app))

    def make_room(self, now_ms: float, used_mb: int, needed_mb: int) -> Sequence[Pool]:
        excess_mb = used_mb + needed_mb - self.capacity_gb * MB_PER_GB
        victims: list[Pool] = []
        while excess_mb > 0 and self._queue:
            believed, entry, pool, app = self._queue[0]
            if believed != app.believed:
                heappop(self._queue)
                continue
            if not app.clocks:
                heappop(self._queue)
                app.believed = inf
                continue
            priority = app.priority(pool)
            if priority > believed:
                app.believed = priority
                heapreplace(self._queue, (priority, entry, pool, app))
                continue
            self.clock = max(self.clock, priority)
            victims.append(pool)
            taken = len(pool.idle) - len(app.clocks)  # victims of this pool so far
            excess_mb -= pool.idle[taken].memory_mb
            app.clocks.pop(0)
            if not (app.clocks or pool.busy or pool.starting or pool.waiting):
                app.frequency = 0
        return victims
