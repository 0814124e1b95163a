"""A trace as a planner would have seen it: by app and look, what was needed at its peak and on average.

A request occupies a place from its arrival for as long as it executes, as if nobody had waited: what
is forecast must not depend on who served it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from warmscaler.data.trace import Trace
from warmscaler.replicas.compiled import fast
from warmscaler.replicas.fleet import levels_of
from warmscaler.replicas.levels import LOOK_S
from warmscaler.replicas.spec import AppSpec
from warmscaler.simulator.figures import MB_PER_GB

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class AppLoad:
    """One app's requests in s, and by look, shape (looks,): look i ends at `from_s + i * LOOK_S`."""

    spec: AppSpec
    arrival_s: FloatArray
    duration_s: FloatArray
    needed: FloatArray
    """Replicas at the peak of the look."""
    mean: FloatArray
    """Replicas in use, averaged over the look."""


@dataclass(frozen=True, slots=True)
class Load:
    """All apps on the same looks."""

    apps: tuple[AppLoad, ...]
    from_s: float
    end_s: float
    """When the last execution ends."""
    split_s: float
    looks: int
    split_look: int
    """The first look at or after the split."""
    fleet: FloatArray
    """The fleet's level before each look, shape (looks,)."""

    @property
    def first(self) -> int:
        """The number of look 0, since the epoch."""
        return round(self.from_s / LOOK_S)


def load_of(
    trace: Trace, split: float, *, places: int, create_ms: float, reaction_s: float
) -> Load:
    """The load of `trace`.

    The specs' price is 1; `places` is what a replica serves at once.
    """
    arrival_s, duration_s = trace.arrival_ms / 1_000.0, trace.duration_ms / 1_000.0
    from_s = float(arrival_s[0] // LOOK_S * LOOK_S)
    end_s = float((arrival_s + duration_s).max())
    split_s = trace.split_ms(split) / 1_000.0
    looks = int((end_s - from_s) // LOOK_S) + 1
    apps = []
    for index, app in enumerate(trace.apps):
        rows = trace.app == index
        own_s, took_s = arrival_s[rows], duration_s[rows]
        spec = AppSpec(
            app.key,
            start_s=(create_ms + app.init_ms) / 1_000.0,
            memory_mb=app.memory_mb,
            price=1.0,
            container_concurrency=places,
            reaction_s=reaction_s,
        )
        peak, mean = by_look(own_s, took_s, from_s, looks)
        apps.append(AppLoad(spec, own_s, took_s, np.ceil(peak / places), mean / places))
    fleet = np.ones(looks)
    fast(levels_of)(sum((app.needed for app in apps), np.zeros(looks)), fleet)
    split_look = int(np.ceil((split_s - from_s) / LOOK_S))
    return Load(tuple(apps), from_s, end_s, split_s, looks, split_look, fleet)


def by_look(
    arrival_s: FloatArray, duration_s: FloatArray, from_s: float, looks: int
) -> tuple[FloatArray, FloatArray]:
    """The most requests at once in each look, and the average; each of shape (looks,)."""
    end_s = arrival_s + np.maximum(duration_s, 0.001)
    at = np.concatenate((arrival_s, end_s))
    change = np.repeat([1, -1], len(arrival_s))
    order = np.lexsort((change, at))  # at one instant completions come first
    at, there = at[order], np.cumsum(change[order])
    peak = np.zeros(looks + 1)
    np.maximum.at(peak, np.ceil((at - from_s) / LOOK_S).astype(np.int64).clip(0, looks), there)
    edges = np.asarray(from_s + (np.arange(looks + 1) - 1.0) * LOOK_S, dtype=np.float64)
    if len(at):
        last = np.searchsorted(at, edges[:-1], side="right") - 1
        peak[:looks] = np.maximum(peak[:looks], np.where(last >= 0, there[last.clip(0)], 0))
    area = _passed(np.sort(arrival_s), edges) - _passed(np.sort(end_s), edges)
    mean = np.clip(np.diff(area) / LOOK_S, 0.0, peak[:looks])  # sums round
    return peak[:looks], mean


def _passed(at: FloatArray, edges: FloatArray) -> FloatArray:
    """The sum over all `at` of how long before each edge they lie."""
    sums = np.concatenate(([0.0], np.cumsum(at - at[0] if len(at) else at)))
    count = np.searchsorted(at, edges)
    return np.asarray(count * (edges - (at[0] if len(at) else 0.0)) - sums[count], dtype=np.float64)


def gb_of(app: AppLoad) -> float:
    """Memory of a replica in GB."""
    return app.spec.memory_mb / MB_PER_GB
