"""SPES: apps put into categories by their idle minutes, each loaded and unloaded by its category's rule.

C. Lee, Z. Zhu, T. Yang, Y. Huo, Y. Su, P. He and M. R. Lyu, "SPES: Towards Optimizing Performance-Resource
Trade-Off for Serverless Functions", ICDE 2024, arXiv 2403.17574, and its notebook. Time is minutes. An app
is always warm, regular, approximately regular, dense, successive, pulsed, possible or unknown (see
`spes_categories.py`); where its category predicts calls it is loaded two minutes before and kept two after,
else it is unloaded after so many idle minutes.

Where the paper leaves room, or our setting differs, we chose:

- The paper categorises offline, on twelve days, and adapts predicted values afterwards. Ours categorises
  anew with each idle time, by the newest `MEMORY` of them: the same rules on what a shorter trace has.
- Correlated apps (called within minutes of another of the same owner) are left out: no trace here tells
  owners.
- The paper's function is loaded or not. Here the app's first instance is; what is there beyond it goes
  after the category's idle minutes, for the paper knows nothing of second places.
- A pre-warm starts early by the app's start-up time. A minute is busy while anything executes.
- A waiting request takes the first instance of its app to become free or ready.
- The knob, `give_up`, multiplies the paper's idle minutes before unloading.
"""

from __future__ import annotations

from collections import deque
from math import floor, inf
from typing import ClassVar

from warmscaler.models.outlook import Outlook
from warmscaler.models.policy import AppPolicy, Policy, Pool, Wait
from warmscaler.models.published.spes_categories import (
    PREWARM_MINUTES,
    UNKNOWN,
    Category,
    Plan,
    Run,
    plan,
)

MINUTE_MS = 60_000.0
MEMORY = 200
WARM_FROM_MINUTES = 60
"""No app is always warm before it was there for so long."""
LOOK_AGAIN_MINUTES = 60


class _SpesApp(AppPolicy):
    """`_busy` is the last minute in which something executed; offsets count from it."""

    __slots__ = (
        "_born",
        "_busy",
        "_calls",
        "_give_up",
        "_idle_minutes",
        "_plan",
        "_run_from",
        "_runs",
        "_waits",
    )

    def __init__(self, give_up: float) -> None:
        super().__init__()
        self._give_up = give_up
        self._waits: deque[int] = deque(maxlen=MEMORY)
        self._runs: deque[Run] = deque(maxlen=MEMORY)
        self._born = -1
        self._busy = -1
        self._run_from = 0
        self._calls = 0
        self._idle_minutes = 0
        self._plan: Plan = UNKNOWN

    def arrival(self, now_ms: float, pool: Pool) -> int:
        minute = floor(now_ms / MINUTE_MS)
        alone = pool.busy + len(pool.waiting) == 1
        if self._born < 0:
            self._born = self._run_from = self._busy = minute
        elif alone and minute > self._busy + 1:
            self._end_run(minute)
        self._busy = minute
        self._calls += 1
        self.wake_ms = inf
        return 1 if len(pool.waiting) > pool.starting else 0

    def completion(self, now_ms: float, pool: Pool, wait: Wait | None = None) -> None:
        self._busy = floor(now_ms / MINUTE_MS)

    def idle(self, now_ms: float, pool: Pool) -> float:
        self._busy = max(self._busy, floor(now_ms / MINUTE_MS))
        if not (pool.busy or pool.waiting):
            self._predict(self._give_up_minutes, pool)
        return self._at_ms(self._give_up_minutes + 1)

    def ready(self, now_ms: float, pool: Pool) -> float:
        # It was started for the minute that begins about now.
        offset = floor((now_ms + MINUTE_MS / 2.0) / MINUTE_MS) - self._busy
        return max(self._kept_ms(offset), now_ms + self._give_up_minutes * MINUTE_MS)

    def expiry(self, now_ms: float, pool: Pool, level: int) -> float:
        minute = floor(now_ms / MINUTE_MS)
        if level > 1 or pool.busy:
            return now_ms
        if self._plan.category is Category.WARM:
            return now_ms + LOOK_AGAIN_MINUTES * MINUTE_MS
        kept_ms = self._kept_ms(minute - self._busy)
        if kept_ms <= now_ms:
            self._predict(minute - self._busy, pool)
            return now_ms
        return kept_ms

    def wake(self, now_ms: float, pool: Pool) -> int:
        return 0 if pool.idle or pool.busy or pool.starting else 1

    def outlook(self, now_ms: float, pool: Pool) -> Outlook:
        return Outlook(f"takes the app for {self._plan.category.value}", start_ms=self.wake_ms)

    @property
    def _give_up_minutes(self) -> int:
        return max(round(self._plan.give_up_minutes * self._give_up), 1)

    def _at_ms(self, offset: float) -> float:
        """When the minute at this offset begins."""
        return (self._busy + offset) * MINUTE_MS

    def _kept_ms(self, offset: int) -> float:
        """Until when an instance is kept that is there in the minute at this offset."""
        kept = self._give_up_minutes + 1 if offset <= self._give_up_minutes else 0
        for first, last in self._plan.predicted:
            if first - PREWARM_MINUTES <= max(offset, kept) and offset <= last + PREWARM_MINUTES:
                kept = max(kept, floor(last) + PREWARM_MINUTES + 1)
        return self._at_ms(kept)

    def _predict(self, after: int, pool: Pool) -> None:
        """Sets the time of the next pre-warm for what is predicted later than this offset."""
        for first, _ in self._plan.predicted:
            begin = floor(first) - PREWARM_MINUTES
            if begin > after:
                self.wake_ms = self._at_ms(begin) - pool.start_ms
                return

    def _end_run(self, minute: int) -> None:
        """Idle minutes are over, and so is the run before them."""
        wait = minute - self._busy - 1
        self._waits.append(wait)
        self._idle_minutes += wait
        self._runs.append(Run(self._busy - self._run_from + 1, self._calls))
        self._run_from, self._calls = minute, 0
        known = minute - self._born
        idle_share = self._idle_minutes / known if known >= WARM_FROM_MINUTES else 1.0
        self._plan = plan(list(self._waits), list(self._runs), idle_share)


class Spes(Policy):
    """SPES's categories; `give_up` is its knob."""

    late_binding: ClassVar[bool] = True

    def __init__(self, give_up: float = 1.0) -> None:
        self.give_up = give_up
        self.name = "spes" if give_up == 1.0 else f"spes:{give_up:g}"

    def app(self, key: str, memory_mb: int, runtime: str) -> AppPolicy:
        return _SpesApp(self.give_up)
