"""Greedy-dual keep-alive: instances are a cache of a fixed size, evicted by priority.

A. Fuerst and P. Sharma, "FaasCache: Keeping Serverless Computing Alive with Greedy-Dual Caching",
ASPLOS 2021, section 4.1. Nothing is destroyed while memory lasts. When a start needs room, the
idle instances of least priority go, where

    priority = clock + frequency x cost / size

with the clock at the instance's last use, the app's requests since it last had no instance, what
a start takes, and its memory. The clock rises to the priority of each instance evicted.

Where the paper leaves room, or our setting differs, we chose:

- The paper drops a request that finds neither room nor an idle instance to evict; ours may not be
  refused, so that busy instances may take more than the capacity, and nothing else then stays.
- The cost is the start-up time as it is observed (the paper: first execution less warm execution).
- The paper sizes the cache by a reuse-distance curve per server (section 5); here the capacity is
  the knob, and the evaluation finds its default on the training part.
- A request takes the first instance of its app to become free, as a queue before the cache would.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush, heapreplace
from typing import ClassVar

from warmscaler.models.policy import FOREVER_MS, AppPolicy, Policy, Pool

MB_PER_GB = 1024.0


class _CachedApp(AppPolicy):
    """`clocks` runs beside `pool.idle`: the cache's clock when each was last used."""

    __slots__ = ("_cache", "clocks", "frequency", "queued")

    def __init__(self, cache: GreedyDual) -> None:
        super().__init__()
        self._cache = cache
        self.clocks: list[float] = []
        self.frequency = 0
        self.queued = False

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

    def priority(self, pool: Pool) -> float:
        """Of the least recently idle instance, the lowest of the app's."""
        return self.clocks[0] + self.frequency * pool.start_ms / pool.memory_mb


class GreedyDual(Policy):
    """Greedy-dual keep-alive in `capacity_gb` of memory, its knob."""

    late_binding: ClassVar[bool] = True

    def __init__(self, capacity_gb: float) -> None:
        self.name = f"greedy-dual:{capacity_gb:g}"
        self.capacity_gb = capacity_gb
        self.clock = 0.0
        # The apps with an idle instance, once each. Priorities only rise while an app is in it
        # (or move with a drifting start-up time), so that an entry too low is put back when met.
        self._queue: list[tuple[float, int, Pool, _CachedApp]] = []
        self._entries = 0

    def app(self, key: str, memory_mb: int, runtime: str) -> AppPolicy:
        return _CachedApp(self)

    def remember(self, pool: Pool, app: _CachedApp) -> None:
        """An app has an idle instance."""
        if not app.queued:
            app.queued = True
            self._entries += 1
            heappush(self._queue, (app.priority(pool), self._entries, pool, app))

    def make_room(self, now_ms: float, used_mb: int, needed_mb: int) -> Sequence[Pool]:
        excess_mb = used_mb + needed_mb - self.capacity_gb * MB_PER_GB
        victims: list[Pool] = []
        while excess_mb > 0 and self._queue:
            believed, entry, pool, app = self._queue[0]
            if not app.clocks:
                heappop(self._queue)
                app.queued = False
                continue
            priority = app.priority(pool)
            if priority > believed:
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
