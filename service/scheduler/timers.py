"""When instances and apps want to be woken: a heap whose stale entries do not pile up."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from math import inf

from warmscaler.models.policy import Instance, Pool, State

_SPARE = 1_000


class Timers:
    """Each entry counts only if it is still its target's `timer_ms`."""

    __slots__ = ("_heap", "_set", "_worth")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Instance | Pool]] = []
        self._set = 0
        self._worth = _SPARE

    @property
    def next_ms(self) -> float:
        """When the first entry rings, stale or not."""
        return self._heap[0][0] if self._heap else inf

    def set(self, ring_ms: float, target: Instance | Pool) -> None:
        """Rings at `ring_ms`, which is the target's `timer_ms` now."""
        self._set += 1
        heappush(self._heap, (ring_ms, self._set, target))
        if len(self._heap) > self._worth:
            self._drop_stale()

    def pop_due(self, now_ms: float) -> Instance | Pool | None:
        """The target of the next entry due, its timer then unset; None if there is none."""
        heap = self._heap
        while heap and heap[0][0] <= now_ms:
            ring_ms, _, target = heappop(heap)
            if target.timer_ms == ring_ms:
                target.timer_ms = inf
                return target
        return None

    def _drop_stale(self) -> None:
        """Else the timers of what is gone would hold its memory until they ring."""
        self._heap = [entry for entry in self._heap if _counts(entry[0], entry[2])]
        heapify(self._heap)
        self._worth = 2 * len(self._heap) + _SPARE


def _counts(ring_ms: float, target: Instance | Pool) -> bool:
    if target.timer_ms != ring_ms:
        return False
    return not isinstance(target, Instance) or target.state is not State.DESTROYING
