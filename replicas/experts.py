"""The forecasters side by side, and which of them is followed: the one that has cost least of late.

Each proposes a floor at every look; an account beside each says what that floor would have cost, in
seconds of waiting (a GB·s counted at the price), older cost fading. Following the one that has cost
least so far: prediction with expert advice (Cesa-Bianchi and Lugosi, 2006, chapter 4), with a
half-life as in Herbster and Warmuth, "Tracking the best expert", 1998. The windows are what reactive
rules with a stabilisation do, so that none of those is better for long.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from warmscaler.replicas.compiled import compilable
from warmscaler.replicas.levels import DAY_LOOKS, LOOK_S, THRESHOLDS, Memory
from warmscaler.replicas.spec import AppSpec

WINDOWS = (0, 1, 4, 20, 60, 240, 960, 5_760)
"""In looks: nothing, the last value, 1, 5, 15 min, 1, 4 h, a day."""
HEADROOMS = (1.0, 1.4)
TIMES = (0.3, 3.0, 1.0)
"""How many times its probability a level of the learned forecast is taken at."""
LEAST_ONE = (20, 240, 5_760)
"""The windows that are also tried with a replica at any time, and the larger headroom."""
NAMES = (
    *(
        f"last value, {window * 15:g} s" + (f" and {headroom - 1:.0%}" if headroom > 1 else "")
        for window in WINDOWS
        for headroom in HEADROOMS
    ),
    *(f"at least one, last value, {window * 15:g} s and 40%" for window in LEAST_ONE),
    "seasonal naive",
    *(f"learned, {times:g} times" for times in TIMES),
)
_ONE = len(WINDOWS) * len(HEADROOMS)
SEASONAL = _ONE + len(LEAST_ONE)
LEARNED = SEASONAL + 1
_WINDOWS, _TIMES = np.array(WINDOWS, dtype=np.float64), np.array(TIMES)
_LEAST_ONE = np.array([WINDOWS.index(window) for window in LEAST_ONE])
_MORE = HEADROOMS[1]
HALF_LIFE_LOOKS = float(DAY_LOOKS)
LINGERS_S = 8.0
"""How long a replica that a lean reactive rule started stays after its use."""
_KEEP = 0.5 ** (1.0 / HALF_LIFE_LOOKS)


class Accounts(NamedTuple):
    """The experts' state of one app."""

    cost: Any
    """Seconds by expert, fading, shape (experts,)."""
    floors: Any
    """What each proposed in the last looks, in a ring, shape (experts, looks of a start + 1)."""
    count: Any
    """One number: looks so far."""
    before: Any
    """One number: replicas of the look before that are there still, without a floor."""


class Terms(NamedTuple):
    """What a replica and a miss cost, in seconds of waiting."""

    hold_s: float
    """A replica held for a look."""
    miss_s: float
    """A request that finds none: the start, and until the platform sees it."""
    restart_s: float
    """Memory of a start that a kept replica saves."""
    start_looks: int


def terms_of(spec: AppSpec) -> Terms:
    """The terms of an app at its price, seconds of waiting per GB·s; with an objective at the price
    whose newsvendor is as sure: a miss over a miss and a held look."""
    second = spec.price * spec.memory_mb / 1024.0
    miss_s = spec.start_s + spec.reaction_s
    if spec.objective is not None:
        second = miss_s * (1.0 - spec.objective) / spec.objective / LOOK_S
    return Terms(
        second * LOOK_S,
        miss_s,
        second * (spec.start_s + LINGERS_S),
        round(spec.start_s / LOOK_S),
    )


def opened(terms: Terms, prior: Any = None) -> Accounts:
    """New accounts; `prior` is what each expert cost elsewhere, in seconds, shape (experts,)."""
    cost = np.zeros(len(NAMES)) if prior is None else np.array(prior, dtype=np.float64)
    ring = np.zeros((len(NAMES), terms.start_looks + 1))
    return Accounts(cost, ring, np.zeros(1, dtype=np.int64), np.zeros(1))


@compilable
def charge(accounts: Accounts, terms: Terms, needed: float, mean: float) -> None:
    """Charges each expert for the look that has just ended, with `needed` replicas at its peak."""
    ring, count = accounts.floors.shape[1], accounts.count[0]
    held = accounts.floors[:, (count - 1) % ring]
    ready = held.copy()
    for n in range(2, min(ring, count) + 1):
        ready = np.minimum(ready, accounts.floors[:, (count - n) % ring])
    accounts.cost[:] *= _KEEP
    accounts.cost[:] += np.maximum(held - mean, 0.0) * terms.hold_s
    if needed > 0.0:
        missed = np.maximum(needed - np.maximum(ready, accounts.before[0]), 0.0)
        accounts.cost[:] += missed * (terms.miss_s + terms.restart_s)
    # A replica that a use of less than the look started is as likely gone by the next as not.
    accounts.before[0] = 0.5 * (needed + min(mean, needed))


@compilable
def propose(
    accounts: Accounts, memory: Memory, terms: Terms, look: int, chances: Any, levels: int
) -> None:
    """Writes each expert's floor for now into its ring.

    `chances[k]` is the chance that level k is in use in the look that begins when a replica started
    now is ready; `levels` of them, none without a model.
    """
    ring = accounts.floors.shape[1]
    count = accounts.count[0]
    place = count % ring
    needed = float(memory.day[look % DAY_LOOKS])
    # Ages rise with the level, for who uses a level uses those below it.
    within = np.searchsorted(memory.age[: memory.top[0]], _WINDOWS)
    for w in range(len(_WINDOWS)):
        top = THRESHOLDS[within[w] - 1] if within[w] else 0.0
        if w:
            top = max(top, needed)
        accounts.floors[2 * w, place] = top
        accounts.floors[2 * w + 1, place] = np.ceil(top * _MORE - 1e-9)
    for n in range(len(_LEAST_ONE)):
        accounts.floors[_ONE + n, place] = max(accounts.floors[2 * _LEAST_ONE[n] + 1, place], 1.0)
    day_before = 0
    for n in range(1, terms.start_looks + 3):
        day_before = max(day_before, memory.day[(look + n) % DAY_LOOKS])
    accounts.floors[SEASONAL, place] = max(float(day_before), needed)
    for m in range(len(_TIMES)):
        e = LEARNED + m
        if levels == 0:  # no model: it costs what the last value does
            accounts.floors[e, place] = accounts.floors[2, place]
        else:
            there = max(accounts.floors[e, (count - 1) % ring] if count else 0.0, needed)
            accounts.floors[e, place] = newsvendor(terms, chances, levels, _TIMES[m], there)
    accounts.count[0] = count + 1


@compilable
def newsvendor(terms: Terms, chances: Any, levels: int, times: float, there: float) -> float:
    """The replicas that are worth their memory: as long as chance times wait exceeds the rest times hold.

    The critical fractile of Arrow, Harris and Marschak, Econometrica 19, 1951, level by level. One
    that is `there` already also saves the memory of a start.
    """
    floor, worth_before = 0.0, 1.0
    for k in range(levels):
        level = THRESHOLDS[k]
        chance = min(chances[k] * times, 1.0)
        saved = terms.miss_s
        if level <= there:
            saved += terms.restart_s
        worth = chance * saved / ((1.0 - chance) * terms.hold_s + 1e-12)
        if worth < 1.0:
            # Between two levels that lie apart, as far as the odds reach.
            if worth_before > 1.0 and level - floor > 1.0 and floor > 0.0:
                part = np.log(worth_before) / np.log(worth_before / max(worth, 1e-9))
                floor += np.floor(part * (level - floor - 1.0) + 0.5)
            break
        floor, worth_before = level, worth
    return floor


@compilable
def cheapest(accounts: Accounts) -> int:
    """The expert that has cost least of late; the later one of equals, which is a learned one."""
    best = 0
    for e in range(len(accounts.cost)):
        if accounts.cost[e] <= accounts.cost[best]:
            best = e
    return best


@compilable
def followed(accounts: Accounts) -> tuple[int, float]:
    """Whom to follow, and its floor."""
    best = cheapest(accounts)
    ring = accounts.floors.shape[1]
    return best, accounts.floors[best, (accounts.count[0] - 1) % ring]
