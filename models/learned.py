"""The learned policy: idle times per place that keep learning, decisions from one price.

**Places.** Instances are reused most recently idle first, so place k of an app is in use exactly
while k or more of its requests are there at once. Its idle times are a property of the traffic, and
the problem splits into one small one per place: see `models.window` for its solution.

**The price** says how many seconds of waiting a GB·s is worth; with it, memory and waiting are one
currency and every decision is taken alone.

**Waiting can be right.** Requests are bound late. For the first place a miss costs a start; for
place k > 1 it costs at most the time until place k would have been left again, which is learned per
place: often a few ms, and then no instance is kept or started for it.

**Learning.** Each place keeps its recent idle times; older ones weigh less, and one population prior
stands behind them. An app that was never seen starts from the prior alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf

from models.habits import MAX_PLACES, PERIODS_MS, AppHabits, Model
from models.place import Place
from models.policy import AppPolicy, Policy, Pool
from models.remembered import MOST_PLACES, pack, unpack
from models.window import DRIFT_SHARE, NOTHING, Plan, Prior, plan, spread

PRIOR_WEIGHT = 0.2
"""The population prior weighs as much as this many fresh idle times."""
SURE_SHARE = 0.005
SURE_MS = 500.0
"""An instance is kept at least SURE_SHARE of the time whose cost equals a miss: not worth a plan."""
WORTH_GAPS = 2.0
"""An instance started out of turn counts as there for that many idle times to come."""
FILLED_BELOW = 2
"""A place is started ahead where at most this many instances make it up, its own among them."""
REPLAN_GAPS = 50
REPLAN_SHARE = 0.1
"""A place is planned anew when its idle times are this share more than they were, or so many."""
CROWD_SMOOTHING = 0.05


class _LearnedApp(AppPolicy):
    __slots__ = (
        "_crowd",
        "_crowd_now",
        "_crowd_since_ms",
        "_hold_cost",
        "_places",
        "_policy",
        "_wakes",
    )

    def __init__(self, policy: Learned, memory_mb: int, habits: AppHabits | None) -> None:
        super().__init__()
        self._policy = policy
        self._hold_cost = policy.price * memory_mb / 1024.0
        """Milliseconds of waiting that a millisecond of an instance is worth."""
        self._places: list[Place] = []
        self._wakes: dict[int, float] = {}
        self._crowd = 1.0
        """Requests that a start of the first place keeps waiting, by the share they wait of it."""
        self._crowd_now = 1.0
        self._crowd_since_ms = -inf
        if habits is not None:
            self._remember(habits)

    def _remember(self, habits: AppHabits) -> None:
        sure_ms = self._sure_ms(habits.start_ms)
        for number, known in enumerate(habits.places, start=1):
            place = self._place(number)
            for gap_ms, left_ms in zip(*known.beyond(sure_ms), strict=True):
                place.add_gap(left_ms, gap_ms)
            place.covered_ms = known.covered_ms
            place.excess_ms = known.excess_ms

    def relearn(self, policy: Learned, key: str, memory_mb: int, until_ms: float) -> None:
        """Follows another policy from now on, and keeps what was seen here; see `Learned.adopt`."""
        habits = policy.model.apps.get(key)
        self._policy = policy
        self._hold_cost = policy.price * memory_mb / 1024.0
        known = () if habits is None else habits.places
        if known:
            self._place(len(known))
        sure_ms = self._sure_ms(policy.start_ms(key, memory_mb, ""))
        for number, place in enumerate(self._places):
            place.relearn(known[number] if number < len(known) else None, sure_ms, until_ms)

    def learned(self) -> bytes:
        """What was seen here, as bytes; of the first places only, so that it is told at once."""
        return pack(self._crowd, [place.seen_here() for place in self._places[:MOST_PLACES]])

    def recall(self, learned: bytes, key: str, memory_mb: int, until_ms: float) -> None:
        """The inverse, into an app that saw nothing yet; see `Learned.recall`."""
        self._crowd, places = unpack(learned)
        self._places = []
        for number, seen in enumerate(places[:MAX_PLACES], start=1):
            place = self._place(number)
            for left_ms, gap_ms in zip(seen.lefts_ms, seen.gaps_ms, strict=True):
                place.add_gap(left_ms, gap_ms)
        self.relearn(self._policy, key, memory_mb, until_ms)
        for place, seen in zip(self._places, places, strict=False):
            if seen.covered_ms >= 0.0:
                place.covered_ms, place.excess_ms = seen.covered_ms, seen.excess_ms

    @property
    def places(self) -> Sequence[Place]:
        """What is known of each place, the first first."""
        return self._places

    # The scheduler's questions

    def arrival(self, now_ms: float, pool: Pool) -> int:
        number = pool.busy + len(pool.waiting)
        start_ms = pool.start_ms
        if number <= MAX_PLACES:
            place = self._place(number)
            place.taken_ms = now_ms
            if place.left_ms >= 0.0:
                gap_ms = now_ms - place.left_ms
                sure_ms = self._sure_ms(start_ms)
                if gap_ms > sure_ms:
                    if place.plans:
                        miss_cost = self._miss_cost_ms(number, place, start_ms)
                        place.judge(gap_ms, self._hold_cost, miss_cost, sure_ms)
                    place.add_gap(place.left_ms, gap_ms)
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
        if number <= MAX_PLACES:
            place = self._place(number)
            place.left_ms = now_ms
            place.add_use(now_ms - place.taken_ms, pool.start_ms)

    def idle(self, now_ms: float, pool: Pool) -> float:
        number = pool.busy + 1
        if number > MAX_PLACES:
            return now_ms
        sure_ms = self._sure_ms(pool.start_ms)
        todo = self._plan(number, pool)
        past_ms = self._place(number).past_ms()
        return now_ms + max(sure_ms, todo.hold_until_ms(sure_ms + past_ms) - past_ms)

    def ready(self, now_ms: float, pool: Pool) -> float:
        number = pool.busy + len(pool.waiting) + len(pool.idle)
        if number > MAX_PLACES:
            return now_ms
        place = self._place(number)
        if place.left_ms < 0.0:
            place.left_ms = now_ms  # never in use yet: its idle time starts now
        return self._keep(now_ms, pool, number)

    def expiry(self, now_ms: float, pool: Pool, level: int) -> float:
        if level > MAX_PLACES:
            return now_ms
        until_ms = self._keep(now_ms, pool, level)
        last = pool.busy + len(pool.idle) + pool.starting
        if until_ms <= now_ms and level < last <= MAX_PLACES:
            self._move_down(now_ms, pool, level, last)
        return until_ms

    def wake(self, now_ms: float, pool: Pool) -> int:
        starts = 0
        here = pool.busy + pool.starting + len(pool.idle)
        demand = pool.busy + len(pool.waiting)
        for number in sorted(self._wakes):
            if self._wakes[number] <= now_ms:
                del self._wakes[number]
                # The places below come into use first, so they must be filled as well; where
                # more than one is empty, their own plans know better.
                if demand < number and here + starts >= number - FILLED_BELOW:
                    starts = max(starts, number - here)
        if pool.waiting:
            starts += self._missing(now_ms, pool)
        self._wake_at(min(self._wakes.values(), default=inf))
        return starts

    # How

    def _place(self, number: int) -> Place:
        places = self._places
        while len(places) < number:
            places.append(Place())
        return places[number - 1]

    def _sure_ms(self, start_ms: float) -> float:
        hold = self._hold_cost
        return max(SURE_MS, SURE_SHARE * start_ms * (1.0 + hold) / hold)

    def _wake_at(self, at_ms: float) -> None:
        if at_ms < self.wake_ms:
            self.wake_ms = at_ms

    def _keep(self, now_ms: float, pool: Pool, number: int) -> float:
        """Until when to keep an instance of a place; if no longer, when to start it again is set."""
        until_ms = self._held_until(now_ms, pool, number)
        if until_ms > now_ms + 1.0:
            return until_ms
        self._start_again(now_ms, pool, number)
        return now_ms

    def _held_until(self, now_ms: float, pool: Pool, number: int) -> float:
        """Until when a place's plan keeps an instance that is there; `now_ms` if it does not."""
        place = self._place(number)
        past_ms = place.past_ms()
        # Shorter idle times are not even recorded: to let go sooner is never right.
        age_ms = max(now_ms - place.left_ms, self._sure_ms(pool.start_ms))
        todo = self._plan(number, pool)
        return place.left_ms - past_ms + todo.hold_until_ms(age_ms + past_ms)

    def _move_down(self, now_ms: float, pool: Pool, level: int, last: int) -> None:
        """A place is let go and the instances of those above move down one: it is the last that has
        none now, and that nobody will be asked about.

        If the last is still held when the one let go is to be there again, and is worth a start,
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
        """Sets when to start an instance for a place that is let go, now or at its next hold's end."""
        place = self._place(number)
        todo = self._plan(number, pool)
        past_ms = place.past_ms()
        age_ms = max(now_ms - place.left_ms, self._sure_ms(pool.start_ms)) + past_ms
        start_ms = place.left_ms - past_ms + todo.prewarm_ms(todo.hold_until_ms(age_ms))
        if start_ms < inf:
            self._wakes[number] = start_ms
            self._wake_at(start_ms)

    def _missing(self, now_ms: float, pool: Pool) -> int:
        """How many instances to start for the requests that wait: those whose start pays by what it
        spares them of waiting for a busy one, and the next requests of their place after them."""
        start_ms = pool.start_ms
        demand = pool.busy + len(pool.waiting)
        starts = 0
        for number in range(pool.busy + pool.starting + 1, demand + 1):
            if number == 1 or number > MAX_PLACES:
                starts += 1
                continue
            place = self._place(number)
            saved_ms = place.excess_ms if place.covered_ms >= 0.0 else start_ms
            if saved_ms <= self._hold_cost * start_ms:
                saved_ms += WORTH_GAPS * self._plan(number, pool).worth_ms
            # Waiting for as long as a start would have taken says the place is in use for long.
            give_up_ms = place.taken_ms + start_ms
            if saved_ms > self._hold_cost * start_ms or now_ms >= give_up_ms:
                starts += 1
            else:
                self._wake_at(give_up_ms)
        return starts

    def _miss_cost_ms(self, number: int, place: Place, start_ms: float) -> float:
        if number == 1:
            return start_ms * (self._crowd + self._hold_cost)
        if place.covered_ms < 0.0:
            return start_ms
        extra = self._hold_cost * start_ms
        return place.covered_ms + (extra if place.excess_ms > extra else 0.0)

    def _plan(self, number: int, pool: Pool) -> Plan:
        place = self._place(number)
        if not place.plans:
            place.plans = [
                self._plan_on(period_ms, number, place, pool.start_ms) for period_ms in PERIODS_MS
            ]
            place.replan_at = place.seen + 1
        elif place.seen >= place.replan_at:
            # The clock gone by and one other, in turn, and not at once: no request waits for all.
            others = max(len(PERIODS_MS) - 1, 1)
            own = place.turn % 2 == 0
            step = 0 if own else 1 + place.turn // 2
            clock = (place.clock + step) % len(PERIODS_MS)
            place.plans[clock] = self._plan_on(PERIODS_MS[clock], number, place, pool.start_ms)
            place.turn = (place.turn + 1) % (2 * others)
            wait_gaps = 1 if own else min(REPLAN_GAPS, int(REPLAN_SHARE * place.seen)) - 1
            place.replan_at = place.seen + max(wait_gaps, 1)
        return place.plans[place.clock]

    def _plan_on(self, period_ms: float, number: int, place: Place, start_ms: float) -> Plan:
        ages = weights = reaches = NOTHING
        if place.gaps:
            gaps, lefts, weight = place.weighted_gaps()
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
            miss_cost=self._miss_cost_ms(number, place, start_ms),
            start_ms=start_ms,
        )


class Learned(Policy):
    """Habits per app and place, and the price."""

    name = "learned"
    late_binding = True

    def __init__(self, model: Model | None = None, price: float | None = None) -> None:
        """`model` None is the built-in prior; the price None is the model's own."""
        self.model = model or Model()
        self.price = self.model.price_s_per_gb_s if price is None else price
        """Seconds of waiting that a GB·s is worth."""
        if not self.price > 0.0:
            raise ValueError(f"the price must be above 0 seconds per GB·s, not {price}")
        self.prior = Prior(self.model.prior_ms, PRIOR_WEIGHT)
        self.until_ms = 0.0
        """When the training of the model ended, for whoever knows it: see `adopt`."""

    def app(self, key: str, memory_mb: int, runtime: str) -> AppPolicy:
        return _LearnedApp(self, memory_mb, self.model.apps.get(key))

    def start_ms(self, key: str, memory_mb: int, runtime: str) -> float:
        habits = self.model.apps.get(key)
        return self.model.start_ms if habits is None else habits.start_ms

    def clocks(self, pools: Iterable[Pool]) -> dict[float, int]:
        """The idle times seen in `pools`, by the period (ms) of the clock their place goes by."""
        seen = dict.fromkeys(PERIODS_MS, 0)
        for pool in pools:
            if isinstance(pool.policy, _LearnedApp):
                for place in pool.policy.places:
                    seen[PERIODS_MS[place.clock]] += place.seen
        return seen

    def adopt(self, pool: Pool, until_ms: float) -> None:
        """Takes over a pool from another learned policy, with all that was learned online since.

        `until_ms` is when the training of this policy's model ended. A pool of another kind of
        policy is left to it.
        """
        if isinstance(pool.policy, _LearnedApp):
            pool.policy.relearn(self, pool.key, pool.memory_mb, until_ms)

    def learned(self, pool: Pool) -> bytes | None:
        """The idle times of each place as seen online."""
        return pool.policy.learned() if isinstance(pool.policy, _LearnedApp) else None

    def recall(self, pool: Pool, learned: bytes) -> None:
        """On top of what the model says of the app, as far as the model does not know it."""
        if isinstance(pool.policy, _LearnedApp):
            pool.policy.recall(learned, pool.key, pool.memory_mb, self.until_ms)
