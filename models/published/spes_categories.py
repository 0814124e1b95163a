"""SPES's categories: what an app's idle minutes and runs of busy minutes say of its next call.

The categories, their order and their numbers are those of SPES's notebook (BEbillionaireUSD/SPES; paper:
`spes.py`). Waits are idle minutes between two runs; an offset counts minutes from the last busy one, so
that a wait of p minutes ends with a call at offset p + 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import fmean, median, pstdev

WARM_SHARE = 0.001
LEAST_WAITS = 3
REGULAR_CV = 0.01
MODES = 3
MODES_SHARE = 0.9
MODE_LEAST_SHARE = 0.1
DENSE_MINUTES = 5
DENSE_SHARE = 0.9
DENSE_LATEST = 10
LONG_RUN_MINUTES = 10
LONG_RUN_CALLS = 11
POSSIBLE_MODES = 5
POSSIBLE_SPREAD = 10
LEAST_SPREAD = 2.0
PREWARM_MINUTES = 2
"""Loaded so long before what is predicted, and kept so long after."""
ALPHA = 0.5
"""What a relative rise of cold starts weighs against one of waste, where an app fits two categories."""


class Category(Enum):
    """In the order in which they are tried."""

    WARM = "always warm"
    REGULAR = "regular"
    APPROXIMATE = "approximately regular"
    DENSE = "dense"
    SUCCESSIVE = "successive"
    PULSED = "pulsed"
    POSSIBLE = "possible"
    UNKNOWN = "unknown"


GIVE_UP_MINUTES = {Category.DENSE: DENSE_MINUTES, Category.PULSED: 3}
"""Idle minutes after which an app is unloaded where no call is predicted; else one."""


@dataclass(frozen=True, slots=True)
class Run:
    """Busy minutes in a row."""

    minutes: int
    calls: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A category, and the offsets between which calls are predicted, earliest first."""

    category: Category
    predicted: tuple[tuple[float, float], ...] = ()

    @property
    def give_up_minutes(self) -> int:
        return GIVE_UP_MINUTES.get(self.category, 1)


UNKNOWN = Plan(Category.UNKNOWN)


def plan(waits: Sequence[int], runs: Sequence[Run], idle_share: float) -> Plan:
    """What is known of an app goes in, oldest first; `idle_share` is that of all its minutes."""
    if idle_share < WARM_SHARE:
        return Plan(Category.WARM)
    # What changed is forgotten: where all that is known fits nothing, its newer half may.
    for newest in (1, 2):
        part = waits[len(waits) - len(waits) // newest :]
        found = _definite(part, runs[len(runs) - len(runs) // newest :])
        if found is not None:
            return found
    return _indefinite(waits)


def _definite(waits: Sequence[int], runs: Sequence[Run]) -> Plan | None:
    if len(waits) >= LEAST_WAITS:
        ordered = sorted(waits)
        spread = pstdev(waits)
        if _quantile(ordered, 0.95) - _quantile(ordered, 0.05) < 1.0 or (
            spread <= REGULAR_CV * fmean(waits)
        ):
            due, reach = median(waits) + 1.0, min(spread, LEAST_SPREAD)
            # One call that fails to come is allowed for.
            missed = 2.0 * due
            return Plan(
                Category.REGULAR, ((due - reach, due + reach), (missed - reach, missed + reach))
            )
        modes = _modes(waits)[:MODES]
        if modes[0][1] > 1 and sum(count for _, count in modes) >= MODES_SHARE * len(waits):
            often = [wait for wait, count in modes if count > MODE_LEAST_SHARE * len(waits)]
            return Plan(Category.APPROXIMATE, _each(often))
        if _quantile(ordered, DENSE_SHARE) < DENSE_MINUTES:
            repeated = [wait for wait, count in _modes(waits)[:POSSIBLE_MODES] if count > 1]
            often = repeated or ordered
            latest = min(max(often), DENSE_LATEST)
            return Plan(Category.DENSE, ((min(often) + 1.0, latest + 1.0),))
    if len(runs) >= LEAST_WAITS and (
        min(run.minutes for run in runs) >= LONG_RUN_MINUTES
        or min(run.calls for run in runs) >= LONG_RUN_CALLS
    ):
        return Plan(Category.SUCCESSIVE)
    return None


def _indefinite(waits: Sequence[int]) -> Plan:
    """Pulsed or possible, by what either would have cost on the newer half of what is known."""
    if not waits:
        return UNKNOWN
    pulsed, possible = Plan(Category.PULSED), _possible(waits)
    newer = waits[len(waits) // 2 :]
    if possible is None:
        cold, _ = outcome(newer, pulsed)
        return pulsed if cold < 1.0 else UNKNOWN
    trial = _possible(waits[: len(waits) // 2]) or UNKNOWN
    (cold_a, waste_a), (cold_b, waste_b) = outcome(newer, pulsed), outcome(newer, trial)
    if cold_a == cold_b:
        return pulsed if waste_a < waste_b else possible
    (cold, waste, colder), (other_cold, other_waste, wasteful) = sorted(
        ((cold_a, waste_a, pulsed), (cold_b, waste_b, possible)), key=lambda each: each[:2]
    )
    if waste <= other_waste or cold <= 0.1:
        return colder
    more_cold = ALPHA * (other_cold - cold) / cold
    more_waste = (waste - other_waste) / max(other_waste, 1e-9)
    return wasteful if more_cold < more_waste else colder


def outcome(waits: Sequence[int], of: Plan) -> tuple[float, float]:
    """The share of these waits that would have ended cold, and the idle minutes loaded in each."""
    cold = wasted = 0
    for wait in waits:
        loaded = {*range(1, min(of.give_up_minutes, wait) + 1)}
        warm = wait < of.give_up_minutes
        for first, last in of.predicted:
            low, high = int(first) - PREWARM_MINUTES, int(last) + PREWARM_MINUTES
            warm = warm or low <= wait + 1 <= high
            loaded.update(range(max(low, 1), min(high, wait) + 1))
        cold += not warm
        wasted += len(loaded)
    return cold / len(waits), wasted / len(waits)


def _possible(waits: Sequence[int]) -> Plan | None:
    repeated = [wait for wait, count in _modes(waits)[:POSSIBLE_MODES] if count > 1]
    if not repeated:
        return None
    if max(repeated) - min(repeated) <= POSSIBLE_SPREAD:
        return Plan(Category.POSSIBLE, ((min(repeated) + 1.0, max(repeated) + 1.0),))
    return Plan(Category.POSSIBLE, _each(repeated))


def _each(waits: Sequence[int]) -> tuple[tuple[float, float], ...]:
    return tuple((wait + 1.0, wait + 1.0) for wait in sorted(waits))


def _modes(waits: Sequence[int]) -> list[tuple[int, int]]:
    """Waits and how often each was seen, the most frequent first, of equals the shortest."""
    return sorted(Counter(waits).items(), key=lambda each: (-each[1], each[0]))


def _quantile(ordered: Sequence[int], share: float) -> float:
    """With linear interpolation."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
