"""What the learned policy knows of one level of an app, as it is learned at runtime."""

from __future__ import annotations

from array import array
from math import inf

import numpy as np

from warmscaler.models.learned.habits import MEMORY_GAPS, PERIODS_MS, LevelHabits
from warmscaler.models.learned.plan import (
    DRIFT_SHARE,
    NOTHING,
    FloatArray,
    Plan,
    Prior,
    plan,
    spread,
)
from warmscaler.models.learned.remembered import LevelSeen
from warmscaler.models.outlook import Expected, expected

DECAY_GAPS = 100.0
"""An idle time that many idle times ago weighs 1/e."""
_WEIGHTS = np.tile(np.exp(np.arange(1 - MEMORY_GAPS, 1) / DECAY_GAPS), 2)
"""By age, the newest last; twice, so that those of a ring are a slice wherever it begins."""
SURE_MS = 500.0
"""An instance is kept for so long in any case; shorter idle times are not told."""
BUSY_SMOOTHING = 0.02
"""Weight of a new observation of how long a level is in use: many are needed, they vary widely."""
REGRET_SMOOTHING = 0.03


def recency_weights(count: int) -> FloatArray:
    """What the newest `count` idle times weigh, at most MEMORY_GAPS, the oldest first."""
    return _WEIGHTS[MEMORY_GAPS - count : MEMORY_GAPS]


class Level:
    """Its idle times, how long it is in use, and the plans that follow."""

    __slots__ = (
        "behind",
        "called_ms",
        "clock",
        "costs",
        "covered_ms",
        "excess_ms",
        "gaps",
        "left_ms",
        "lefts",
        "plans",
        "price",
        "ready_ms",
        "replan_at",
        "replan_uses",
        "seen",
        "sure_ms",
        "taken_ms",
        "turn",
        "uses",
    )

    def __init__(self) -> None:
        self.left_ms = -1.0
        """When it was last left; below 0 never."""
        self.ready_ms = -1.0
        """Where it was there before it was ever in use: since when. That is no idle time of the traffic."""
        self.called_ms = -inf
        """When an instance was last started ahead for it."""
        self.taken_ms = 0.0
        self.gaps = array("d")
        self.lefts = array("d")
        """When each of the idle times began."""
        self.seen = 0
        """Idle times ever seen; they stand in `gaps` at `seen % MEMORY_GAPS`."""
        self.uses = 0
        """How often it was in use, since its idle times began to be told."""
        self.sure_ms = SURE_MS
        """To release it sooner than that after a use is not worth a plan; idle times that end sooner
        are not remembered."""
        self.covered_ms = -1.0
        self.excess_ms = 0.0
        """As in `LevelHabits`."""
        self.behind = 0.0
        """As in `LevelHabits`; 0 where no training told it."""
        self.plans: list[Plan] = []
        self.price = 0.0
        """That the plan gone by was made at, in seconds per GB·s."""
        self.costs = [0.0] * len(PERIODS_MS)
        """What following each clock's plan would have cost an idle time, on average of late."""
        self.clock = 0
        """The clock of the lowest cost."""
        self.replan_at = 0
        self.replan_uses = 0
        self.turn = 0

    def add_gap(self, left_ms: float, gap_ms: float) -> None:
        if len(self.gaps) < MEMORY_GAPS:
            self.gaps.append(gap_ms)
            self.lefts.append(left_ms)
        else:
            self.gaps[self.seen % MEMORY_GAPS] = gap_ms
            self.lefts[self.seen % MEMORY_GAPS] = left_ms
        self.seen += 1

    def judge(self, gap_ms: float, hold_cost: float, miss_cost: float) -> None:
        """Charges each clock's plan with what it would have cost on the idle time just ended."""
        for clock, followed in enumerate(self.plans):
            period_ms = PERIODS_MS[clock]
            past_ms = self.left_ms % period_ms if period_ms else 0.0
            cost = followed.cost_of(gap_ms, past_ms, self.sure_ms, hold_cost, miss_cost)
            self.costs[clock] += REGRET_SMOOTHING * (cost - self.costs[clock])
        self.clock = min(range(len(self.costs)), key=self.costs.__getitem__)

    def add_use(self, used_ms: float, start_ms: float) -> None:
        self.uses += 1
        excess_ms = max(used_ms - start_ms, 0.0)
        covered_ms = used_ms - excess_ms
        if self.covered_ms < 0.0:
            self.covered_ms = covered_ms
            self.excess_ms = excess_ms
        else:
            self.covered_ms += BUSY_SMOOTHING * (covered_ms - self.covered_ms)
            self.excess_ms += BUSY_SMOOTHING * (excess_ms - self.excess_ms)

    def behind_ms(self, start_ms: float) -> float:
        """What its requests wait in all where it has no instance until a start is done."""
        if self.behind:
            return self.behind * self.covered_ms
        # At least for as long as it would be in use meanwhile: those come again before the next idle time.
        again = max(self.uses / (self.seen + 1.0), 1.0)
        return max(min(again * self.covered_ms, start_ms), self.covered_ms)

    def age_ms(self, now_ms: float) -> tuple[float, float]:
        """Its age on the clock gone by, and when that was 0. It was left now where it was and the
        traffic does not tell yet when; a plan begins where idle times begin to be told."""
        since_ms = now_ms if self.taken_ms > self.left_ms else self.left_ms
        past_ms = self.past_ms()
        return max(now_ms - since_ms, self.sure_ms) + past_ms, since_ms - past_ms

    def relearn(self, known: LevelHabits | None, until_ms: float) -> None:
        """Puts what another model says in the place of what the last one said; what was seen here
        stays. `until_ms` is when that model's training ended: it knows what was seen before."""
        order = [at % MEMORY_GAPS for at in range(self.seen - len(self.gaps), self.seen)]
        seen = [at for at in order if self.lefts[at] > 0.0]
        twice = sum(self.lefts[at] <= until_ms for at in seen)
        gaps, lefts = array("d"), array("d")
        if known is not None:
            told, began = known.beyond(self.sure_ms)
            still = max(len(told) - twice, 0)
            gaps.extend(told[:still])
            lefts.extend(began[:still])
            self.behind = known.behind
            if self.left_ms < 0.0:  # never in use here
                self.covered_ms, self.excess_ms = known.covered_ms, known.excess_ms
        gaps.extend(self.gaps[at] for at in seen)
        lefts.extend(self.lefts[at] for at in seen)
        self.gaps, self.lefts = gaps[-MEMORY_GAPS:], lefts[-MEMORY_GAPS:]
        # Where the next one goes in a ring that begins with the oldest.
        self.seen = len(self.gaps)
        self.replan_at = 0  # the plans are followed until then, and planned one by one as ever

    def seen_here(self) -> LevelSeen:
        """What was seen at runtime, without what a model said."""
        order = (at % MEMORY_GAPS for at in range(self.seen - len(self.gaps), self.seen))
        own = [at for at in order if self.lefts[at] > 0.0]
        gaps, lefts = [self.gaps[at] for at in own], [self.lefts[at] for at in own]
        return LevelSeen(self.covered_ms, self.excess_ms, gaps, lefts)

    def past_ms(self) -> float:
        """How far the chosen clock had gone when the level was left."""
        period_ms = PERIODS_MS[self.clock]
        return self.left_ms % period_ms if period_ms else 0.0

    def weighted_gaps(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Idle times, when each began, and their weights."""
        gaps = np.frombuffer(self.gaps, dtype=np.float64).copy()
        lefts = np.frombuffer(self.lefts, dtype=np.float64).copy()
        first = -self.seen % MEMORY_GAPS
        return gaps, lefts, _WEIGHTS[first : first + len(gaps)]

    def plan_on(
        self,
        period_ms: float,
        prior: Prior,
        *,
        hold_cost: float,
        miss_cost: float,
        start_ms: float,
    ) -> Plan:
        """The cheapest by its idle times on the clock of that period; costs as `plan` takes them."""
        gaps, lefts, weights = self.weighted_gaps()
        if len(gaps):
            prior, weights = prior.given(gaps, weights)
        return plan(
            *self.points(gaps, lefts, weights, period_ms),
            prior,
            hold_cost=hold_cost,
            miss_cost=miss_cost,
            start_ms=start_ms,
        )

    @staticmethod
    def points(
        gaps_ms: FloatArray, lefts_ms: FloatArray, weights: FloatArray, period_ms: float
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Idle times that began so as `spread` spreads them, on the clock of that period."""
        if not len(gaps_ms):
            return NOTHING, NOTHING, NOTHING
        if period_ms:
            gaps_ms = gaps_ms + lefts_ms % period_ms
        return spread(gaps_ms, weights, drift_share=0.0 if period_ms else DRIFT_SHARE)

    def remembered(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """As `weighted_gaps`, the oldest first."""
        first = self.seen % MEMORY_GAPS if len(self.gaps) == MEMORY_GAPS else 0
        gaps, lefts = (
            np.array(each[first:] + each[:first], dtype=np.float64)
            for each in (self.gaps, self.lefts)
        )
        return gaps, lefts, recency_weights(len(gaps))

    def expected(self, now_ms: float, doubt: float) -> Expected | None:
        """When it will be needed next, by the idle times it remembers; None where it was never left."""
        if self.left_ms < 0.0 or not self.gaps:
            return None
        gaps, lefts, weights = self.weighted_gaps()
        period_ms = PERIODS_MS[self.clock]
        if period_ms:
            gaps = gaps + lefts % period_ms - self.past_ms()
        return expected(now_ms, self.left_ms, gaps, weights, doubt=doubt)
