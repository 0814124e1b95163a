"""Idle times with what was known when they began: what the context model is trained and judged on.

Calls are played through the very counters that a running policy has, so that a feature means the same in
training and at runtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from warmscaler.data.trace import App, IntArray, Trace
from warmscaler.models.learned.app import PRIOR_WEIGHT
from warmscaler.models.learned.context.ages import bins, hazard_logits, prior_weights
from warmscaler.models.learned.context.calls import Calls
from warmscaler.models.learned.context.features import Idle, rows
from warmscaler.models.learned.habits import MEMORY_GAPS, Model
from warmscaler.models.learned.level import SURE_MS, recency_weights
from warmscaler.models.learned.plan import NOTHING, FloatArray, Prior, spread
from warmscaler.simulator.replay import CREATE_MS
from warmscaler.training.cluster import share, task
from warmscaler.training.fitting.levels import uses
from warmscaler.training.workers import parallel

MOST_IDLE_TIMES = 16_000
"""Told of all apps together."""
CHUNKS = 32
LEAST_MS, MOST_MS = SURE_MS, 60_000.0
"""At runtime idle times are remembered that outlast a moment which grows as the price falls. Half of
those told are told as if it were the first, half as if it were a draw from between the two."""


@dataclass(frozen=True, slots=True)
class IdleTime:
    """One idle time of one level. Times in ms."""

    app: int
    """The index of its app in the trace."""
    of: Idle
    gap_ms: float
    ended: bool
    """False for one that had not ended with the trace: it is at least so long."""
    before_ms: FloatArray
    """Those remembered then, oldest first."""
    plain: FloatArray
    """The logit of the hazard that they alone give, by bin of age."""
    varying: FloatArray
    fixed: FloatArray
    weight: float
    """Of how many like it stands for."""

    @property
    def last_bin(self) -> int:
        return int(bins(np.array([self.gap_ms]))[0])


def idle_times(
    trace: Trace,
    prior: Prior | None = None,
    create_ms: float = CREATE_MS,
    *,
    seed: int = 0,
    jobs: int = 1,
) -> list[IdleTime]:
    """Of every app of `trace`, in order, at most about MOST_IDLE_TIMES in all, drawn by `seed`.

    `prior` is the population's, the built-in one unless given; `create_ms` is what the platform takes for
    a slot, besides an app's own start-up time.
    """
    prior = prior or Prior(Model().prior_ms, PRIOR_WEIGHT)
    called, counts = np.unique(trace.app, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    most = _most_of_each(counts)
    shared = share(trace)
    calls = (
        task(_of_apps, shared, called[order[n::CHUNKS]], prior, create_ms, most, seed)
        for n in range(min(CHUNKS, len(called)))
    )
    found = [each for chunk in parallel(jobs)(calls) for each in chunk]
    return sorted(found, key=lambda each: each.app)


def _most_of_each(counts: IntArray) -> int:
    """The most idle times told of an app, so that all together are at most MOST_IDLE_TIMES."""
    low, high = 1, MOST_IDLE_TIMES
    while low < high:
        middle = (low + high + 1) // 2
        if int(np.minimum(counts, middle).sum()) <= MOST_IDLE_TIMES:
            low = middle
        else:
            high = middle - 1
    return low


def _of_apps(
    trace: Trace, apps: IntArray, prior: Prior, create_ms: float, most: int, seed: int
) -> list[IdleTime]:
    rows_of = np.flatnonzero(np.isin(trace.app, apps))
    rows_of = rows_of[np.argsort(trace.app[rows_of], kind="stable")]
    present, starts = np.unique(trace.app[rows_of], return_index=True)
    end_ms = float(trace.arrival_ms[-1])
    found: list[IdleTime] = []
    for app, own in zip(present.tolist(), np.split(rows_of, starts[1:]), strict=True):
        draw = np.random.default_rng((seed, app))
        told = _Told(app, trace.apps[app], create_ms, end_ms)
        told.add(trace.arrival_ms[own], trace.duration_ms[own], most, draw)
        found += told.played(np.sort(trace.arrival_ms[own]), prior)
    return found


@dataclass(frozen=True, slots=True)
class _Moment:
    """When something is asked of a level, and what."""

    now_ms: float
    of: Idle
    gap_ms: float
    ended: bool
    before_ms: FloatArray
    weight: float


class _Told:
    """The moments of one app that are told."""

    def __init__(self, index: int, app: App, create_ms: float, end_ms: float) -> None:
        self.index, self.memory_mb = index, app.memory_mb
        self.start_ms, self.end_ms = create_ms + app.init_ms, end_ms
        self.moments: list[_Moment] = []

    def add(
        self, arrival_ms: IntArray, duration_ms: IntArray, most: int, draw: np.random.Generator
    ) -> None:
        levels = list(uses(arrival_ms, duration_ms))
        of_each = _most_of_each_level([len(taken) for _, taken, _ in levels], most)
        for number, taken_ms, left_ms in levels:
            between = float(np.exp(draw.uniform(np.log(LEAST_MS), np.log(MOST_MS))))
            for sure_ms in (LEAST_MS, between):
                self._add(number, taken_ms, left_ms, sure_ms, of_each // 2 + 1, draw)

    def _add(
        self,
        number: int,
        taken_ms: IntArray,
        left_ms: IntArray,
        sure_ms: float,
        most: int,
        draw: np.random.Generator,
    ) -> None:
        next_ms = np.append(taken_ms[1:], self.end_ms).astype(np.float64)[: len(left_ms)]
        gaps_ms = next_ms - left_ms
        used_ms = np.minimum(left_ms - taken_ms[: len(left_ms)], self.start_ms)
        mean_use_ms = np.cumsum(used_ms) / np.arange(1.0, len(used_ms) + 1.0)
        at = np.flatnonzero(gaps_ms > sure_ms)
        told = np.arange(len(at))
        if len(at) > most:
            told = np.sort(draw.choice(told, most, replace=False))
        for place in told.tolist():
            when = int(at[place])
            self.moments.append(
                _Moment(
                    now_ms=float(left_ms[when]) + sure_ms,
                    of=Idle(
                        float(left_ms[when]),
                        number,
                        self.memory_mb,
                        self.start_ms,
                        float(mean_use_ms[when]),
                    ),
                    gap_ms=float(gaps_ms[when]),
                    ended=when + 1 < len(taken_ms),
                    before_ms=gaps_ms[at[max(place - MEMORY_GAPS, 0) : place]],
                    weight=(len(at) / len(told)) ** 0.5,
                )
            )

    def played(self, arrival_ms: IntArray, prior: Prior) -> list[IdleTime]:
        """What was known at each moment."""
        calls = Calls()
        arrivals = arrival_ms.tolist()
        position = 0
        found = []
        for moment in sorted(self.moments, key=lambda each: each.now_ms):
            while position < len(arrivals) and arrivals[position] <= moment.now_ms:
                calls.add(arrivals[position])
                position += 1
            weights = recency_weights(len(moment.before_ms))
            by, points, told, _ = believed(moment.before_ms, prior)
            plain = hazard_logits(bins(points), told, prior_weights(by))
            varying, fixed = rows(moment.of, calls, moment.before_ms, weights, plain, moment.now_ms)
            found.append(
                IdleTime(
                    self.index,
                    moment.of,
                    moment.gap_ms,
                    moment.ended,
                    moment.before_ms,
                    plain,
                    varying.astype(np.float32),
                    np.array(fixed, dtype=np.float32),
                    moment.weight,
                )
            )
        return found


def believed(
    before_ms: FloatArray, prior: Prior
) -> tuple[Prior, FloatArray, FloatArray, FloatArray]:
    """What a level plans by that remembers these, oldest first, shape (n,): the prior, and points, their
    weights and reaches as `spread` has them, shapes (5 n,)."""
    if not len(before_ms):
        return prior, NOTHING, NOTHING, NOTHING
    given, weights = prior.given(before_ms, recency_weights(len(before_ms)))
    return given, *spread(before_ms, weights)


def _most_of_each_level(counts: Sequence[int], most: int) -> int:
    left, levels = most, len(counts)
    for count in sorted(counts):
        if count * levels >= left:
            break
        left -= count
        levels -= 1
    return max(left // max(levels, 1), 1)
