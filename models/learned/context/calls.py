"""An app's calls of late, and how many are usual at each hour of the day and of the week."""

from __future__ import annotations

from array import array
from math import log

import numpy as np

from warmscaler.models.learned.plan import FloatArray

MINUTE_MS, HOUR_MS = 60_000.0, 3_600_000.0
MINUTES = 32
"""Full minutes told one by one."""
HOURS = 672
"""Full hours told one by one: four weeks."""
DAY, WEEK = 24, 168
DAYS_BACK, WEEKS_BACK = 7, 4
"""What is usual at an hour of the day, or of the week, is the mean of so many."""
FADE = 0.75
"""Each day, or week, before the last weighs so much of the one after it."""
DOUBT_H = 0.5
"""The mean rate stands behind what is usual with the weight of so many hours."""
FEW = 0.15
"""Calls an hour: rates below are not told apart."""


class Calls:
    """Counts of calls by minute and by hour; all times in ms since the epoch, never backwards."""

    __slots__ = (
        "_hour",
        "_hours",
        "_in_hour",
        "_in_minute",
        "_minute",
        "_minutes",
        "_until_ms",
        "_usual",
    )

    def __init__(self) -> None:
        self._minute = self._hour = -1
        self._until_ms = 0.0
        """When the minute counted in now is over."""
        self._in_minute = self._in_hour = 0
        self._minutes = [0] * MINUTES
        self._hours = array("l")
        """The last HOURS full ones, the oldest first; none before the first call."""
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
        left = self._until_ms - now_ms
        out = left / MINUTE_MS  # of the oldest minute
        here = self._in_minute
        at = self._minute
        last = [minutes[(at - back) % MINUTES] for back in range(1, 31)]
        hour = self._in_hour + here
        of_hour = 1.0 - (now_ms / HOUR_MS) % 1.0
        return (
            here + last[0] * out,
            here + sum(last[:4]) + last[4] * out,
            here + sum(last[:29]) + last[29] * out,
            hour + sum(hours[-2:]) + (hours[-3] * of_hour if len(hours) > 2 else 0.0),
            hour + sum(hours[-23:]) + (hours[-24] * of_hour if len(hours) > 23 else 0.0),
        )

    def an_hour(self, now_ms: float) -> float:
        """The mean calls of the last week's full hours; in the first hour, of those so far."""
        if now_ms >= self._until_ms:
            self._turn(now_ms)
        last = self._hours[-WEEK:]
        return sum(last) / len(last) if last else float(self._in_hour + self._in_minute)

    def usual(self, now_ms: float) -> tuple[FloatArray, FloatArray]:
        """Log-ratios to the mean of the calls usual at each hour of the day, shape (DAY,), and of the
        week, shape (WEEK,), by full hours only. Hours count from the epoch."""
        if now_ms >= self._until_ms:
            self._turn(now_ms)
        if self._usual is None:
            mean = self.an_hour(now_ms)
            self._usual = self._table(DAY, DAYS_BACK, mean), self._table(WEEK, WEEKS_BACK, mean)
        return self._usual

    def _table(self, period: int, back: int, mean: float) -> FloatArray:
        past = np.array(self._hours[-period * back :], dtype=np.float64)
        missing = period * back - len(past)
        # A row a day, or week, the latest last; a column an hour before now.
        rows = np.concatenate((np.zeros(missing), past)).reshape(back, period)
        there = np.concatenate((np.zeros(missing), np.ones(len(past)))).reshape(back, period)
        fade = FADE ** np.arange(back - 1, -1, -1)
        calls, hours = fade @ rows, fade @ there
        usual = np.log((calls + DOUBT_H * mean + FEW) / ((hours + DOUBT_H) * mean + FEW))
        return np.roll(usual, self._hour % period)

    def _turn(self, now_ms: float) -> None:
        """To the minute of `now_ms`."""
        minute, hour = int(now_ms // MINUTE_MS), int(now_ms // HOUR_MS)
        if self._minute >= 0:
            self._minutes[self._minute % MINUTES] = self._in_minute
            for quiet in range(self._minute + 1, min(minute, self._minute + 1 + MINUTES)):
                self._minutes[quiet % MINUTES] = 0
            self._in_hour += self._in_minute
            if hour > self._hour:
                quiet = min(hour - self._hour - 1, HOURS)
                self._hours.append(self._in_hour)
                self._hours.extend([0] * quiet)
                del self._hours[:-HOURS]
                self._in_hour = 0
                self._usual = None
        self._in_minute = 0
        self._minute, self._hour = minute, hour
        self._until_ms = (minute + 1) * MINUTE_MS


def log_ratio(calls: float, expected: float) -> float:
    """How many times as many as expected, as a logarithm; of few calls nothing much."""
    return log((calls + 0.5) / (expected + 0.5))
