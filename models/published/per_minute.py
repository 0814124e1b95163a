"""What the policies that forecast by the minute share: the app's minutes, and instances by forecast.

A minute before each minute (to the start-up time) an app is asked what that minute needs. Missing
instances are started then, so that they are ready when it begins; idle ones beyond it go when the
minute in which they were used is over. That is how FeMux's simulator and IceBreaker's artifact count:
what is used stays until its minute's end, and what is forecast is there for the whole of its minute.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from dataclasses import dataclass
from math import floor, inf

from warmscaler.models.outlook import Outlook
from warmscaler.models.policy import AppPolicy, Pool, Wait

MINUTE_MS = 60_000.0
MAX_LEAD_MS = 30_000.0
"""So much of a minute is seen at least before the next one is forecast. Starts that take longer end
in the minute that they were for."""
KEEP_MINUTES = 10
"""Of a minute without enough of a past: what any of so many needed. FeMux's default, `code/forecasting`."""


@dataclass(frozen=True, slots=True)
class Minute:
    """What one minute saw of an app."""

    mean: float
    """Requests at once (executing or waiting), on average."""
    most: int
    """Requests at once, at most."""
    calls: int
    """Requests that arrived in it."""


NOTHING = Minute(0.0, 0, 0)


class PerMinuteApp(AppPolicy):
    """Remembers the last `window` minutes; the one that runs is `_mean`, `_most` and `_calls`."""

    __slots__ = (
        "_area_ms",
        "_asked",
        "_calls",
        "_minute",
        "_most",
        "_open",
        "_quiet",
        "_since_ms",
        "_wanted",
        "minutes",
    )

    def __init__(self, window: int) -> None:
        super().__init__()
        self.minutes: deque[Minute] = deque(maxlen=window - 1)
        """The minutes that are over, the newest last."""
        self._minute = -1
        """The number of the minute that runs; below 0 before the first request."""
        self._area_ms = 0.0
        self._calls = 0
        self._most = 0
        self._open = 0
        self._since_ms = 0.0
        self._quiet = 0
        """Minutes since one in which anything was here."""
        self._asked = -1
        """The minute last forecast, which wants `_wanted`."""
        self._wanted = 0

    @abstractmethod
    def forecast(self, number: int, minutes: list[Minute], pool: Pool) -> int:
        """Instances for the minute of this number, which follows these; the last of them may still
        run. Oldest first. Asked once for each minute, in order."""

    def over(self, number: int, minute: Minute, pool: Pool) -> None:
        """A minute is over; the next may have been forecast by then. After a long time without a
        request, not all that passed are told."""

    def arrival(self, now_ms: float, pool: Pool) -> int:
        self._advance(now_ms, pool)
        self._calls += 1
        self._quiet = 0
        self._count(pool)
        if self.wake_ms == inf:
            self.wake_ms = max(self._next_ms() - _lead_ms(pool), now_ms + 1.0)
        return 1 if len(pool.waiting) > pool.starting else 0

    def completion(self, now_ms: float, pool: Pool, wait: Wait | None = None) -> None:
        self._advance(now_ms, pool)
        self._count(pool)

    def gone(self, now_ms: float, pool: Pool, arrived_ms: float) -> None:
        self._advance(now_ms, pool)
        self._count(pool)

    def idle(self, now_ms: float, pool: Pool) -> float:
        return (floor(now_ms / MINUTE_MS) + 1) * MINUTE_MS

    def expiry(self, now_ms: float, pool: Pool, level: int) -> float:
        self._advance(now_ms, pool)
        if level > self._wanted_in(self._minute, pool):
            return now_ms
        return self._next_ms()

    def wake(self, now_ms: float, pool: Pool) -> int:
        self._advance(now_ms, pool)
        following = self._minute + 1
        wanted = self._wanted_in(following, pool)
        if self._quiet < self._window or wanted or pool.busy or pool.waiting:
            next_ms = (following + 1) * MINUTE_MS - _lead_ms(pool)
            self.wake_ms = max(next_ms, now_ms + 1.0)
        return max(wanted - pool.busy - len(pool.idle) - pool.starting, 0)

    def outlook(self, now_ms: float, pool: Pool) -> Outlook:
        return Outlook(f"forecast {self._wanted} instances for the minute", start_ms=self.wake_ms)

    @property
    def _window(self) -> int:
        return (self.minutes.maxlen or 0) + 1

    def _next_ms(self) -> float:
        return (self._minute + 1) * MINUTE_MS

    def _wanted_in(self, minute: int, pool: Pool) -> int:
        if self._asked < minute:
            seen = list(self.minutes)
            if minute > self._minute:
                passed_ms = max(self._since_ms - self._minute * MINUTE_MS, 1.0)
                seen.append(Minute(self._area_ms / passed_ms, self._most, self._calls))
            self._asked = minute
            self._wanted = self.forecast(minute, seen, pool) if seen else 0
        return self._wanted

    def _count(self, pool: Pool) -> None:
        self._open = pool.busy + len(pool.waiting)
        self._most = max(self._most, self._open)

    def _advance(self, now_ms: float, pool: Pool) -> None:
        """Ends the minutes that are over by now."""
        minute = floor(now_ms / MINUTE_MS)
        if self._minute < 0:
            self._minute, self._since_ms = minute, now_ms
            return
        while self._minute < minute:
            if self._quiet >= self._window and not self._open:
                self._minute = minute  # as quiet as what is remembered
                self._since_ms = minute * MINUTE_MS
                break
            end_ms = self._next_ms()
            self._area_ms += self._open * (end_ms - self._since_ms)
            past = Minute(self._area_ms / MINUTE_MS, self._most, self._calls)
            self.minutes.append(past)
            self._quiet = 0 if past.most else self._quiet + 1
            self._area_ms, self._calls, self._most = 0.0, 0, self._open
            self.over(self._minute, past, pool)
            self._minute += 1
            self._since_ms = end_ms
        self._area_ms += self._open * (now_ms - self._since_ms)
        self._since_ms = now_ms


def _lead_ms(pool: Pool) -> float:
    """So long before a minute it is forecast."""
    return min(max(pool.start_ms, 1.0), MAX_LEAD_MS)
