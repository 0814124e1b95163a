"""The learned policy of one app: what its levels know, and the answers to the scheduler."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf

from warmscaler.models.learned.ahead import Ahead
from warmscaler.models.learned.crowd import Crowd
from warmscaler.models.learned.habits import MAX_LEVELS, PERIODS_MS, AppHabits
from warmscaler.models.learned.level import BUSY_SMOOTHING, SURE_MS, Level
from warmscaler.models.learned.plan import ROUNDING_MS, Plan, Prior
from warmscaler.models.learned.queue import saved_ms
from warmscaler.models.learned.remembered import MOST_LEVELS, LevelSeen, pack, unpack
from warmscaler.models.learned.traffic import Traffic
from warmscaler.models.objectives.price import Price
from warmscaler.models.outlook import Outlook
from warmscaler.models.policy import AppPolicy, Pool, Wait

PRIOR_WEIGHT = 0.6
"""The population prior weighs as much as this many fresh idle times."""
SURE_SHARE = 0.005
"""An instance is kept at least this share of the time whose cost equals a miss: not worth a plan."""
WORTH_GAPS = 2.0
"""An instance started out of turn counts as there for that many idle times to come."""
REPLAN_GAPS = 50
REPLAN_SHARE = 0.1
"""A level is planned anew when its idle times are this share more than they were, or so many."""
REPLAN_USES = 1.25
"""And when it was in use so many times as often: what a miss costs is learned by then."""
RULE = "keeps an instance, or starts one ahead, where that costs less than the waiting it spares"


class LearnedApp(AppPolicy):
    __slots__ = (
        "_ahead",
        "_crowd",
        "_levels",
        "_memory_gb",
        "_price",
        "_prior",
        "_traffic",
        "_use_ms",
    )

    def __init__(
        self, price: Price, prior: Prior, memory_mb: int, habits: AppHabits | None
    ) -> None:
        """`price` is read at every decision; `habits` are what training knows of the app."""
        super().__init__()
        self._price, self._prior, self._memory_gb = price, prior, memory_mb / 1024.0
        self._levels: list[Level] = []
        self._ahead = Ahead()
        self._traffic = Traffic()
        self._use_ms = 0.0
        """Mean execution, of the requests that waited; 0 before the first."""
        self._crowd = Crowd()
        """Behind a start of the first level."""
        if habits is not None:
            self._remember(habits)

    def _remember(self, habits: AppHabits) -> None:
        self._use_ms, self._crowd.mean = habits.use_ms, habits.crowd
        self._crowd.windows = sum(level.uses for level in habits.levels)
        for number, known in enumerate(habits.levels, start=1):
            level = self._level(number)
            level.covered_ms, level.excess_ms = known.covered_ms, known.excess_ms
            level.behind, level.uses = known.behind, known.uses
            level.sure_ms = self._sure_ms(number, level, habits.start_ms)
            for gap_ms, left_ms in zip(*known.beyond(level.sure_ms), strict=True):
                level.add_gap(left_ms, gap_ms)

    def relearn(
        self,
        price: Price,
        prior: Prior,
        memory_mb: int,
        habits: AppHabits | None,
        *,
        start_ms: float,
        until_ms: float,
    ) -> None:
        """Goes by another model from now on, and keeps what was seen here; see `Learned.adopt`."""
        self._price, self._prior, self._memory_gb = price, prior, memory_mb / 1024.0
        known = () if habits is None else habits.levels
        if known:
            self._level(len(known))
        if habits is not None and not self._use_ms:
            self._use_ms = habits.use_ms
        for number, level in enumerate(self._levels, start=1):
            level.relearn(known[number - 1] if number <= len(known) else None, until_ms)
            level.sure_ms = self._sure_ms(number, level, start_ms)

    def learned(self) -> bytes:
        """What was seen here, as bytes; of the first levels only, so that it is told at once."""
        return pack(self._crowd.mean, [level.seen_here() for level in self._levels[:MOST_LEVELS]])

    def recall(self, learned: bytes) -> list[LevelSeen]:
        """The inverse, into an app that saw nothing yet; `relearn` is to follow, and `remember_uses`
        with what is returned. Raises ValueError as `unpack` does."""
        self._crowd.mean, levels = unpack(learned)
        self._crowd.windows = sum(len(level.gaps_ms) for level in levels)
        self._levels = []
        for number, seen in enumerate(levels[:MAX_LEVELS], start=1):
            level = self._level(number)
            for left_ms, gap_ms in zip(seen.lefts_ms, seen.gaps_ms, strict=True):
                level.add_gap(left_ms, gap_ms)
        return levels

    def remember_uses(self, levels: Iterable[LevelSeen]) -> None:
        """How long levels were in use is known better from what was seen than from a model."""
        for level, seen in zip(self._levels, levels, strict=False):
            if seen.covered_ms >= 0.0:
                level.covered_ms, level.excess_ms = seen.covered_ms, seen.excess_ms

    @property
    def levels(self) -> Sequence[Level]:
        """What is known of each level, the first first."""
        return self._levels

    @property
    def _hold_cost(self) -> float:
        """Milliseconds of waiting that a millisecond of an instance is worth."""
        return self._price.s_per_gb_s * self._memory_gb

    # The scheduler's questions

    def arrival(self, now_ms: float, pool: Pool) -> int:
        start_ms, traffic = pool.start_ms, self._traffic
        if pool.waiting or traffic.behind:
            self._told(traffic.arrived(now_ms, waits=bool(pool.waiting)), start_ms)
        else:
            traffic.at_once += 1
            self._taken(now_ms, traffic.at_once, start_ms)
        self._ahead.drop(pool.busy + len(pool.waiting))
        self._crowd.arrived(now_ms, start_ms)
        return self._missing(now_ms, pool) if pool.waiting else 0

    def served(self, now_ms: float, pool: Pool, arrived_ms: float) -> None:
        self._told(self._traffic.served(now_ms, arrived_ms), pool.start_ms)

    def completion(self, now_ms: float, pool: Pool, wait: Wait | None = None) -> None:
        traffic = self._traffic
        if wait is not None:
            use_ms = max(now_ms - wait.to_ms, 1.0)
            self._use_ms += (BUSY_SMOOTHING if self._use_ms else 1.0) * (use_ms - self._use_ms)
        if wait is not None or traffic.behind:
            self._told(traffic.completed(now_ms, wait), pool.start_ms)
        else:
            self._left(now_ms, traffic.at_once, pool.start_ms)
            traffic.at_once -= 1

    def gone(self, now_ms: float, pool: Pool, arrived_ms: float) -> None:
        self._told(self._traffic.gone(now_ms, arrived_ms), pool.start_ms)

    def _told(self, events: Iterable[tuple[float, int, bool]], start_ms: float) -> None:
        for at_ms, number, taken in events:
            if taken:
                self._taken(at_ms, number, start_ms)
            else:
                self._left(at_ms, number, start_ms)

    def _taken(self, at_ms: float, number: int, start_ms: float) -> None:
        """A request of the traffic came, and with it so many were there."""
        if number > MAX_LEVELS:
            return
        level = self._level(number)
        level.taken_ms = at_ms
        if level.left_ms >= 0.0:
            gap_ms = at_ms - level.left_ms
            if gap_ms > level.sure_ms and level.left_ms != level.ready_ms:
                if level.plans:
                    miss_cost = self._miss_cost_ms(number, level, start_ms)
                    level.judge(gap_ms, self._hold_cost, miss_cost)
                level.add_gap(level.left_ms, gap_ms)

    def _left(self, at_ms: float, number: int, start_ms: float) -> None:
        """A request of the traffic went, and without it one less than so many were there."""
        if number > MAX_LEVELS:
            return
        level = self._level(number)
        level.left_ms = at_ms
        level.add_use(at_ms - level.taken_ms, start_ms)

    def idle(self, now_ms: float, pool: Pool) -> float:
        """For so long as it is kept anyway: nearly all are used again by then, and only what is not
        is planned for (`expiry`). No request's end waits for a plan."""
        number = pool.busy + 1
        return now_ms + self._level(number).sure_ms if number <= MAX_LEVELS else now_ms

    def ready(self, now_ms: float, pool: Pool) -> float:
        self._told(self._traffic.known(now_ms), pool.start_ms)
        number = pool.busy + len(pool.waiting) + len(pool.idle)
        if number > MAX_LEVELS:
            return now_ms
        level = self._level(number)
        if level.left_ms < 0.0:  # never in use yet: its age counts from now
            level.left_ms = level.ready_ms = now_ms
        # Starts vary: one that is early for what it was started for is kept for it.
        ahead = level.called_ms >= level.left_ms
        return self._keep(now_ms, pool, number, pool.start_ms if ahead else ROUNDING_MS)

    def expiry(self, now_ms: float, pool: Pool, level: int) -> float:
        if level > MAX_LEVELS:
            return now_ms
        self._told(self._traffic.known(now_ms), pool.start_ms)
        until_ms = self._keep(now_ms, pool, level)
        last = pool.busy + len(pool.idle) + pool.starting
        if until_ms <= now_ms and level < last <= MAX_LEVELS:
            self._move_down(now_ms, pool, level, last)
        return until_ms

    def broke(self, now_ms: float, pool: Pool) -> int:
        """Another one where the level that is without would have kept it, and spares more than it costs."""
        if pool.waiting:
            return self._missing(now_ms, pool)
        number, start_ms = pool.busy + len(pool.idle) + pool.starting + 1, pool.start_ms
        if number > MAX_LEVELS or (level := self._level(number)).left_ms < 0.0:
            return 0
        if self._held_until(now_ms, pool, number) > now_ms + start_ms:
            spares_ms = self._miss_cost_ms(number, level, start_ms) - level.costs[level.clock]
            if spares_ms > self._hold_cost * start_ms:
                level.called_ms = now_ms
                return 1
        self._start_again(now_ms, pool, number)
        return 0

    def resized(self, pool: Pool) -> None:
        self._memory_gb = pool.memory_mb / 1024.0
        for number, level in enumerate(self._levels, start=1):
            level.plans = []
            level.sure_ms = self._sure_ms(number, level, pool.start_ms)

    def wake(self, now_ms: float, pool: Pool) -> int:
        here, in_use = pool.busy + pool.starting + len(pool.idle), pool.busy + len(pool.waiting)
        starts, called, alone = self._ahead.due(now_ms, here=here, in_use=in_use)
        for number in called:
            self._level(number).called_ms = now_ms
        for number, below_ms in alone:  # together with those below, if it is wanted then
            ready_ms = below_ms + pool.start_ms
            if self._held_until(ready_ms, pool, number) > ready_ms:
                self._ahead.set(number, below_ms)
            else:
                self._start_again(below_ms, pool, number)
        if pool.waiting:
            starts += self._missing(now_ms, pool)
        self._wake_at(self._ahead.next_ms)
        return starts

    def outlook(self, now_ms: float, pool: Pool) -> Outlook:
        """Of the level that the next request would take."""
        number = pool.busy + len(pool.waiting) + 1
        known = self._levels[number - 1] if number <= len(self._levels) else None
        return Outlook(
            rule=RULE,
            expected=None if known is None else known.expected(now_ms, PRIOR_WEIGHT),
            start_ms=self._ahead.next_ms,
        )

    # How

    def _level(self, number: int) -> Level:
        levels = self._levels
        while len(levels) < number:
            levels.append(Level())
        return levels[number - 1]

    def _sure_ms(self, number: int, level: Level, start_ms: float) -> float:
        miss_ms = self._miss_cost_ms(number, level, start_ms) / self._hold_cost
        return max(SURE_MS, SURE_SHARE * (miss_ms + start_ms))

    def _wake_at(self, at_ms: float) -> None:
        if at_ms < self.wake_ms:
            self.wake_ms = at_ms

    def _keep(self, now_ms: float, pool: Pool, number: int, early_ms: float = ROUNDING_MS) -> float:
        """Until when to keep an instance of a level; if no longer, when to start it again is set."""
        until_ms = self._held_until(now_ms, pool, number, early_ms)
        if until_ms > now_ms + 1.0:
            return until_ms
        self._start_again(now_ms, pool, number)
        return now_ms

    def _held_until(
        self, now_ms: float, pool: Pool, number: int, early_ms: float = ROUNDING_MS
    ) -> float:
        """Until when a level's plan keeps an instance that is there; `now_ms` if it does not."""
        todo = self._todo(now_ms, number, pool)
        age_ms, from_ms = self._level(number).age_ms(now_ms)
        return from_ms + todo.hold_until_ms(age_ms, early_ms)

    def _move_down(self, now_ms: float, pool: Pool, level: int, last: int) -> None:
        """A level is released and the instances of those above move down one: it is the last that has
        none now, and that nobody will be asked about.

        If the last is still held when the one released is to be there again, and is worth a start,
        then both are; else the last is started for by its own plan.
        """
        back_ms = self._ahead.of(level)
        worth_ms = WORTH_GAPS * self._plan(last, pool).worth_ms
        if (
            back_ms < self._held_until(now_ms, pool, last)
            and worth_ms > self._hold_cost * pool.start_ms
        ):
            self._ahead.set(last, back_ms)
        else:
            self._start_again(now_ms, pool, last)

    def _start_again(self, now_ms: float, pool: Pool, number: int) -> None:
        """Sets when to start an instance for a level that is released, now or at its next hold's end."""
        todo = self._todo(now_ms, number, pool)
        age_ms, from_ms = self._level(number).age_ms(now_ms)
        start_ms = from_ms + todo.prewarm_ms(todo.hold_until_ms(age_ms) + 1.0)
        if start_ms < inf:
            self._ahead.set(number, start_ms)
            self._wake_at(start_ms)

    def _missing(self, now_ms: float, pool: Pool) -> int:
        """How many instances to start for the requests that wait: as long as one more spares them,
        or the next requests of its level, more waiting than it costs."""
        start_ms = pool.start_ms
        demand = pool.busy + len(pool.waiting)
        start_cost = self._hold_cost * start_ms
        starts = 0
        for number in range(pool.busy + pool.starting + 1, demand + 1):
            if number == 1 or not self._use_ms or not start_ms:
                starts += 1
                continue
            coming = 2.0 * (self._crowd.most - 1.0)
            saved = saved_ms(now_ms, pool, starts, use_ms=self._use_ms, coming=coming)
            if number <= MAX_LEVELS:
                level = self._level(number)
                saved = max(saved, level.excess_ms if level.covered_ms >= 0.0 else 0.0)
                if saved <= start_cost:
                    saved += WORTH_GAPS * self._plan(number, pool).worth_ms
                    # And those that come again at once.
                    saved += level.covered_ms * level.uses / (level.seen + 1.0)
            if saved <= start_cost:
                break
            starts += 1
        waiting = len(pool.waiting) - pool.starting - starts
        if waiting > 0:
            # Waiting for as long as a start would have taken says that they are in use for long.
            give_up_ms = next(iter(pool.waiting.values())) + start_ms
            if now_ms >= give_up_ms:
                starts += not (pool.starting or starts)
            else:
                self._wake_at(give_up_ms)
        return starts

    def _miss_cost_ms(self, number: int, level: Level, start_ms: float) -> float:
        if number == 1:
            return start_ms * (self._crowd.mean + self._hold_cost)
        if level.covered_ms < 0.0:
            # More than there ever were at once: as dear as the highest of those.
            known = next((e for e in self._levels[number - 2 :: -1] if e.covered_ms >= 0.0), None)
            return 0.0 if known is None else known.covered_ms * max(known.behind, 1.0)
        extra = self._hold_cost * start_ms
        behind_ms = level.behind_ms(start_ms)
        return behind_ms + (extra if level.excess_ms > extra else 0.0)

    def _todo(self, now_ms: float, number: int, pool: Pool) -> Plan:
        """The plan of a level for the idle time that is now."""
        return self._plan(number, pool)

    def _plan(self, number: int, pool: Pool) -> Plan:
        level = self._level(number)
        if level.price != self._price.s_per_gb_s:  # its clock first, the others in turn
            level.price, level.turn, level.replan_at = self._price.s_per_gb_s, 0, 0
        if not level.plans or level.uses >= level.replan_uses:
            # What a miss costs is learned with every use.
            level.replan_uses = int(level.uses * REPLAN_USES) + 10
            level.sure_ms = self._sure_ms(number, level, pool.start_ms)
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
        return level.plan_on(
            period_ms,
            self._prior,
            hold_cost=self._hold_cost,
            miss_cost=self._miss_cost_ms(number, level, start_ms),
            start_ms=start_ms,
        )
