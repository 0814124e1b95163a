"""Following advice: a fixed window for each app, times at which an instance is there, least numbers.

It is what a platform can be told by settings alone (a keep-alive window, a schedule, least instances
by hour), replayed as such: it learns nothing while it runs, and binds requests early, as fixed does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import floor, inf

from warmscaler.models.policy import AppPolicy, Policy, Pool

HOUR_MS = 3_600_000.0
HOURS = 24


@dataclass(frozen=True, slots=True)
class Clock:
    """Times at which one instance is to be ready: every `period_ms`, from `opens_ms` after a whole
    period since 1970 (UTC) on, for `open_ms`."""

    period_ms: float
    opens_ms: float
    open_ms: float

    def window(self, now_ms: float) -> tuple[float, float]:
        """The window that is open at `now_ms`, else the next one: from, to."""
        turn = floor((now_ms - self.opens_ms - self.open_ms) / self.period_ms) + 1
        begin_ms = turn * self.period_ms + self.opens_ms
        return begin_ms, begin_ms + self.open_ms


@dataclass(frozen=True, slots=True)
class AppAdvice:
    """What is advised for one app."""

    keep_ms: float
    """How long an instance that went idle is kept."""
    clock: Clock | None = None
    least: tuple[int, ...] = ()
    """Instances that are there at least, by the hour of the day (UTC); empty is none."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What is advised for a fleet."""

    default: AppAdvice
    """For an app that was never seen."""
    apps: Mapping[str, AppAdvice] = field(default_factory=dict)


class _AdvisedApp(AppPolicy):
    __slots__ = ("_clock", "_keep_ms", "_least")

    def __init__(self, advice: AppAdvice) -> None:
        super().__init__()
        self._keep_ms = advice.keep_ms
        self._clock = advice.clock
        self._least = advice.least

    def arrival(self, now_ms: float, pool: Pool) -> int:
        if self.wake_ms == inf:
            self._wake_next(now_ms, pool)
        return 0

    def idle(self, now_ms: float, pool: Pool) -> float:
        return self._until(now_ms, pool, now_ms + self._keep_ms, pool.busy + len(pool.idle))

    def ready(self, now_ms: float, pool: Pool) -> float:
        # It was started for a time that is due, or for the least number.
        return self._until(now_ms, pool, now_ms, pool.busy + len(pool.idle))

    def expiry(self, now_ms: float, pool: Pool, level: int) -> float:
        return self._until(now_ms, pool, now_ms, level)

    def wake(self, now_ms: float, pool: Pool) -> int:
        wanted = self._wanted(now_ms + pool.start_ms + 1.0)
        self._wake_next(now_ms, pool)
        return max(wanted - pool.busy - len(pool.idle) - pool.starting, 0)

    def _until(self, now_ms: float, pool: Pool, until_ms: float, level: int) -> float:
        """Until when to keep the instance that `level` requests at once would take."""
        if level == 1 and self._clock is not None:
            begin_ms, end_ms = self._clock.window(now_ms)
            # Released only if there is time to start it again.
            if begin_ms <= until_ms + pool.start_ms + 1.0:
                until_ms = max(until_ms, end_ms)
        if self._least:
            # What is wanted in the next hour is started in this one.
            for at_ms in (now_ms, now_ms + pool.start_ms + 1.0):
                hour = floor(at_ms / HOUR_MS)
                if level <= self._least[hour % HOURS]:
                    until_ms = max(until_ms, (hour + 1) * HOUR_MS)
        return until_ms

    def _wanted(self, at_ms: float) -> int:
        """How many instances are to be there at that time."""
        wanted = 0
        if self._clock is not None:
            begin_ms, end_ms = self._clock.window(at_ms)
            wanted = int(begin_ms <= at_ms < end_ms)
        if self._least:
            wanted = max(wanted, self._least[floor(at_ms / HOUR_MS) % HOURS])
        return wanted

    def _wake_next(self, now_ms: float, pool: Pool) -> None:
        """Just before the next window or hour, so early that a start is done by then."""
        from_ms = now_ms + pool.start_ms + 1.0
        times = []
        if self._clock is not None:
            begin_ms, _ = self._clock.window(from_ms)
            times.append(begin_ms if begin_ms > from_ms else begin_ms + self._clock.period_ms)
        if any(self._least):
            times.append((floor(from_ms / HOUR_MS) + 1) * HOUR_MS)
        if times:
            self.wake_ms = min(times) - pool.start_ms


class Advised(Policy):
    """Does what the advice says."""

    name = "advice"

    def __init__(self, advice: Advice) -> None:
        self.advice = advice

    def app(self, key: str, memory_mb: int, runtime: str) -> AppPolicy:
        return _AdvisedApp(self.advice.apps.get(key, self.advice.default))
