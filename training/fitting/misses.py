"""What a miss costs in all: the waiting of everybody behind a start that comes too late.

Replayed on an app's own requests: from the moment at which a level is taken, as many instances as lie
below it serve, until a start would be done; against the same with one more.
"""

from __future__ import annotations

from heapq import heapify, heapreplace

import numpy as np

from warmscaler.data.trace import IntArray

WINDOWS = 12
"""Moments that a level is replayed from: after its longest idle times."""
MOST_REQUESTS = 600
"""Requests that one of them is replayed with, the first."""


def behind_ms(
    arrival_ms: IntArray, done_ms: IntArray, taken_ms: IntArray, level: int, start_ms: float
) -> float:
    """The mean waiting, in ms, that an instance of `level` spares from `taken_ms` on, shape (m,).

    `arrival_ms` is in order, and `done_ms` when each would be done if none had waited; shapes (n,).
    """
    spared = [_spared_ms(arrival_ms, done_ms, float(at_ms), level, start_ms) for at_ms in taken_ms]
    return float(np.mean(spared))


def _spared_ms(
    arrival_ms: IntArray, done_ms: IntArray, at_ms: float, level: int, start_ms: float
) -> float:
    first = int(np.searchsorted(arrival_ms, at_ms, side="left"))
    last = int(np.searchsorted(arrival_ms, at_ms + start_ms, side="left"))
    last = min(last, first + MOST_REQUESTS)
    # Those that came earlier and are still there; executions of a day are rare enough.
    earlier = done_ms[max(0, first - 4 * MOST_REQUESTS) : first]
    busy = np.sort(earlier[earlier > at_ms])[: level - 1].astype(float).tolist()
    busy += [at_ms] * (level - 1 - len(busy))
    arrivals = arrival_ms[first:last].tolist()
    uses = (done_ms[first:last] - arrival_ms[first:last]).tolist()
    end_ms = at_ms + start_ms
    return _waited_ms([*busy, end_ms], arrivals, uses, end_ms) - _waited_ms(
        [*busy, at_ms], arrivals, uses, end_ms
    )


def _waited_ms(
    free_ms: list[float], arrivals_ms: list[int], uses_ms: list[int], end_ms: float
) -> float:
    """What the requests wait for instances that are free from `free_ms` on; none beyond `end_ms`."""
    heapify(free_ms)
    waited_ms = 0.0
    for arrival_ms, use_ms in zip(arrivals_ms, uses_ms, strict=True):
        free = free_ms[0]
        if free >= end_ms:
            waited_ms += end_ms - arrival_ms
            continue
        begin_ms = max(free, arrival_ms)
        waited_ms += begin_ms - arrival_ms
        heapreplace(free_ms, begin_ms + use_ms)
    return waited_ms
