"""How many instances an app has by the hour of the day, from a replay."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from warmscaler.data.trace import Trace
from warmscaler.models.advised.policy import HOUR_MS, HOURS
from warmscaler.simulator.replay import Replay

DAYS_WANTED = 3
"""Days on which an hour must have been seen before anything is said of it."""
IntArray = npt.NDArray[np.int64]


def by_hour(trace: Trace, result: Replay) -> dict[str, tuple[IntArray, IntArray]]:
    """For each app with a slot, the least and the most instances of each hour since 1970 of the
    trace; shapes (hours,). An hour that the trace covers in part only is one as well."""
    first = int(trace.arrival_ms[0] // HOUR_MS)
    count = int(result.end_ms // HOUR_MS) - first + 1
    own: dict[int, list[tuple[float, float]]] = {}
    for slot in result.slots:
        own.setdefault(slot.app, []).append((slot.created_ms, slot.destroyed_ms))
    found = {}
    for app, lives in own.items():
        spans = np.array(lives)
        times = np.concatenate((spans[:, 0], spans[:, 1]))
        steps = np.concatenate((np.ones(len(spans), np.int64), -np.ones(len(spans), np.int64)))
        order = np.lexsort((steps, times))  # at one instant what goes goes first
        times, alive = times[order], np.cumsum(steps[order])
        edges = (first + np.arange(count)) * HOUR_MS
        at_start = np.searchsorted(times, edges, side="right") - 1
        begin = np.where(at_start >= 0, alive[at_start], 0)
        least, most = begin.copy(), begin.copy()
        hour = (times // HOUR_MS).astype(np.int64) - first
        np.minimum.at(least, hour, alive)
        np.maximum.at(most, hour, alive)
        found[trace.apps[app].key] = least, most
    return found


def least_by_hour(trace: Trace, result: Replay) -> dict[str, tuple[int, ...]]:
    """The number of instances that an app had through that hour on every day (UTC), where it had any;
    an hour seen on fewer than DAYS_WANTED days has none. The first and last hours are not whole."""
    return {key: least for key, (least, _) in bounds_by_hour(trace, result).items() if any(least)}


def bounds_by_hour(
    trace: Trace, result: Replay
) -> dict[str, tuple[tuple[int, ...], tuple[int | None, ...]]]:
    """By app: the least of every day, 0 where it was not seen often enough, and the most of any day,
    None where it was never seen; each by the hour of the day (UTC)."""
    first = int(trace.arrival_ms[0] // HOUR_MS)
    bounds = {}
    for key, (least, most) in by_hour(trace, result).items():
        hours = (first + np.arange(len(least))) % HOURS
        whole = slice(1, -1)
        low = [0] * HOURS
        high: list[int | None] = [None] * HOURS
        for hour in range(HOURS):
            days = least[whole][hours[whole] == hour]
            if len(days) >= DAYS_WANTED:
                low[hour] = int(days.min())
            if (hours == hour).any():
                high[hour] = int(most[hours == hour].max())
        bounds[key] = tuple(low), tuple(high)
    return bounds
