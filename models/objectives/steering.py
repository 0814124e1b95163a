"""Steering: the price of an objective as it follows from what was seen, and how far it is met.

Told by the scheduler (`Watcher`) of what is held and who was served; it sees no more than that, and
its times are those of the events. What it counts is of requests that are done.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from math import exp, inf, isfinite, log
from typing import ClassVar, NamedTuple

from warmscaler.models.objectives.control import Controller
from warmscaler.models.objectives.limits import HIGH, LOW, limits_of
from warmscaler.models.objectives.price import Price, exchange_rate
from warmscaler.models.objectives.window import Window
from warmscaler.models.objectives.words import Kind, Objective
from warmscaler.models.policy import Instance, Wait, Watcher

AIM = 0.9
"""Of what is allowed so much is aimed at: what comes in bursts stays below it then."""
SAFE_AIM = 0.75
"""Of what requests would wait under the window: its account is an estimate too."""
WINDOW_MS = 300_000.0
MEMORY_UNIT_MS = 60_000.0
"""The memory allowed is counted in so long a time of it."""
SETTLES_MS = 600_000.0
"""What begins with nothing makes requests wait, whatever the price: for so long nobody counts it. The
score's exchange rate weighs as much as the starting price after so long."""
RECENT = 2.0
"""The score's totals are of the whole run, but what was earned after a share s of its time weighs
s ** RECENT: what it began with fades, and no length of time need be chosen (O. Shamir and T. Zhang,
ICML 2013: polynomial-decay averaging)."""
RATED_MS = 1_000.0
"""So often the exchange rate is looked at."""
LATE_MS = 3_600_000.0
"""How far an objective is met is told of the last hour or so: what is older weighs less, by e a time."""
_MB_MS_PER_GB_S = 1_024.0 * 1_000.0


def aim_of(objective: Objective) -> float:
    """Of what is allowed so much is aimed at."""
    return SAFE_AIM if objective.kind is Kind.SAFE else AIM


class Use(NamedTuple):
    """A request that is done."""

    for_ms: float
    waited_ms: float
    starts: bool
    """It waited for an instance to start."""
    broke: bool
    """Its instance is bad, and goes."""


class Steering(Watcher):
    """Counts, for every objective; its kinds move the price."""

    __slots__ = (
        "_held_mb",
        "_held_since_ms",
        "_late",
        "_late_ms",
        "age_ms",
        "controller",
        "execution_mb_ms",
        "execution_ms",
        "held_mb_ms",
        "objective",
        "price",
        "queued",
        "requests",
        "starts",
        "waited_ms",
    )
    COUNTS: ClassVar[tuple[str, ...]] = (
        *("requests", "starts", "queued", "waited_ms"),
        *("execution_ms", "execution_mb_ms", "held_mb_ms", "age_ms"),
    )

    def __init__(self, objective: Objective, start: float, *, direction: float = 1.0) -> None:
        """`start` is the price to begin with, in seconds per GB·s."""
        self.objective = objective
        self.controller = Controller(start, direction=direction, limits=limits_of(objective))
        self.price = Price(self.controller.told)
        self.requests = 0.0
        self.starts = 0.0
        """Requests that waited for an instance to start."""
        self.queued = 0.0
        """Requests that waited for one that was busy when they came."""
        self.waited_ms = 0.0
        self.execution_ms = 0.0
        self.execution_mb_ms = 0.0
        self.held_mb_ms = 0.0
        """Memory times time of instances, up to the last event."""
        self.age_ms = 0.0
        """For how long it has counted."""
        self._held_mb = 0
        self._held_since_ms = inf
        self._late = [0.0, 0.0]
        """Allowed and spent of late."""
        self._late_ms = 0.0

    # Watcher

    def started(self, now_ms: float, instance: Instance) -> None:
        self._holds(now_ms)
        self._held_mb += instance.memory_mb

    def released(self, now_ms: float, instance: Instance) -> None:
        self._holds(now_ms)
        self._held_mb -= instance.memory_mb

    def done(
        self, now_ms: float, instance: Instance, wait: Wait | None, *, broke: bool = False
    ) -> None:
        if self.age_ms < SETTLES_MS:
            self._holds(now_ms)
        use_ms = now_ms - instance.taken_ms
        self.requests += 1.0
        self.execution_ms += use_ms
        self.execution_mb_ms += use_ms * instance.memory_mb
        waited_ms = 0.0
        if wait is not None:
            waited_ms = wait.to_ms - wait.from_ms
            self.waited_ms += waited_ms
            if wait.queued:
                self.queued += 1.0
            else:
                self.starts += 1.0
        starts = wait is not None and not wait.queued
        self._served(now_ms, instance, Use(use_ms, waited_ms, starts, broke))

    def _holds(self, now_ms: float) -> None:
        passed_ms = max(now_ms - self._held_since_ms, 0.0)
        self.age_ms += passed_ms
        self.held_mb_ms += self._held_mb * passed_ms
        self._held_since_ms = now_ms
        self._held(now_ms, passed_ms)

    def _held(self, now_ms: float, passed_ms: float) -> None:
        """`_held_mb` were held for so long."""

    @abstractmethod
    def _served(self, now_ms: float, instance: Instance, use: Use) -> None:
        """A request is done."""

    def _tell(self, now_ms: float, allowed: float, spent: float) -> None:
        """Units, as the controller counts them."""
        if self.age_ms < SETTLES_MS:
            return
        if now_ms > self._late_ms:
            fades = exp((self._late_ms - now_ms) / LATE_MS)
            self._late = [each * fades for each in self._late]
            self._late_ms = now_ms
        self._late[0] += allowed
        self._late[1] += spent
        if self.controller.tell(now_ms, allowed, spent):
            self.price.s_per_gb_s = self.controller.told

    # For people and metrics

    @property
    def used(self) -> float | None:
        """Of what is allowed, the share that was spent of late: at most 1 is met. None where nothing is
        allowed yet, or the objective has no such thing."""
        allowed, spent = self._late
        return spent / allowed * aim_of(self.objective) if allowed > 0.0 else None

    # For a later process

    def state(self) -> bytes:
        """All that `restore` needs."""
        numbers = {name: float(getattr(self, name)) for name in self.COUNTS}
        controller = self.controller
        numbers |= {
            "log_price": controller.log_price,
            "units": controller.units,
            "passed_ms": controller.passed_ms,
            "allowed_late": self._late[0],
            "spent_late": self._late[1],
            "late_ms": self._late_ms,
        }
        return json.dumps({"objective": str(self.objective), "numbers": numbers}).encode()

    def restore(self, state: bytes) -> None:
        """Goes on from what another process saw, where that had the same objective. Raises ValueError
        for anything that `state` could not have made; nothing has changed then."""
        try:
            known = json.loads(state)
            numbers: Mapping[str, float] = {
                name: float(value) for name, value in known["numbers"].items()
            }
            objective = known["objective"]
            read = [numbers[name] for name in (*self.COUNTS, *_CONTROLLED)]
        except (KeyError, TypeError, AttributeError, ValueError):
            raise ValueError("is no state of an objective") from None
        if objective != str(self.objective):
            return
        log_price = numbers["log_price"]
        if not all(map(isfinite, read)) or not log(LOW) <= log_price <= log(HIGH):
            raise ValueError("has numbers that cannot be")
        if min(each for name, each in numbers.items() if name != "log_price") < 0.0:
            raise ValueError("has numbers that cannot be")
        for name in self.COUNTS:
            setattr(self, name, numbers[name])
        controller = self.controller
        controller.units, controller.passed_ms = numbers["units"], numbers["passed_ms"]
        self._late = [numbers["allowed_late"], numbers["spent_late"]]
        self._late_ms = numbers["late_ms"]
        controller.move_to(log_price)
        self.price.s_per_gb_s = controller.told


_CONTROLLED = ("log_price", "units", "passed_ms", "allowed_late", "spent_late", "late_ms")


class HoldsShare(Steering):
    """COLD_STARTS, WAIT: a share of the requests may wait for a start, or for longer than so."""

    __slots__ = ("_allowed", "_longest_ms")

    def __init__(self, objective: Objective, start: float) -> None:
        super().__init__(objective, start)
        self._allowed = AIM * objective.allowed_share
        self._longest_ms = objective.value if objective.kind is Kind.WAIT else None

    def _served(self, now_ms: float, instance: Instance, use: Use) -> None:
        longest_ms = self._longest_ms
        counts = use.starts if longest_ms is None else use.waited_ms > longest_ms
        self._tell(now_ms, self._allowed, float(counts))


class HoldsMemory(Steering):
    """MEMORY: what is held, on average."""

    __slots__ = ("_allowed_mb",)

    def __init__(self, objective: Objective, start: float) -> None:
        super().__init__(objective, start, direction=-1.0)
        self._allowed_mb = AIM * objective.value * 1_024.0

    def _held(self, now_ms: float, passed_ms: float) -> None:
        units = passed_ms / MEMORY_UNIT_MS
        self._tell(now_ms, units, units * self._held_mb / self._allowed_mb)

    def _served(self, now_ms: float, instance: Instance, use: Use) -> None:
        self._holds(now_ms)


class StaysSafe(Steering):
    """SAFE: what a window of five minutes would have made requests wait, less a margin. A unit is
    what it makes one wait that it has no instance for, on average."""

    __slots__ = ("window",)

    COUNTS: ClassVar[tuple[str, ...]] = (*Steering.COUNTS, "window_waited_ms", "window_starts")

    def __init__(self, objective: Objective, start: float) -> None:
        super().__init__(objective, start)
        self.window = Window(WINDOW_MS)

    @property
    def window_waited_ms(self) -> float:
        """What requests would have waited under the window."""
        return self.window.waited_ms

    @window_waited_ms.setter
    def window_waited_ms(self, waited_ms: float) -> None:
        self.window.waited_ms = waited_ms

    @property
    def window_starts(self) -> float:
        """How many of them would have waited for a start."""
        return self.window.starts

    @window_starts.setter
    def window_starts(self, starts: float) -> None:
        self.window.starts = starts

    def _served(self, now_ms: float, instance: Instance, use: Use) -> None:
        pool, window = instance.pool, self.window
        waits_ms = window.served(
            *(pool.key, instance.memory_mb, pool.start_ms),
            *(now_ms - use.for_ms - use.waited_ms, use.for_ms),
            broke=use.broke,
        )
        if waits_ms is None or waits_ms == use.waited_ms == 0.0:
            return
        unit_ms = window.waited_ms / window.starts if window.starts else pool.start_ms
        if unit_ms > 0.0:
            self._tell(now_ms, SAFE_AIM * waits_ms / unit_ms, use.waited_ms / unit_ms)

    def forgotten(self, key: str) -> None:
        self.window.forget(key)


class FollowsScore(Steering):
    """SCORE: the rate at which the score itself exchanges memory for waiting, where it stands.

    With G and S the GB·s of executions and slots, E and W the seconds of executions and waiting, the
    score is 50 G / S + 50 E / (E + W): see `exchange_rate`.
    """

    __slots__ = ("_rated_ms", "_start", "recent_e", "recent_g", "recent_s", "recent_w")
    COUNTS: ClassVar[tuple[str, ...]] = (
        *Steering.COUNTS,
        *("recent_g", "recent_s", "recent_e", "recent_w"),
    )

    def __init__(self, objective: Objective, start: float) -> None:
        super().__init__(objective, start)
        self._start = self.controller.log_price
        self._rated_ms = 0.0
        self.recent_g = self.recent_s = 0.0
        """G and S in MB·ms, the latest of the most weight; so are E and W, in ms."""
        self.recent_e = self.recent_w = 0.0

    @property
    def used(self) -> float | None:
        return None

    @property
    def score(self) -> float | None:
        """What was earned so far, of 100; None before anything was."""
        slot, busy_ms = self.held_mb_ms, self.execution_ms + self.waited_ms
        if slot <= 0.0 or busy_ms <= 0.0:
            return None
        return 50.0 * self.execution_mb_ms / slot + 50.0 * self.execution_ms / busy_ms

    def _served(self, now_ms: float, instance: Instance, use: Use) -> None:
        self.recent_g += use.for_ms * instance.memory_mb
        self.recent_e += use.for_ms
        self.recent_w += use.waited_ms
        self._holds(now_ms)

    def _held(self, now_ms: float, passed_ms: float) -> None:
        if passed_ms > 0.0:
            fades = (1.0 - passed_ms / self.age_ms) ** RECENT
            self.recent_g *= fades
            self.recent_e *= fades
            self.recent_w *= fades
            self.recent_s = self.recent_s * fades + self._held_mb * passed_ms
        if self.age_ms < self._rated_ms:
            return
        self._rated_ms = self.age_ms + RATED_MS
        if not (self.recent_g > 0.0 and self.recent_s > 0.0 and self.recent_e > 0.0):
            return
        rate = exchange_rate(
            *(self.recent_g / _MB_MS_PER_GB_S, self.recent_s / _MB_MS_PER_GB_S),
            *(self.recent_e / 1e3, self.recent_w / 1e3),
        )
        weight = self.age_ms / (self.age_ms + SETTLES_MS)
        if self.controller.move_to(self._start + weight * (log(rate) - self._start)):
            self.price.s_per_gb_s = self.controller.told


_KINDS: Mapping[Kind, type[HoldsShare | HoldsMemory | StaysSafe | FollowsScore]] = {
    Kind.COLD_STARTS: HoldsShare,
    Kind.WAIT: HoldsShare,
    Kind.MEMORY: HoldsMemory,
    Kind.SAFE: StaysSafe,
    Kind.SCORE: FollowsScore,
}


def steering(objective: Objective, start: float) -> Steering | None:
    """Who moves the price from `start` (seconds per GB·s) on; None where it stays as it is."""
    kind = _KINDS.get(objective.kind)
    return None if kind is None else kind(objective, start)
