"""What is remembered of an app, level by level, and the facts that a forecast goes by.

Level k is in use in a look when k or more replicas are needed at its peak. Levels are watched one by
one up to 16, and then in steps of an eighth, so that the state has a bound however large an app grows.
Written for numba: `advance` and `describe` are the same code for one look and for a million.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from warmscaler.replicas.compiled import compilable

LOOK_S = 15.0
"""What one look covers."""
DAY_LOOKS = 5_760
_COARSE = 20  # looks in a bin of the week's ring: five minutes
_WEEK_BINS = 7 * DAY_LOOKS // _COARSE
_GAPS = 32
_NEVER = 1_000_000.0
_EVERY_LEVEL, _STEP, _TOP = 16, 1.125, 1_000_000.0
HALF_LIVES = (2.0, 8.0, 40.0, 240.0, 1_440.0, 11_520.0)
"""In looks: 30 s, 2 min, 10 min, 1 h, 6 h, 2 days."""
_LAGS = (4, 20, 40, 60, 120, 240)
FACTS = (
    "age",
    "age_below",
    "age_above",
    "used_30s",
    "used_2min",
    "used_10min",
    "used_1h",
    "used_6h",
    "used_2d",
    "now",
    "mean_2min",
    "mean_1h",
    "mean_2d",
    "ends_now",
    "at_risk",
    "last_gap",
    "gap_before",
    "lag_1min",
    "lag_5min",
    "lag_10min",
    "lag_15min",
    "lag_30min",
    "lag_1h",
    "day_before",
    "day_before_10min",
    "week_at_this_time",
    "week_before",
    "hour",
    "weekday",
    "minute",
    "level",
    "lead",
    "fleet",
)
"""The columns of a description, in their order."""
# Levels go up to 1,000,000 replicas; apps rarely use the first twenty.
_steps = [float(k) for k in range(1, _EVERY_LEVEL + 1)]
while _steps[-1] < _TOP:
    _steps.append(float(int(_steps[-1] * _STEP) + 1))
THRESHOLDS = np.array(_steps)
"""Replicas from which on a level is in use, shape (levels,)."""
_RATES = 1.0 - 0.5 ** (1.0 / np.array(HALF_LIVES))


class Memory(NamedTuple):
    """The state of one app; arrays, so that compiled code changes them in place."""

    used: Any
    """Share of looks in use, by level and half-life."""
    age: Any
    """Looks since a level was in use."""
    gaps: Any
    """Looks that a level was not in use, the last ones by level, in a ring."""
    gap_count: Any
    mean: Any
    """Replicas needed, averaged, by half-life."""
    day: Any
    """Replicas needed by look, in a ring of a day; -1 for a look that was not seen."""
    week: Any
    """The most in five minutes, in a ring of a week; -1 where not seen."""
    top: Any
    """One number: how many levels have been in use."""


def fresh(levels: int = 24) -> Memory:
    """The state before anything is seen, with room for so many levels."""
    return Memory(
        used=np.zeros((levels, len(HALF_LIVES))),
        age=np.full(levels, _NEVER),
        gaps=np.zeros((levels, _GAPS)),
        gap_count=np.zeros(levels, dtype=np.int64),
        mean=np.zeros(len(HALF_LIVES)),
        day=np.full(DAY_LOOKS, -1, dtype=np.int32),
        week=np.full(_WEEK_BINS, -1, dtype=np.int32),
        top=np.zeros(1, dtype=np.int64),
    )


def levels_for(replicas: float) -> int:
    """Levels to have room for where so many replicas are needed: those in use, and some above."""
    above = int(np.searchsorted(THRESHOLDS, 1.5 * replicas + 2.0, side="right"))
    return min(above + 2, len(THRESHOLDS))


def grown(memory: Memory, levels: int) -> Memory:
    """The same with room for more levels; what is above was never in use."""
    more = levels - len(memory.age)
    if more <= 0:
        return memory
    return memory._replace(
        used=np.concatenate((memory.used, np.zeros((more, len(HALF_LIVES))))),
        age=np.concatenate((memory.age, np.full(more, _NEVER))),
        gaps=np.concatenate((memory.gaps, np.zeros((more, _GAPS)))),
        gap_count=np.concatenate((memory.gap_count, np.zeros(more, dtype=np.int64))),
    )


@compilable
def advance(memory: Memory, look: int, missing: int, needed: float) -> None:
    """Takes in look number `look` (since the epoch), after `missing` looks that nobody saw."""
    for n in range(1, missing + 1):
        memory.day[(look - n) % DAY_LOOKS] = -1
        if n >= DAY_LOOKS:
            break
    for n in range(1, missing // _COARSE + 1):
        memory.week[(look // _COARSE - n) % _WEEK_BINS] = -1
        if n >= _WEEK_BINS:
            break
    memory.day[look % DAY_LOOKS] = int(needed)
    bin_ = (look // _COARSE) % _WEEK_BINS
    first = look % _COARSE <= missing
    memory.week[bin_] = int(needed) if first else max(memory.week[bin_], int(needed))
    memory.mean[:] += _RATES * (needed - memory.mean)
    levels, top = len(memory.age), memory.top[0]
    in_use = 0  # levels in use are the lowest ones
    while in_use < levels and THRESHOLDS[in_use] <= needed:
        gap = memory.age[in_use] + missing
        if 0.0 < gap < _NEVER:
            memory.gaps[in_use, memory.gap_count[in_use] % _GAPS] = gap
            memory.gap_count[in_use] += 1
        in_use += 1
    memory.age[:in_use] = 0.0
    memory.age[in_use:] = np.minimum(memory.age[in_use:] + (1.0 + missing), _NEVER)
    memory.top[0] = top = max(top, in_use)
    memory.used[:top] *= 1.0 - _RATES
    memory.used[:in_use] += _RATES


@compilable
def watched(memory: Memory) -> int:
    """How many levels a forecast is made for: those ever in use, and those that may be next."""
    top = memory.top[0]
    most = THRESHOLDS[top - 1] * 1.5 + 2.0 if top else 1.0
    levels = int(top)
    while levels < len(memory.age) and THRESHOLDS[levels] <= most:
        levels += 1
    return levels


@compilable
def is_due(memory: Memory, look: int) -> bool:
    """Whether to forecast anew: at every look, and more seldom where the app has long been idle."""
    if memory.age[0] < 20.0:
        return True
    return look % (2 if memory.age[0] < 240.0 else 4) == 0


@compilable
def describe(memory: Memory, look: int, lead: int, fleet: float, rows: Any) -> int:
    """Writes the facts of each watched level into `rows`, shape (levels or more, facts).

    For its use `lead` looks after `look`, the last one taken in. `fleet` is how much the fleet does
    now against its day. Returns how many levels were written.
    """
    levels = watched(memory)
    at = look + lead
    needed = max(memory.day[look % DAY_LOOKS], 0)
    hour = (at % DAY_LOOKS) * 24.0 / DAY_LOOKS
    weekday = (at // DAY_LOOKS + 3) % 7  # the epoch began on a Thursday
    for k in range(levels):
        level, age = THRESHOLDS[k], memory.age[k]
        row = rows[k]
        row[0] = np.log1p(age)
        row[1] = np.log1p(memory.age[k - 1]) if k else 0.0
        row[2] = np.log1p(memory.age[k + 1] if k + 1 < len(memory.age) else _NEVER)
        for h in range(6):
            row[3 + h] = memory.used[k, h]
        row[9] = needed / level
        row[10] = memory.mean[1] / level
        row[11], row[12] = memory.mean[3] / level, memory.mean[5] / level
        # Of the idle times that were longer than this one is: how many ended about then, a look.
        wide = 1.0 + 0.05 * age
        count = min(memory.gap_count[k], _GAPS)
        at_risk, ended = 0, 0
        for g in range(count):
            gap = memory.gaps[k, g]
            if gap > age:
                at_risk += 1
                ended += abs(gap - (age + lead)) <= wide
        row[13] = ended / (at_risk * (2.0 * wide + 1.0)) if at_risk else -1.0
        row[14] = at_risk
        last = memory.gap_count[k] - 1
        row[15] = np.log1p(memory.gaps[k, last % _GAPS]) if count > 0 else -1.0
        row[16] = np.log1p(memory.gaps[k, (last - 1) % _GAPS]) if count > 1 else -1.0
        for n in range(6):
            used = 0
            for near in range(-1, 2):
                then = at - _LAGS[n] + near
                if then <= look and memory.day[then % DAY_LOOKS] >= level:
                    used += 1
            row[17 + n] = used
        used = 0
        for near in range(-1, 2):
            if at + near - DAY_LOOKS <= look < at + near:
                used += memory.day[(at + near) % DAY_LOOKS] >= level
        row[23] = used
        used = 0
        for near in range(-20, 21):
            if look < at + near < look + DAY_LOOKS:
                used += memory.day[(at + near) % DAY_LOOKS] >= level
        row[24] = used
        bin_, seen, used = at // _COARSE, 0, 0
        for day in range(1, 7):
            for near in range(-1, 2):
                was = memory.week[(bin_ - day * (_WEEK_BINS // 7) + near) % _WEEK_BINS]
                if was >= 0:
                    seen += 1
                    used += was >= level
        row[25] = used / seen if seen else -1.0
        seen, used = 0, 0
        for near in range(1, 4):  # the ring holds a week: what lies just ahead of now
            was = memory.week[(bin_ + near) % _WEEK_BINS]
            if was >= 0:
                seen += 1
                used += was >= level
        row[26] = used / seen if seen else -1.0
        row[27], row[28], row[29] = hour, weekday, (at % 240) / 4.0
        row[30], row[31], row[32] = level, lead, fleet
    return levels
