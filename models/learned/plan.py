"""From a distribution of idle times to a plan: how long to keep an instance, when to start it anew.

An instance of a level (see `warmscaler.models.learned.policy`) was last used at age 0; the next use
comes at a random age. While it is kept it costs `hold_cost` a millisecond; if the use finds it gone
that costs `miss_cost`; releasing it and pre-warming it for a later age costs its start-up time held.
The cheapest plan for a finite set of weighted ages follows by dynamic programming from the last age
backwards, with two states (there, gone). It is ski rental with a known distribution (A. Karlin et
al., Algorithmica 11, 1994) with a second purchase allowed: the pre-warm of Shahrad et al., USENIX
ATC 2020, section 4.2.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from copy import copy
from math import inf, sqrt

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

NEIGHBOURS_PER_ROOT = 1.1
"""A sample stands for the stretch to its k-th nearest neighbour, k this times the root of their
number (D. Loftsgaarden and C. Quesenberry, Annals of Mathematical Statistics 36, 1965): narrow
where samples agree (timers), wide where they are sparse, so that no plan slips between two."""
AGREE = 100.0
"""Where it and two others lie in so small a part of that stretch, it stands for theirs alone: three by
chance would be rare, and an app that calls every hour or two has two such places."""
JITTER_MS = 1_000.0
DRIFT_SHARE = 0.02
"""The least stretch of a sample: timers jitter by up to a second, and a gap between two calls
drifts with its length; the time on a clock does not."""
LONE_SHARE = 0.3
"""The stretch of a single sample, as a share of itself: one gap says little about the next."""
LOG_FROM_MS = 1_000.0
"""Between two quantiles the prior is even in the logarithm of the time, from about here on."""
TAIL = 1.0
"""Beyond what was ever seen an idle time is believed to last for as long again with a chance of
2 ** -TAIL. At 1 an instance is then kept until it has cost what a miss costs: as ski rental keeps it
where nothing is known."""
TAIL_MS = 30.0 * 86_400_000.0
"""No idle time is believed longer."""
ROUNDING_MS = 1.0
"""An age is the difference of two times since the epoch: it is that exact."""
NOTHING = np.zeros(0)
_OCTAVES_MS = np.concatenate(([0.0], 1_000.0 * np.exp2(np.arange(22.0))))
"""Where each begins, up to a month."""
_OFFSETS = np.linspace(-1.0, 1.0, 5)[:, None]
_STEPS_PER_E = 12.0
"""Decisions are taken at ages at most this many to a factor of e apart, and at every hole. Eight to
a factor of two, by the bits of the age, is sooner told, and a tenth dearer after habits change."""


class Plan:
    """What to do with an instance by its age since the last use, in ms: stretches of age in which
    one that is there is kept, and ages at which one is started if none is there."""

    __slots__ = ("_from", "_start_ms", "_starts", "_to", "worth_ms")

    def __init__(
        self,
        start_ms: float,
        keep_from_ms: Sequence[float] = (),
        keep_to_ms: Sequence[float] = (),
        starts_ms: Sequence[float] = (),
        worth_ms: float = 0.0,
    ) -> None:
        """The stretches apart from each other; all in order of age."""
        self._start_ms = start_ms
        self.worth_ms = worth_ms
        """What an instance that is there at age 0 saves over one that is not, by the next use."""
        # Arrays, because an app may have a hundred plans.
        self._from = array("d", keep_from_ms)
        self._to = array("d", keep_to_ms)
        self._starts = array("d", starts_ms)

    def hold_until_ms(self, age_ms: float, early_ms: float = ROUNDING_MS) -> float:
        """Up to which age to keep an instance that is there at `age_ms`; `age_ms` is released now.

        One that is there `early_ms` before a stretch begins is kept for it.
        """
        stretch = bisect_left(self._to, age_ms)
        if stretch < len(self._to) and self._from[stretch] <= age_ms + early_ms:
            return self._to[stretch]
        return age_ms

    def prewarm_ms(self, age_ms: float) -> float:
        """At which later age to start one if none is there; inf is never."""
        start = bisect_right(self._starts, age_ms)
        return self._starts[start] if start < len(self._starts) else inf

    def cost_of(
        self, gap_ms: float, past_ms: float, sure_ms: float, hold_cost: float, miss_cost: float
    ) -> float:
        """What following the plan would have cost on an idle time of `gap_ms`.

        Ages of the plan count from `past_ms` before it; the instance is kept to `sure_ms` anyway.
        """
        age_ms = sure_ms
        held_ms = sure_ms
        while True:
            until_ms = self.hold_until_ms(age_ms + past_ms) - past_ms
            held_ms += min(until_ms, gap_ms) - age_ms
            if gap_ms <= until_ms:
                return held_ms * hold_cost
            again_ms = self.prewarm_ms(until_ms + past_ms) - past_ms
            ready_ms = again_ms + self._start_ms
            if gap_ms < ready_ms:
                # What a start under way saves of a miss is the part of it already done.
                # One that takes no time is never under way.
                under_way = gap_ms > again_ms
                share = 1.0 - (gap_ms - again_ms) / self._start_ms if under_way else 1.0
                return held_ms * hold_cost + share * miss_cost
            held_ms += self._start_ms
            age_ms = max(ready_ms, until_ms)


class Prior:
    """What is believed of idle times before any is seen: so much weight, spread evenly between the
    quantiles `to_ms`, shape (n,), in order; what lies beyond the last of them, half of what lies
    between two, follows a Pareto law of index TAIL."""

    __slots__ = ("_log_from", "_octave", "_surviving", "_weights", "nothing", "to_ms", "weight")

    def __init__(self, to_ms: FloatArray, weight: float) -> None:
        last_ms = max(float(to_ms[-1]), 1.0) if len(to_ms) else 1.0
        times = np.exp2(np.arange(1.0, np.log2(max(TAIL_MS / last_ms, 2.0)) + 1.0))
        count = len(to_ms)
        self.weight = weight
        self.to_ms = np.concatenate((to_ms, last_ms * times)) if count else to_ms
        self.nothing = np.zeros(len(self.to_ms))
        reached = (np.arange(count) + 0.5) / max(count, 1)
        beyond = (1.0 - 0.5 / max(count, 1)) + 0.5 / max(count, 1) * (1.0 - times**-TAIL)
        log_from = np.log(np.concatenate(([0.0], self.to_ms)) + LOG_FROM_MS)
        weights = weight * np.concatenate(([0.0], reached, beyond if count else []))
        # Cut at the octaves as well: what was seen scales one against the other.
        octaves = np.log(_OCTAVES_MS + LOG_FROM_MS)
        self._log_from: FloatArray = np.union1d(log_from, octaves)
        self._weights = np.interp(self._log_from, log_from, weights)
        self._octave = np.searchsorted(octaves, self._log_from[:-1], side="right") - 1
        self._surviving = np.maximum(weight - np.interp(octaves, log_from, weights), 1e-12)

    def given(self, gaps_ms: FloatArray, weights: FloatArray) -> tuple[Prior, FloatArray]:
        """What is believed once idle times were seen that weigh so, shapes (n,); and these in the same
        measure.

        At every age it counts as `weight` idle times that lasted so long, however few of those seen did
        (a beta process of constant concentration; N. Hjort, Annals of Statistics 18, 1990): an app
        that calls every second has as little to say of idle times of hours as a new one.
        """
        octave = np.searchsorted(_OCTAVES_MS, gaps_ms, side="right") - 1
        ended = np.bincount(octave, weights, len(_OCTAVES_MS))
        reached = ended[::-1].cumsum()[::-1]
        surviving = self._surviving
        ends = 1.0 - np.append(surviving[1:], 0.0) / surviving
        stays = 1.0 - (ended + self.weight * ends) / (reached + self.weight)
        alive = (reached[0] + self.weight) * np.append(1.0, np.cumprod(stays[:-1]))
        each = alive / (reached + self.weight)
        among = copy(self)
        scale = (each * self.weight / surviving)[self._octave]
        among._weights = np.append(0.0, np.cumsum(np.diff(self._weights) * scale))
        told: FloatArray = weights * each[octave]
        return among, told

    def weight_before(self, ages_ms: FloatArray) -> FloatArray:
        """How much of it lies before each age. Shapes (m,)."""
        return np.interp(np.log(ages_ms + LOG_FROM_MS), self._log_from, self._weights)

    def shares(self, bounds_ms: FloatArray) -> FloatArray:
        """How much of it lies between each of the bounds and the next. Shapes (m,) to (m - 1,)."""
        return np.diff(self.weight_before(bounds_ms))


def spread(
    samples_ms: FloatArray, weights: FloatArray, *, drift_share: float = DRIFT_SHARE
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Each sample as five points across the stretch it stands for. Shapes (n,) to (5 n,).

    Returns the points, their weights, and how far each point's share of the stretch reaches.
    """
    order = samples_ms.argsort()
    ages = samples_ms[order]
    count = len(ages)
    reach = JITTER_MS + drift_share * ages
    neighbours = max(2, round(NEIGHBOURS_PER_ROOT * sqrt(count)))
    if count > neighbours:
        wide, narrow = _stretch(ages, neighbours), _stretch(ages, 2)
        np.maximum(reach, np.where(AGREE * narrow < wide, narrow, wide), out=reach)
    else:
        np.maximum(reach, LONE_SHARE * ages, out=reach)
    # One point of each sample after the other: five runs in order, which sort faster.
    points = (ages + reach * _OFFSETS).ravel()
    each = len(_OFFSETS)
    weight, reach = weights[order] / each, reach / (each - 1)
    return points, np.concatenate((weight,) * each), np.concatenate((reach,) * each)


def _stretch(ages: FloatArray, others: int) -> FloatArray:
    """The width of the narrowest stretch that holds it and so many others, for each of sorted `ages`.

    Shapes (n,).
    """
    widths = np.full(len(ages) + others, inf)
    np.subtract(ages[others:], ages[:-others], out=widths[others : len(ages)])
    # The least of so many in a row from the least of 1, 2, 4, ...: a quarter of the time that a
    # sliding window takes.
    in_a_row = 1
    while 2 * in_a_row <= others + 1:
        widths = np.minimum(widths[:-in_a_row], widths[in_a_row:])
        in_a_row *= 2
    more = others + 1 - in_a_row
    return np.minimum(widths[:-more], widths[more:]) if more else widths


def plan(
    ages_ms: FloatArray,
    weights: FloatArray,
    reaches_ms: FloatArray,
    prior: Prior,
    *,
    hold_cost: float,
    miss_cost: float,
    start_ms: float,
) -> Plan:
    """The cheapest plan for a next use at age `ages_ms[i]`, give or take `reaches_ms[i]`, with
    weight `weights[i]`, or anywhere that the prior says; shapes (n,). Costs are in one unit,
    `hold_cost` of it a millisecond.
    """
    # The prior's points make steps; its weight lies between them.
    age = np.concatenate((ages_ms, prior.to_ms))
    order = age.argsort(kind="stable")  # runs in order: faster
    age = np.maximum(age[order], 0.0)
    weight = np.concatenate((weights, prior.nothing))[order]
    reach = np.concatenate((reaches_ms, prior.nothing))[order]
    # Holes: where no point reaches. Steps: what lies between two holes of a start or more, cut
    # where age grows by a factor.
    from_ms = np.minimum.accumulate((age - reach)[::-1])[::-1]
    to_ms = np.maximum.accumulate(age + reach)
    grid = (np.log(age + 1.0) * _STEPS_PER_E).astype(np.int64)
    opens = np.empty(len(age), dtype=np.bool_)
    opens[0] = True
    opens[1:] = (from_ms[1:] - to_ms[:-1] > start_ms) | (grid[1:] != grid[:-1])
    begin = np.flatnonzero(opens)
    final = np.append(begin[1:], len(age)) - 1
    first, last = age[begin], age[final]
    mass = np.add.reduceat(weight, begin)
    moment = np.add.reduceat(weight * age, begin)
    before = np.concatenate(([0.0], last[:-1]))
    opening = np.maximum(from_ms[begin], before)
    closed = np.concatenate(([0.0], np.minimum(to_ms[final[:-1]], first[1:])))
    holes = opening - closed
    # What of the prior strays into the hole before each step, and what lies in the step.
    bounds = np.empty(2 * len(begin) + 1)
    bounds[:-1:2] = np.minimum(closed, opening)  # of two steps that reach into each other, too
    bounds[1::2] = np.maximum(closed, opening)
    bounds[-1] = inf
    shares = prior.shares(bounds)
    strays, within = shares[::2], shares[1::2]
    mass += within
    moment += within * (first + last) / 2.0
    alive = np.cumsum((mass + strays)[::-1])[::-1] - strays
    inside = hold_cost * (moment - mass * first + (alive - mass) * (last - first))
    # What a step costs by what was decided before it; shapes (steps,).
    hole_cost = hold_cost * (alive + strays / 2.0)
    to_first = hole_cost * (first - before)
    to_start = hole_cost * (start_ms + first - opening)
    room = np.full(len(begin), inf)  # for a start, before the step opens
    room[1:] = opening[1:] - first[:-1]
    to_start[room <= start_ms] = inf
    keep_from: list[float] = []  # backwards, as the steps are gone through
    keep_to: list[float] = []
    starts: list[float] = []
    there = gone = 0.0
    held = False  # the step after this one, from the end of this one on
    for (
        inside_cost,
        miss,
        stray,
        start,
        through,
        fits,
        hole,
        before_ms,
        open_ms,
        first_ms,
        last_ms,
    ) in zip(
        inside[::-1].tolist(),
        (mass * miss_cost)[::-1].tolist(),
        (strays * miss_cost)[::-1].tolist(),
        to_start[::-1].tolist(),
        to_first[::-1].tolist(),
        (holes > start_ms)[::-1].tolist(),
        hole_cost[::-1].tolist(),
        before[::-1].tolist(),
        opening[::-1].tolist(),
        first[::-1].tolist(),
        last[::-1].tolist(),
        strict=True,
    ):
        kept = inside_cost + there
        missed = miss + gone
        # Gone since an earlier step, a start fits before this one; released only now, it must fit
        # into the hole.
        restarted = start + kept
        restarts = restarted < missed
        gone = (restarted if restarts else missed) + stray
        there = through + kept
        released = (restarted if restarts and fits else missed) + stray
        if kept <= missed:
            if not held:
                keep_from.append(0.0)
                keep_to.append(last_ms)
            held = there <= released
            if held:
                keep_from[-1] = before_ms
            elif restarts:
                keep_from[-1] = open_ms - start_ms
            else:
                keep_from[-1] = max(before_ms, first_ms - (missed - kept) / hole)
        else:
            held = False
        if restarts:
            starts.append(open_ms - start_ms)
        if there > released:
            there = released
    # Of an app that calls like a clock, all that is believed may lie before the only step.
    worth_ms = max(0.0, gone - there) / float(alive[0] + strays[0])
    return Plan(start_ms, keep_from[::-1], keep_to[::-1], starts[::-1], worth_ms)
