"""Hybrid histogram: windows from the percentiles of an app's idle times.

M. Shahrad et al., "Serverless in the Wild: Characterizing and Optimizing the Serverless Workload
at a Large Cloud Provider", USENIX ATC 2020, section 4. After an app's last execution it is
unloaded, loaded again after a pre-warming window (the 5th percentile of its idle times) and kept
until the 99th. Idle times go into one-minute bins over four hours; where the histogram says little
(few samples, or counts spread too evenly) the app is kept for its whole range; where most idle
times lie beyond it, the next one is forecast.

Where the paper leaves room, or our setting differs, we chose:

- The paper lets executions take no time and an app be loaded or not. Here an app's idle time runs
  from the moment nothing of it executes to its next request; only the last instance to go idle is
  unloaded for the pre-warming window, and one is loaded again. An instance that goes idle while
  others are busy is kept for the keep-alive window: the histogram knows nothing of second places.
- A pre-warm starts early by the app's start-up time, so that it is ready when its window opens.
- The forecast is the mean of the last idle times beyond the range, an ARIMA(0, 0, 0), with the
  paper's margin of 15 %. The paper fits an ARIMA model per such app after each idle time; these
  apps hold 0.64 % of the paper's invocations and have a handful of samples a day.
- `MIN_SAMPLES`, which the paper does not state (from 2 to 20 the figures hardly move).
- A waiting request takes the first instance of its app to become free or ready, which the paper
  leaves to its platform. It is the kinder choice: bound to its own start it waits twice as long.
"""

from __future__ import annotations

from collections import deque
from itertools import accumulate
from math import inf, sqrt
from typing import ClassVar

from warmscaler.models.policy import AppPolicy, Policy, Pool, Wait

BIN_MS = 60_000.0
HEAD = 0.05
TAIL = 0.99
MARGIN = 0.10
MIN_CV = 2.0
"""Least coefficient of variation of the bins' counts at which the histogram is trusted (4.2)."""
MIN_SAMPLES = 10
FORECAST_MARGIN = 0.15
FORECAST_SAMPLES = 10
RANGE_MINUTES = 240.0


class _HybridApp(AppPolicy):
    """The app is idle from `_idle_since_ms`; both windows count from there."""

    __slots__ = (
        "_beyond",
        "_beyond_count",
        "_bins",
        "_count",
        "_idle_since_ms",
        "_keep_ms",
        "_prewarm_ms",
        "_squares",
    )

    def __init__(self, bins: int) -> None:
        super().__init__()
        self._bins = [0] * bins
        self._count = 0
        self._squares = 0
        self._beyond: deque[float] = deque(maxlen=FORECAST_SAMPLES)
        self._beyond_count = 0
        self._idle_since_ms = inf
        self._prewarm_ms = 0.0
        self._keep_ms = bins * BIN_MS

    def arrival(self, now_ms: float, pool: Pool) -> int:
        self.wake_ms = inf
        if self._idle_since_ms < inf:
            self._observe(now_ms - self._idle_since_ms)
            self._idle_since_ms = inf
        return _one_if_it_waits(pool)

    def completion(self, now_ms: float, pool: Pool, wait: Wait | None = None) -> None:
        if not pool.busy and not pool.waiting:
            self._idle_since_ms = now_ms

    def idle(self, now_ms: float, pool: Pool) -> float:
        if pool.busy or pool.waiting or not self._prewarm_ms:
            return now_ms + self._keep_ms
        prewarm_ms = now_ms + self._prewarm_ms - pool.start_ms
        if prewarm_ms <= now_ms:
            return now_ms + self._keep_ms
        # Others that are still idle go with it: the app is unloaded.
        self.wake_ms = prewarm_ms if len(pool.idle) == 1 else now_ms
        return now_ms

    def ready(self, now_ms: float, pool: Pool) -> float:
        return min(self._idle_since_ms, now_ms) + self._keep_ms

    def wake(self, now_ms: float, pool: Pool) -> int:
        if self._idle_since_ms == inf:
            return 0
        prewarm_ms = self._idle_since_ms + self._prewarm_ms - pool.start_ms
        if now_ms < prewarm_ms:
            self.wake_ms = prewarm_ms
            return -len(pool.idle)
        return 0 if pool.idle or pool.starting else 1

    def _observe(self, idle_ms: float) -> None:
        place = int(idle_ms / BIN_MS)
        if place >= len(self._bins):
            self._beyond.append(idle_ms)
            self._beyond_count += 1
        else:
            self._squares += 2 * self._bins[place] + 1
            self._bins[place] += 1
            self._count += 1
        self._decide()

    def _decide(self) -> None:
        bins = len(self._bins)
        self._prewarm_ms, self._keep_ms = 0.0, bins * BIN_MS
        if self._count + self._beyond_count < MIN_SAMPLES:
            return
        if self._beyond_count > self._count:
            forecast_ms = sum(self._beyond) / len(self._beyond)
            self._prewarm_ms = forecast_ms * (1.0 - FORECAST_MARGIN)
            self._keep_ms = forecast_ms * (1.0 + FORECAST_MARGIN)
            return
        variance = bins * self._squares / self._count**2 - 1.0
        if sqrt(max(variance, 0.0)) < MIN_CV:
            return
        head, tail = self._percentiles()
        self._prewarm_ms = head * BIN_MS * (1.0 - MARGIN)
        self._keep_ms = min((tail + 1) * (1.0 + MARGIN), bins) * BIN_MS

    def _percentiles(self) -> tuple[int, int]:
        """The bins of the head and of the tail; the head rounds down, the tail up."""
        head = -1
        for place, below in enumerate(accumulate(self._bins)):
            if head < 0 and below > HEAD * self._count:
                head = place
            if below >= TAIL * self._count:
                return head, place
        raise AssertionError("a histogram holds all of its counts")


def _one_if_it_waits(pool: Pool) -> int:
    """A start for each waiting request that no start under way is for (late binding)."""
    return 1 if len(pool.waiting) > pool.starting else 0


class HybridHistogram(Policy):
    """The hybrid histogram policy; `range_minutes` is the histogram's, and its knob."""

    late_binding: ClassVar[bool] = True

    def __init__(self, range_minutes: float = RANGE_MINUTES) -> None:
        self.range_minutes = range_minutes
        self.name = (
            "hybrid-histogram"
            if range_minutes == RANGE_MINUTES
            else f"hybrid-histogram:{range_minutes:g}"
        )

    def app(self, key: str, memory_mb: int, runtime: str) -> AppPolicy:
        return _HybridApp(max(round(self.range_minutes * 60_000.0 / BIN_MS), 1))
