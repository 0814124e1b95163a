"""CIDRE: race a start against busy instances, but only while starts pay; evict evenly over the apps.

Q. Liu, Y. Cheng, H. Shen, A. Wang and B. Balaji, "Concurrency-Informed Orchestration for Serverless
Functions", ASPLOS 2025, doi 10.1145/3676641.3716253, and its prototype (nzc5ve/cidre_asplos25).
Memory is a cache of a fixed size. A request that finds no idle instance may be served by a busy one
that comes free (a delayed warm start) or by a new one: speculative scaling starts one and lets the
request take whichever is first; conditional speculative scaling leaves the start out for an app whose
starts are not used soon after. When a start needs room, the idle instance of least priority goes,

    priority = clock + frequency x cost / (size x K)

with K the app's instances: greedy-dual (see `greedy_dual.py`), aware of concurrency, so that one app
does not lose all of its instances at once, nor hold a burst's worth for one request at a time.

Where the paper leaves room, or our setting differs, we chose (its text beyond the abstract, second-hand
accounts of its mechanism, and the prototype were at hand):

- Starts are left out once one that nobody needed any more when it was ready stays idle for longer than
  the app's executions take: waiting would have been as good. They come back once a request has waited
  for as long as a start takes: the start would have been better. The prototype turns them on by rolling
  means of ten, waiting against executing, and off where it has more instances than it desires.
- What an execution takes is a mean that forgets: half of what it knows every `RECENT` executions.
- As with greedy-dual, the capacity is the knob; busy instances may exceed it, for nothing is refused.
"""

from __future__ import annotations

from math import inf

from warmscaler.models.policy import AppPolicy, Pool, Wait
from warmscaler.models.published.priority_cache import CachedApp, PriorityCache

RECENT = 32


class _CidreApp(CachedApp):
    __slots__ = ("_area_ms", "_executions", "_open", "_since_ms", "_spare_ms", "speculative")

    def __init__(self, cache: Cidre) -> None:
        super().__init__(cache)
        self.speculative = True
        """Whether a request that must wait gets a start as well."""
        self._spare_ms = inf
        """Since when the last start that nobody waited for is idle."""
        self._area_ms = 0.0
        """Time that the requests spent here, less what they waited: their executions' sum."""
        self._executions = 0
        self._open = 0
        self._since_ms = 0.0

    def arrival(self, now_ms: float, pool: Pool) -> int:
        self._advance(now_ms, pool)
        found_idle = len(self.clocks) > len(pool.idle)
        wanted = super().arrival(now_ms, pool)
        if found_idle:
            if self._spare_ms < inf and self._executions:
                took_ms = self._area_ms / self._executions
                self.speculative = now_ms - self._spare_ms <= took_ms
            self._spare_ms = inf
        if wanted and not self.speculative:
            self._look_again(pool)
            return 0
        return wanted

    def completion(self, now_ms: float, pool: Pool, wait: Wait | None = None) -> None:
        self._advance(now_ms, pool)
        if wait is not None:
            self._area_ms -= wait.to_ms - wait.from_ms
        self._executions += 1
        if self._executions == 2 * RECENT:
            self._executions = RECENT
            self._area_ms /= 2.0

    def gone(self, now_ms: float, pool: Pool, arrived_ms: float) -> None:
        self._advance(now_ms, pool)
        self._area_ms -= now_ms - arrived_ms

    def ready(self, now_ms: float, pool: Pool) -> float:
        self._spare_ms = now_ms
        return self.idle(now_ms, pool)

    def wake(self, now_ms: float, pool: Pool) -> int:
        without_start = len(pool.waiting) - pool.starting
        if without_start <= 0:
            return 0
        if now_ms - next(iter(pool.waiting.values())) < pool.start_ms:
            self._look_again(pool)
            return 0
        self.speculative = True
        return without_start

    def priority(self, pool: Pool) -> float:
        """Of the least recently idle instance, the lowest of the app's."""
        instances = pool.busy + len(self.clocks)
        return self.clocks[0] + self.frequency * pool.start_ms / (pool.memory_mb * instances)

    def _look_again(self, pool: Pool) -> None:
        """When the request that waits the longest has waited for as long as a start takes."""
        self.wake_ms = next(iter(pool.waiting.values())) + pool.start_ms

    def _advance(self, now_ms: float, pool: Pool) -> None:
        self._area_ms += self._open * (now_ms - self._since_ms)
        self._open = pool.busy + len(pool.waiting)
        self._since_ms = now_ms


class Cidre(PriorityCache):
    """CIDRE in `capacity_gb` of memory, its knob."""

    def __init__(self, capacity_gb: float) -> None:
        super().__init__(capacity_gb)
        self.name = f"cidre:{capacity_gb:g}"

    def app(self, key: str, memory_mb: int, runtime: str) -> AppPolicy:
        return _CidreApp(self)
