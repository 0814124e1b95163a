"""The learned policy of one app, where a model of the context says how an idle time differs from others."""

from __future__ import annotations

from dataclasses import dataclass

from warmscaler.models.learned.app import LearnedApp
from warmscaler.models.learned.context.account import Account
from warmscaler.models.learned.context.ages import bins, prior_weights
from warmscaler.models.learned.context.calls import Calls
from warmscaler.models.learned.context.context import Context, Tilted
from warmscaler.models.learned.context.features import Idle
from warmscaler.models.learned.habits import PERIODS_MS
from warmscaler.models.learned.level import Level
from warmscaler.models.learned.plan import Plan, plan
from warmscaler.models.policy import AppPolicy, Pool

ASKED_UNUSED = 8
"""Where it is not used, one idle time in so many is foreseen all the same, to see whether it would pay."""


@dataclass(slots=True)
class Foreseen:
    """The plan for one idle time of a level. Times in ms since the epoch."""

    left_ms: float
    price: float
    """Seconds of waiting per GB·s that it was made at."""
    plan: Plan
    past_ms: float
    """How far the clock that it was made on had gone when the level was left."""
    used: bool


class InContext(LearnedApp):
    """Plans anew for each idle time that outlasts its first moments."""

    __slots__ = ("_account", "_calls", "_context", "_foreseen", "_turn")

    _account: Account
    _calls: Calls
    _context: Context
    _foreseen: dict[int, Foreseen]
    """By level."""
    _turn: int

    @classmethod
    def of(cls, app: LearnedApp, context: Context, gain: float) -> InContext:
        """An app as it is, with all that it learned, in a context that is believed to spare it the
        share `gain` of its cost."""
        own = cls.__new__(cls)
        _take_over(own, app)
        if isinstance(app, InContext):
            own._calls, own._foreseen, own._turn = app._calls, app._foreseen, app._turn
        else:
            own._calls, own._foreseen, own._turn = Calls(), {}, 0
        own._context, own._account = context, Account(gain)
        return own

    def without(self) -> LearnedApp:
        """The same app, by its own past alone."""
        app = LearnedApp.__new__(LearnedApp)
        _take_over(app, self)
        return app

    def _taken(self, at_ms: float, number: int, start_ms: float) -> None:
        self._calls.add(at_ms)
        foreseen = self._foreseen.pop(number, None)
        if foreseen is not None:
            level = self._levels[number - 1]
            if foreseen.left_ms == level.left_ms and level.plans:
                self._judge(foreseen, number, level, at_ms - level.left_ms, start_ms)
        super()._taken(at_ms, number, start_ms)

    def _judge(
        self, foreseen: Foreseen, number: int, level: Level, gap_ms: float, start_ms: float
    ) -> None:
        costs = self._hold_cost, self._miss_cost_ms(number, level, start_ms)
        plain = level.plans[level.clock].cost_of(gap_ms, level.past_ms(), level.sure_ms, *costs)
        own = foreseen.plan.cost_of(gap_ms, foreseen.past_ms, level.sure_ms, *costs)
        self._account.add(plain, own)

    def _todo(self, now_ms: float, number: int, pool: Pool) -> Plan:
        plain = self._plan(number, pool)
        level = self._level(number)
        if not level.taken_ms <= level.left_ms != level.ready_ms:
            return plain  # in use, or never was
        foreseen = self._foreseen.get(number)
        now = level.left_ms, self._price.s_per_gb_s
        if foreseen is None or (foreseen.left_ms, foreseen.price) != now:
            pays = self._account.pays
            self._turn += 1
            if not pays and self._turn % ASKED_UNUSED:
                return plain
            foreseen = self._foreseen[number] = self._foresee(now_ms, number, level, pool, pays)
        return foreseen.plan if foreseen.used else plain

    def _foresee(
        self, now_ms: float, number: int, level: Level, pool: Pool, used: bool
    ) -> Foreseen:
        past_ms = level.past_ms()
        gaps_ms, lefts_ms, weights = level.remembered()
        prior, told = (
            self._prior.given(gaps_ms, weights) if len(gaps_ms) else (self._prior, weights)
        )
        points, weight, reaches = level.points(gaps_ms, lefts_ms, told, PERIODS_MS[level.clock])
        of = Idle(level.left_ms, number, pool.memory_mb, pool.start_ms, level.covered_ms)
        at = bins(points - past_ms)
        tilt = self._context.tilt(
            of, self._calls, gaps_ms, weights, at, weight, prior_weights(prior), now_ms
        )
        todo = plan(
            points,
            weight * tilt.of(at),
            reaches,
            Tilted(prior, tilt, past_ms),
            hold_cost=self._hold_cost,
            miss_cost=self._miss_cost_ms(number, level, pool.start_ms),
            start_ms=pool.start_ms,
        )
        return Foreseen(level.left_ms, self._price.s_per_gb_s, todo, past_ms, used)


def _take_over(app: LearnedApp, other: LearnedApp) -> None:
    for of in (AppPolicy, LearnedApp):
        for name in of.__slots__:
            setattr(app, name, getattr(other, name))
