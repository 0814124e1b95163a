"""An app's calls of late, and how many are usual at each hour of the day and of the week."""

from __future__ import annotations

from math import log

import numpy as np

from warmscaler.models.learned.plan import FloatArray

MINUTE_MS, HOUR_MS = 60_000.0, 3_600_000.0
MINUTES = 32
"""Full minutes told one by one."""
DAY, WEEK = 24, 168
FADE = 0.75
"""What was at an hour of the day, or of the week, a day or week before weighs so much of what is."""
RATE_FADE = 1.0 - 1.0 / WEEK
"""The same for the mean rate, from hour to hour."""
MOST_QUIET = 4 * WEEK
"""Hours without a call that are counted one by one: after more there is little left of what was."""
DOUBT_H = 0.5
"""The mean rate stands behind what is usual with the weight of so many hours."""
FEW = 0.15
"""Calls an hour: rates below are not told apart."""


class _Usual:
    """A fading mean for each hour of a period."""

    __slots__ = ("calls", "hours")

    def __init__(self, period: int) -> None:
        self.calls = [0.0] * period
        self.hours = [0.0] * period
        """How many the means are of, faded alike."""

    def add(self, hour: int, calls: int) -> None:
        at = hour % len(self.calls)
        self.calls[at] = FADE * self.calls[at] + calls
        self.hours[at] = FADE * self.hours[at] + 1.0

    def log_ratios(self, mean: float) -> FloatArray:
        """To the mean calls an hour, shape (period,)."""
        calls = np.array(self.calls) + (DOUBT_H * mean + FEW)
        return np.asarray(np.log(calls / ((np.array(self.hours) + DOUBT_H) * mean + FEW)))


class Calls:
    """Counts of calls by minute and by hour; all times in ms since the epoch, never backwards."""

    __slots__ = (
        "_hour",
        "_hours",
        "_in_hour",
        "_in_minute",
        "_minute",
        "_minutes",
        "_of_day",
        "_of_week",
        "_rate",
        "_rate_hours",
        "_until_ms",
        "_usual",
    )

    def __init__(self) -> None:
        self._minute = self._hour = -1
        self._until_ms = 0.0
        """When the minute counted in now is over."""
        self._in_minute = self._in_hour = 0
        self._minutes = [0] * MINUTES
        self._hours = [0] * DAY
        """The last full ones, each at its place in the day."""
        self._rate = self._rate_hours = 0.0
        self._of_day, self._of_week = _Usual(DAY), _Usual(WEEK)
        self._usual: tuple[FloatArray, FloatArray] | None = None

    def add(self, now_ms: float) -> None:
        """A call came."""
        if now_ms >= self._until_ms:
            self._turn(now_ms)
        self._in_minute += 1

    def since(self, now_ms: float) -> tuple[float, ...]:
        """Calls of the last minute, 5 and 30 minutes, 3 and 24 hours; the oldest minute or hour of
        each counts by the share of it that lies within."""
        if now_ms >= self._until_ms:
            self._turn(now_ms)
        minutes, hours = self._minutes, self._hours
        left = (self._until_ms - now_ms) / MINUTE_MS
        here, at = self._in_minute, self._minute
        last = [minutes[(at - back) % MINUTES] for back in range(1, 31)]
        in_hour = self._in_hour + here
        of_hour = 1.0 - (now_ms / HOUR_MS) % 1.0
        hour = self._hour
        return (
            here + last[0] * left,
            here + sum(last[:4]) + last[4] * left,
            here + sum(last[:29]) + last[29] * left,
            in_hour
            + hours[(hour - 1) % DAY]
            + hours[(hour - 2) % DAY]
            + hours[(hour - 3) % DAY] * of_hour,
            in_hour + sum(hours) - hours[hour % DAY] * (1.0 - of_hour),
        )

    def an_hour(self, now_ms: float) -> float:
        """The mean calls of full hours, the last week's above all; in the first hour, of those so far."""
        if now_ms >= self._until_ms:
            self._turn(now_ms)
        if self._rate_hours:
            return self._rate / self._rate_hours
        return float(self._in_hour + self._in_minute)

    def usual(self, now_ms: float) -> tuple[FloatArray, FloatArray]:
        """Log-ratios to the mean of the calls usual at each hour of the day, shape (DAY,), and of the
        week, shape (WEEK,), by full hours only. Hours count from the epoch."""
        mean = self.an_hour(now_ms)
        if self._usual is None:
            self._usual = self._of_day.log_ratios(mean), self._of_week.log_ratios(mean)
        return self._usual

    def _turn(self, now_ms: float) -> None:
        """To the minute of `now_ms`."""
        minute, hour = int(now_ms // MINUTE_MS), int(now_ms // HOUR_MS)
        if self._minute >= 0:
            self._minutes[self._minute % MINUTES] = self._in_minute
            for quiet in range(self._minute + 1, min(minute, self._minute + 1 + MINUTES)):
                self._minutes[quiet % MINUTES] = 0
            self._in_hour += self._in_minute
            if hour > self._hour:
                self._hour_ended(self._hour, self._in_hour)
                for quiet in range(max(self._hour + 1, hour - MOST_QUIET), hour):
                    self._hour_ended(quiet, 0)
                self._in_hour = 0
                self._usual = None
        self._in_minute = 0
        self._minute, self._hour = minute, hour
        self._until_ms = (minute + 1) * MINUTE_MS

    def _hour_ended(self, hour: int, calls: int) -> None:
        self._hours[hour % DAY] = calls
        self._rate = RATE_FADE * self._rate + calls
        self._rate_hours = RATE_FADE * self._rate_hours + 1.0
        self._of_day.add(hour, calls)
        self._of_week.add(hour, calls)


def log_ratio(calls: float, expected: float) -> float:
    """How many times as many as expected, as a logarithm; of few calls nothing much."""
    return log((calls + 0.5) / (expected + 0.5))
