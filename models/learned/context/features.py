"""What is known of a level when it is left idle: one implementation, for training and at runtime."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, log1p

import numpy as np

from warmscaler.models.learned.context.ages import (
    BINS,
    EDGES_MS,
    LOG_MIDDLES,
    MIDDLES_MS,
    log_survival,
)
from warmscaler.models.learned.context.calls import DAY, HOUR_MS, WEEK, Calls, log_ratio
from warmscaler.models.learned.plan import FloatArray

VARYING = (
    "age",
    "plain_hazard",
    "plain_survival",
    "hour",
    "weekday",
    "usual_of_day",
    "usual_of_week",
    "usual_against_now",
)
"""What differs by age. Hour and weekday are those at the age in question."""
FIXED = (
    "idle_times",
    "idle_mean",
    "idle_spread",
    "idle_last",
    "idle_last_2",
    "idle_last_4",
    "idle_last_16",
    "idle_least_3",
    "idle_most_3",
    "level",
    "memory",
    "start",
    "use",
    "calls_an_hour",
    "calls_1_min",
    "calls_5_min",
    "calls_30_min",
    "calls_3_h",
    "calls_24_h",
    "usual_of_day_now",
    "usual_of_week_now",
)
"""What is the same at every age: of the level's idle times, of the app, of its calls of late."""
FEATURES = VARYING + FIXED
_SPANS_H = (1.0 / 60.0, 1.0 / 12.0, 0.5, 3.0, 24.0)
"""Those that `Calls.since` tells of."""
_MOMENTS_MS = np.stack((EDGES_MS[:-1], MIDDLES_MS, EDGES_MS[1:]))
"""A bin may be hours long: what is usual in it is the mean of three moments. Shape (3, BINS)."""


@dataclass(frozen=True, slots=True)
class Idle:
    """A level that was just left. Times in ms."""

    left_ms: float
    """When, since the epoch."""
    level: int
    memory_mb: float
    start_ms: float
    use_ms: float
    """How long its uses are, at most a start."""


def rows(
    of: Idle,
    calls: Calls,
    gaps_ms: FloatArray,
    weights: FloatArray,
    plain: FloatArray,
    now_ms: float,
) -> tuple[FloatArray, list[float]]:
    """The features by bin of age, shape (len(VARYING), BINS), and the fixed ones, len(FIXED).

    `gaps_ms` are the level's idle times remembered, the oldest first, and `weights` theirs, shapes
    (n,); `plain` is the logit of their hazard by bin. It is asked at `now_ms`, `of.left_ms` or later.
    """
    an_hour = calls.an_hour(now_ms)
    of_day, of_week = calls.usual(now_ms)
    hour = int(now_ms // HOUR_MS)
    day_now, week_now = float(of_day[hour % DAY]), float(of_week[hour % WEEK])
    hours = (of.left_ms + _MOMENTS_MS) / HOUR_MS
    at = hours.astype(np.int64)
    varying = np.empty((len(VARYING), BINS))
    varying[0] = LOG_MIDDLES
    varying[1] = plain
    varying[2, 0] = 0.0
    varying[2, 1:] = log_survival(plain[:-1])
    varying[3] = hours[1] % DAY
    varying[4] = (at[1] // DAY + 3) % 7  # the epoch was a Thursday; Monday is 0
    varying[5] = of_day.take(at % DAY).sum(axis=0) / 3.0
    varying[6] = of_week.take(at % WEEK).sum(axis=0) / 3.0
    varying[7] = varying[5] - day_now
    fixed = _of_gaps(gaps_ms, weights)
    fixed += [
        log(of.level),
        log(of.memory_mb),
        log(of.start_ms + 1.0),
        log(max(of.use_ms, 0.0) + 1.0),
        log(an_hour + 0.01),
    ]
    fixed += [
        log_ratio(of_late, an_hour * span_h)
        for of_late, span_h in zip(calls.since(now_ms), _SPANS_H, strict=True)
    ]
    fixed += [day_now, week_now]
    return varying, fixed


def _of_gaps(gaps_ms: FloatArray, weights: FloatArray) -> list[float]:
    count = len(gaps_ms)
    if not count:
        return [0.0] * 9
    logs = np.log(gaps_ms + 1.0)
    weight = weights / weights.sum()
    mean = float(weight @ logs)
    spread = max(float(weight @ (logs * logs)) - mean * mean, 0.0) ** 0.5
    late = logs[-16:].tolist()
    return [
        log1p(count),
        mean,
        spread,
        late[-1] - mean,
        late[-min(count, 2)] - mean,
        sum(late[-4:]) / len(late[-4:]) - mean,
        sum(late) / len(late) - mean,
        min(late[-3:]) - mean,
        max(late[-3:]) - mean,
    ]
