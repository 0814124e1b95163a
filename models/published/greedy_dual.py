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

from warmscaler.models.policy import AppPolicy, Pool
from warmscaler.models.published.priority_cache import CachedApp, PriorityCache


class _GreedyDualApp(CachedApp):
    __slots__ = ()

    def priority(self, pool: Pool) -> float:
        return self.clocks[0] + self.frequency * pool.start_ms / pool.memory_mb


class GreedyDual(PriorityCache):
    """Greedy-dual keep-alive in `capacity_gb` of memory, its knob."""

    def __init__(self, capacity_gb: float) -> None:
        super().__init__(capacity_gb)
        self.name = f"greedy-dual:{capacity_gb:g}"

    def app(self, key: str, memory_mb: int, runtime: str) -> AppPolicy:
        return _GreedyDualApp(self)
