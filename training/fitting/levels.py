"""When each level of an app was taken and left, as if no request had ever waited."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from warmscaler.data.trace import IntArray
from warmscaler.models.learned.habits import MAX_LEVELS


def uses(arrival_ms: IntArray, duration_ms: IntArray) -> Iterator[tuple[int, IntArray, IntArray]]:
    """Of each level from 1 on, of one app's requests, shapes (n,): its number, and when it was taken
    and left, in order, shapes (m,)."""
    # A request of no duration still comes before it goes.
    times = np.concatenate((arrival_ms, arrival_ms + np.maximum(duration_ms, 1)))
    steps = np.concatenate((np.ones_like(arrival_ms), -np.ones_like(arrival_ms)))
    order = np.lexsort((steps, times))  # at one instant completions come first
    times, steps = times[order], steps[order]
    at_once = np.cumsum(steps)
    taking, leaving = steps > 0, steps < 0
    for number in range(1, min(int(at_once.max()), MAX_LEVELS) + 1):
        yield number, times[taking & (at_once == number)], times[leaving & (at_once == number - 1)]
