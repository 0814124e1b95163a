"""The learned policy: idle times per level that keep learning, decisions from one price.

**Levels.** Instances are reused most recently idle first, so level k of an app is in use exactly while k
or more of its requests are there at once. Its idle times are a property of the traffic, as if nobody had
waited (`warmscaler.models.learned.traffic`), and the problem splits into one small one per level: see
`warmscaler.models.learned.plan` for its solution.

**The price** says how many seconds of waiting a GB·s is worth; with it, memory and waiting are one
currency and every decision is taken alone. It is read at each of them: see
`warmscaler.models.objectives.steering`.

**Waiting can be right.** Requests are bound late. For the first level a miss costs a start; for
level k > 1 it costs what level k is in use for, which is learned per level: often a few ms, and then no
instance is kept or started for it. Where that is long against an execution, requests queue behind the
first: training replays by how much more (`LevelHabits.behind`).

**Learning.** Each level keeps its recent idle times; older ones weigh less, and one population prior
stands behind them. An app that was never seen starts from the prior alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from warmscaler.models.learned.app import PRIOR_WEIGHT, LearnedApp
from warmscaler.models.learned.context.app import InContext
from warmscaler.models.learned.habits import PERIODS_MS, Model
from warmscaler.models.learned.plan import Prior
from warmscaler.models.objectives.price import Price
from warmscaler.models.objectives.steering import steering
from warmscaler.models.objectives.words import Kind, Objective, at_price
from warmscaler.models.policy import AppPolicy, Policy, Pool

STARTS_OF_TRAINING = 4
"""What training says a start takes counts as the mean of so many."""


class Learned(Policy):
    """Habits per app and level, and the price, which an objective may move."""

    name = "learned"
    late_binding = True
    by_level = True

    def __init__(
        self,
        model: Model | None = None,
        price: float | None = None,
        *,
        objective: Objective | None = None,
    ) -> None:
        """`model` None is the built-in prior. A `price` stays as it is; an `objective` moves its own,
        from the model's on; neither is the model's objective. Raises ValueError for no price."""
        self.model = model or Model()
        if price is not None:
            objective = at_price(price)
        self.objective = objective or self.model.objective
        start = self.model.price_s_per_gb_s
        if self.objective.kind is Kind.PRICE:
            start = self.objective.value or start
        self._price = Price(start)
        self.steering = self.watcher = steering(self.objective, start)
        """Who moves the price; None where it stays as it is."""
        if self.steering is not None:
            self._price = self.steering.price
        self.prior = Prior(self.model.prior_ms, PRIOR_WEIGHT)
        self.context = self.model.context
        self.until_ms = 0.0
        """When the training of the model ended, for whoever knows it: see `adopt`."""

    @property
    def price(self) -> float:
        """Seconds of waiting that a GB·s is worth, now."""
        return self._price.s_per_gb_s

    def follow(self, before: Policy) -> None:
        """Takes the place of another one: where both have the same objective, its account goes on."""
        if isinstance(before, Learned) and before.objective == self.objective and self.steering:
            self.steering = self.watcher = before.steering
            assert before.steering is not None  # noqa: S101 - the same objective has one too
            self._price = before.steering.price

    def app(self, key: str, memory_mb: int, runtime: str) -> AppPolicy:
        habits = self.model.apps.get(key)
        app = LearnedApp(self._price, self.prior, memory_mb, habits)
        if self.context is None:
            return app
        return InContext.of(app, self.context, self.context.gain(key))

    def start_ms(self, key: str, memory_mb: int, runtime: str) -> float:
        habits = self.model.apps.get(key)
        return self.model.start_ms if habits is None else habits.start_ms

    def starts_seen(self, key: str) -> int:
        return STARTS_OF_TRAINING if key in self.model.apps else 0

    def clocks(self, pools: Iterable[Pool]) -> dict[float, int]:
        """The idle times seen in `pools`, by the period (ms) of the clock their level goes by."""
        seen = dict.fromkeys(PERIODS_MS, 0)
        for pool in pools:
            if isinstance(pool.policy, LearnedApp):
                for level in pool.policy.levels:
                    seen[PERIODS_MS[level.clock]] += level.seen
        return seen

    def adopt(self, pool: Pool, until_ms: float) -> None:
        """Takes over a pool from another learned policy, with all that was learned online since.

        `until_ms` is when the training of this policy's model ended. A pool of another kind of
        policy is left to it.
        """
        if isinstance(pool.policy, LearnedApp):
            if self.context is not None:
                gain = self.context.gain(pool.key)
                pool.policy = InContext.of(pool.policy, self.context, gain)
            elif isinstance(pool.policy, InContext):
                pool.policy = pool.policy.without()
            pool.policy.relearn(
                self._price,
                self.prior,
                pool.memory_mb,
                self.model.apps.get(pool.key),
                start_ms=self.start_ms(pool.key, pool.memory_mb, ""),
                until_ms=until_ms,
            )

    def learned(self, pool: Pool) -> bytes | None:
        """The idle times of each level as seen online."""
        return pool.policy.learned() if isinstance(pool.policy, LearnedApp) else None

    def recall(self, pool: Pool, learned: bytes) -> None:
        """On top of what the model says of the app, as far as the model does not know it."""
        if isinstance(pool.policy, LearnedApp):
            seen = pool.policy.recall(learned)
            self.adopt(pool, self.until_ms)
            pool.policy.remember_uses(seen)

    def learned_of_all(self) -> bytes | None:
        """The account of the objective, and where the price is."""
        return None if self.steering is None else self.steering.state()

    def recall_of_all(self, learned: bytes) -> None:
        """Where it was of the same objective."""
        if self.steering is not None:
            self.steering.restore(learned)
