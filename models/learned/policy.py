"""The learned policy: idle times per level that keep learning, decisions from one price.

**Levels.** Instances are reused most recently idle first, so level k of an app is in use exactly
while k or more of its requests are there at once. Its idle times are a property of the traffic, and
the problem splits into one small one per level: see `warmscaler.models.learned.plan` for its solution.

**The price** says how many seconds of waiting a GB·s is worth; with it, memory and waiting are one
currency and every decision is taken alone.

**Waiting can be right.** Requests are bound late. For the first level a miss costs a start; for
level k > 1 it costs at most the time until level k would have been left again, which is learned per
level: often a few ms, and then no instance is kept or started for it.

**Learning.** Each level keeps its recent idle times; older ones weigh less, and one population prior
stands behind them. An app that was never seen starts from the prior alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf

from warmscaler.models.learned.habits import (
    MAX_LEVELS,
    PERIODS_MS,
    PRICE_RANGE,
    AppHabits,
    Model,
    is_price,
)
from warmscaler.models.learned.level import Level
from warmscaler.models.learned.plan import DRIFT_SHARE, NOTHING, Plan, Prior, plan, spread
from warmscaler.models.learned.remembered import MOST_LEVELS, pack, unpack
from warmscaler.models.outlook import Outlook
from warmscaler.models.policy import AppPolicy, Policy, Pool

PRIOR_WEIGHT = 0.2
"""The population prior weighs as much as this many fresh idle times."""
SURE_SHARE = 0.005
SURE_MS = 500.0
"""An instance is kept at least SURE_SHARE of the time whose cost equals a miss: not worth a plan."""
WORTH_GAPS = 2.0
"""An instance started out of turn counts as there for that many idle times to come."""
FILLED_BELOW = 2
"""A level is started ahead where at most this many instances make it up, its own among them."""
REPLAN_GAPS = 50
REPLAN_SHARE = 0.1
"""A level is planned anew when its idle times are this share more than they were, or so many."""
CROWD_SMOOTHING = 0.05
RULE = "keeps an instance, or starts one ahead, where that costs less than the waiting it spares"


class _LearnedApp(AppPolicy):
    __slots__ = (
        "_crowd",
        "_crowd_now",
        "_crowd_since_ms",
        "_hold_cost",
        "_levels",
        "_policy",
        "_wakes",
    )

    def __init__(self, policy: Learned, memory_mb: int, habits: AppHabits | None) -> None:
        super().__init__()
        self._policy = policy
        self._hold_cost = policy.price * memory_mb / 1024.0
        """Milliseconds of waiting that a millisecond of an instance is worth."""
        self._levels: list[Level] = []
        self._wakes: dict[int, float] = {}
        self._crowd = 1.0
        """Requests that a start of the first level keeps waiting, by the share they wait of it."""
        self._crowd_now = 1.0
        self._crowd_since_ms = -inf
        if habits is not None:
            self._remember(habits)

    def _remember(self, habits: AppHabits) -> None:
        sure_ms = self._sure_ms(habits.start_ms)
        for number, known in enumerate(habits.levels, start=1):
            level = self._level(number)
            for gap_ms, left_ms in zip(*known.beyond(sure_ms), strict=True):
                level.add_gap(left_ms, gap_ms)
            level.covered_ms = known.covered_ms
            level.excess_ms = known.excess_ms

    def relearn(self, policy: Learned, key: str, memory_mb: int, until_ms: float) -> None:
        """Follows another policy from now on, and keeps what was seen here; see `Learned.adopt`."""
        habits = policy.model.apps.get(key)
        self._policy = policy
        self._hold_cost = policy.price * memory_mb / 1024.0
        known = () if habits is None else habits.levels
        if known:
            self._level(len(known))
        sure_ms = self._sure_ms(policy.start_ms(key, memory_mb, ""))
        for number, level in enumerate(self._levels):
            level.relearn(known[number] if number < len(known) else None, sure_ms, until_ms)

    def learned(self) -> bytes:
        """What was seen here, as bytes; of the first levels only, so that it is told at once."""
        return pack(self._crowd, [level.seen_here() for level in self._levels[:MOST_LEVELS]])

    def recall(self, learned: bytes, key: str, memory_mb: int, until_ms: float) -> None:
        """The inverse, into an app that saw nothing yet; see `Learned.recall`."""
        self._crowd, levels = unpack(learned)
        self._levels = []
        for number, seen in enumerate(levels[:MAX_LEVELS], start=1):
            level = self._level(number)
            for left_ms, gap_ms in zip(seen.lefts_ms, seen.gaps_ms, strict=True):
                level.add_gap(left_ms, gap_ms)
        self.relearn(self._policy, key, memory_mb, until_ms)
        for level, seen in zip(self._levels, levels, strict=False):
            if seen.covered_ms >= 0.0:
                level.covered_ms, level.excess_ms = seen.covered_ms, seen.excess_ms

    @property
    def levels(self) -> Sequence[Level]:
        """What is known of each level, the first first."""
        return self._levels

    # The scheduler's questions

    def arrival(self, now_ms: float, pool: Pool) -> int:
        number = pool.busy + len(pool.waiting)
        start_ms = pool.start_ms
        if number <= MAX_LEVELS:
            level = self._level(number)
            level.taken_ms = now_ms
            if level.left_ms >= 0.0:
                gap_ms = now_ms - level.left_ms
                sure_ms = self._sure_ms(start_ms)
                if gap_ms > sure_ms:
                    if level.plans:
                        miss_cost = self._miss_cost_ms(number, level, start_ms)
                        level.judge(gap_ms, self._hold_cost, miss_cost, sure_ms)
                    level.add_gap(level.left_ms, gap_ms)
            if self._wakes:
                self._wakes.pop(number, None)
        behind_ms = now_ms - self._crowd_since_ms
        if behind_ms < start_ms:
            self._crowd_now += 1.0 - behind_ms / start_ms
        else:
            self._crowd += CROWD_SMOOTHING * (self._crowd_now - self._crowd)
            self._crowd_now = 1.0
            self._crowd_since_ms = now_ms
        return self._missing(now_ms, pool) if pool.waiting else 0

    def completion(self, now_ms: float, pool: Pool) -> None:
        number = pool.busy + len(pool.waiting) + 1
        if number <= MAX_LEVELS:
            level = self._level(number)
            level.left_ms = now_ms
            level.add_use(now_ms - level.taken_ms, pool.start_ms)

    def idle(self, now_ms: float, pool: Pool) -> float:
        number = pool.busy + 1
        if number > MAX_LEVELS:
            return now_ms
        sure_ms = self._sure_ms(pool.start_ms)
        todo = self._plan(number, pool)
        past_ms = self._level(number).past_ms()
        return now_ms + max(sure_ms, todo.hold_until_ms(sure_ms + past_ms) - past_ms)

    def ready(self, now_ms: float, pool: Pool) -> float:
        number = pool.busy + len(pool.waiting) + len(pool.idle)
        if number > MAX_LEVELS:
            return now_ms
        level = self._level(number)
        if level.left_ms < 0.0:
            level.left_ms = now_ms  # never in use yet: its idle time starts now
        return self._keep(now_ms, pool, number)

    def expiry(self, now_ms: float, pool: Pool, level: int) -> float:
        if level > MAX_LEVELS:
            return now_ms
        until_ms = self._keep(now_ms, pool, level)
        last = pool.busy + len(pool.idle) + pool.starting
        if until_ms <= now_ms and level < last <= MAX_LEVELS:
            self._move_down(now_ms, pool, level, last)
        return until_ms

    def resized(self, pool: Pool) -> None:
        self._hold_cost = self._policy.price * pool.memory_mb / 1024.0
        for level in self._levels:
            level.plans = []

    def wake(self, now_ms: float, pool: Pool) -> int:
        starts = 0
        here = pool.busy + pool.starting + len(pool.idle)
        demand = pool.busy + len(pool.waiting)
        for number in sorted(self._wakes):
            if self._wakes[number] <= now_ms:
                del self._wakes[number]
                # The levels below come into use first, so they must be filled as well; where
                # more than one is empty, their own plans know better.
                if demand < number and here + starts >= number - FILLED_BELOW:
                    starts = max(starts, number - here)
        if pool.waiting:
            starts += self._missing(now_ms, pool)
        self._wake_at(min(self._wakes.values(), default=inf))
        return starts

    def outlook(self, now_ms: float, pool: Pool) -> Outlook:
        """Of the level that the next request would take."""
        number = pool.busy + len(pool.waiting) + 1
        known = self._levels[number - 1] if number <= len(self._levels) else None
        return Outlook(
            rule=RULE,
            expected=None if known is None else known.expected(now_ms, PRIOR_WEIGHT),
            start_ms=min(self._wakes.values(), default=inf),
        )

    # How

    def _level(self, number: int) -> Level:
        levels = self._levels
        while len(levels) < number:
            levels.append(Level())
        return levels[number - 1]

    def _sure_ms(self, start_ms: float) -> float:
        hold = self._hold_cost
        return max(SURE_MS, SURE_SHARE * start_ms * (1.0 + hold) / hold)

    def _wake_at(self, at_ms: float) -> None:
        if at_ms < self.wake_ms:
            self.wake_ms = at_ms

    def _keep(self, now_ms: float, pool: Pool, number: int) -> float:
        """Until when to keep an instance of a level; if no longer, when to start it again is set."""
        until_ms = self._held_until(now_ms, pool, number)
        if until_ms > now_ms + 1.0:
            return until_ms
        self._start_again(now_ms, pool, number)
        return now_ms

    def _held_until(self, now_ms: float, pool: Pool, number: int) -> float:
        """Until when a level's plan keeps an instance that is there; `now_ms` if it does not."""
        level = self._level(number)
        past_ms = level.past_ms()
        # Shorter idle times are not even recorded: to release it sooner is never right.
        age_ms = max(now_ms - level.left_ms, self._sure_ms(pool.start_ms))
        todo = self._plan(number, pool)
        return level.left_ms - past_ms + todo.hold_until_ms(age_ms + past_ms)

    def _move_down(self, now_ms: float, pool: Pool, level: int, last: int) -> None:
        """A level is released and the instances of those above move down one: it is the last that has
        none now, and that nobody will be asked about.

        If the last is still held when the one released is to be there again, and is worth a start,
        then both are; else the last is started for by its own plan.
        """
        back_ms = self._wakes.get(level, inf)
        worth_ms = WORTH_GAPS * self._plan(last, pool).worth_ms
        if (
            back_ms < self._held_until(now_ms, pool, last)
            and worth_ms > self._hold_cost * pool.start_ms
        ):
            self._wakes[last] = back_ms
        else:
            self._start_again(now_ms, pool, last)

    def _start_again(self, now_ms: float, pool: Pool, number: int) -> None:
        """Sets when to start an instance for a level that is released, now or at its next hold's end."""
        level = self._level(number)
        todo = self._plan(number, pool)
        past_ms = level.past_ms()
        age_ms = max(now_ms - level.left_ms, self._sure_ms(pool.start_ms)) + past_ms
        start_ms = level.left_ms - past_ms + todo.prewarm_ms(todo.hold_until_ms(age_ms))
        if start_ms < inf:
            self._wakes[number] = start_ms
            self._wake_at(start_ms)

    def _missing(self, now_ms: float, pool: Pool) -> int:
        """How many instances to start for the requests that wait: those whose start pays by what it
        spares them of waiting for a busy one, and the next requests of their level after them."""
        start_ms = pool.start_ms
        demand = pool.busy + len(pool.waiting)
        starts = 0
        for number in range(pool.busy + pool.starting + 1, demand + 1):
            if number == 1 or number > MAX_LEVELS:
                starts += 1
                continue
            level = self._level(number)
            saved_ms = level.excess_ms if level.covered_ms >= 0.0 else start_ms
            if saved_ms <= self._hold_cost * start_ms:
                saved_ms += WORTH_GAPS * self._plan(number, pool).worth_ms
            # Waiting for as long as a start would have taken says the level is in use for long.
            give_up_ms = level.taken_ms + start_ms
            if saved_ms > self._hold_cost * start_ms or now_ms >= give_up_ms:
                starts += 1
            else:
                self._wake_at(give_up_ms)
        return starts

    def _miss_cost_ms(self, number: int, level: Level, start_ms: float) -> float:
        if number == 1:
            return start_ms * (self._crowd + self._hold_cost)
        if level.covered_ms < 0.0:
            return start_ms
        extra = self._hold_cost * start_ms
        return level.covered_ms + (extra if level.excess_ms > extra else 0.0)

    def _plan(self, number: int, pool: Pool) -> Plan:
        level = self._level(number)
        if not level.plans:
            level.plans = [
                self._plan_on(period_ms, number, level, pool.start_ms) for period_ms in PERIODS_MS
            ]
            level.replan_at = level.seen + 1
        elif level.seen >= level.replan_at:
            # The clock gone by and one other, in turn, and not at once: no request waits for all.
            others = max(len(PERIODS_MS) - 1, 1)
            own = level.turn % 2 == 0
            step = 0 if own else 1 + level.turn // 2
            clock = (level.clock + step) % len(PERIODS_MS)
            level.plans[clock] = self._plan_on(PERIODS_MS[clock], number, level, pool.start_ms)
            level.turn = (level.turn + 1) % (2 * others)
            wait_gaps = 1 if own else min(REPLAN_GAPS, int(REPLAN_SHARE * level.seen)) - 1
            level.replan_at = level.seen + max(wait_gaps, 1)
        return level.plans[level.clock]

    def _plan_on(self, period_ms: float, number: int, level: Level, start_ms: float) -> Plan:
        ages = weights = reaches = NOTHING
        if level.gaps:
            gaps, lefts, weight = level.weighted_gaps()
            if period_ms:
                gaps = gaps + lefts % period_ms
            ages, weights, reaches = spread(
                gaps, weight, drift_share=0.0 if period_ms else DRIFT_SHARE
            )
        return plan(
            ages,
            weights,
            reaches,
            self._policy.prior,
            hold_cost=self._hold_cost,
            miss_cost=self._miss_cost_ms(number, level, start_ms),
            start_ms=start_ms,
        )


class Learned(Policy):
    """Habits per app and level, and the price."""

    name = "learned"
    late_binding = True

    def __init__(self, model: Model | None = None, price: float | None = None) -> None:
        """`model` None is the built-in prior; the price None is the model's own."""
        self.model = model or Model()
        self.price = self.model.price_s_per_gb_s if price is None else price
        """Seconds of waiting that a GB·s is worth."""
        if not is_price(self.price):
            raise ValueError(f"the price is {self.price:g}: {PRICE_RANGE}")
        self.prior = Prior(self.model.prior_ms, PRIOR_WEIGHT)
        self.until_ms = 0.0
        """When the training of the model ended, for whoever knows it: see `adopt`."""

    def app(self, key: str, memory_mb: int, runtime: str) -> AppPolicy:
        return _LearnedApp(self, memory_mb, self.model.apps.get(key))

    def start_ms(self, key: str, memory_mb: int, runtime: str) -> float:
        habits = self.model.apps.get(key)
        return self.model.start_ms if habits is None else habits.start_ms

    def clocks(self, pools: Iterable[Pool]) -> dict[float, int]:
        """The idle times seen in `pools`, by the period (ms) of the clock their level goes by."""
        seen = dict.fromkeys(PERIODS_MS, 0)
        for pool in pools:
            if isinstance(pool.policy, _LearnedApp):
                for level in pool.policy.levels:
                    seen[PERIODS_MS[level.clock]] += level.seen
        return seen

    def adopt(self, pool: Pool, until_ms: float) -> None:
        """Takes over a pool from another learned policy, with all that was learned online since.

        `until_ms` is when the training of this policy's model ended. A pool of another kind of
        policy is left to it.
        """
        if isinstance(pool.policy, _LearnedApp):
            pool.policy.relearn(self, pool.key, pool.memory_mb, until_ms)

    def learned(self, pool: Pool) -> bytes | None:
        """The idle times of each level as seen online."""
        return pool.policy.learned() if isinstance(pool.policy, _LearnedApp) else None

    def recall(self, pool: Pool, learned: bytes) -> None:
        """On top of what the model says of the app, as far as the model does not know it."""
        if isinstance(pool.policy, _LearnedApp):
            pool.policy.recall(learned, pool.key, pool.memory_mb, self.until_ms)
