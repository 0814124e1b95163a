"""Concurrency-window autoscaling: Knative's pod autoscaler (KPA).

Knative Serving, `pkg/autoscaler/scaling/autoscaler.go` (`Scale`) and `docs/serving/autoscaling`.
Every 2 s the number of instances wanted is the mean number of requests at once, over a stable
window of 60 s, divided by the target for one instance. A panic window of a tenth of it watches for
bursts: where it wants twice of what is ready, the larger of the two counts and nothing is released
until a stable window has passed without. An app without a request for a stable window scales to
zero, after a grace of 30 s.

Where there is a choice, we took Knative's defaults: a target of 70 % of one request an instance
(`container-concurrency-target-percentage`, with `containerConcurrency: 1` because an instance here
serves one), a panic threshold of 200 %, at most 1,000 times as many up and half down at once. With
a longer stable window the panic window stays at 6 s as far as Knative's least percentage (1 %)
lets it: a tenth of half an hour would see no burst, and that would be our choice, not theirs. The
grace is Knative's `scale-to-zero-grace-period`, which in its code is waited for in full.

Requests wait in the activator's buffer for the first instance that is free: late binding. Among
idle instances the least recently used goes first; Knative leaves that to Kubernetes.
"""

from __future__ import annotations

from collections import deque
from math import ceil, floor, inf
from typing import ClassVar

from warmscaler.models.policy import FOREVER_MS, AppPolicy, Policy, Pool, Wait

TICK_MS = 2_000.0
STABLE_WINDOW_S = 60.0
PANIC_WINDOW_S = 6.0
PANIC_SHARE = 0.1
LEAST_PANIC_SHARE = 0.01
PANIC_THRESHOLD = 2.0
TARGET = 0.7
MAX_UP = 1_000.0
MAX_DOWN = 2.0
GRACE_MS = 30_000.0


class _KnativeApp(AppPolicy):
    """`_area` is the integral of the app's concurrency (requests executing or buffered) in ms.

    `_samples` holds it at the ticks of the last stable window, oldest first, the first of them at
    or before the window's start. No tick is held while only one idle instance is left: nothing
    can change before it is released.
    """

    __slots__ = (
        "_area",
        "_born_ms",
        "_busy_ms",
        "_concurrency",
        "_most_in_panic",
        "_panic_ms",
        "_panicked_ms",
        "_samples",
        "_since_ms",
        "_window_ms",
    )

    def __init__(self, window_ms: float, panic_ms: float) -> None:
        super().__init__()
        self._window_ms = window_ms
        self._panic_ms = panic_ms
        self._born_ms = inf
        self._area = 0.0
        self._concurrency = 0
        self._since_ms = 0.0
        self._busy_ms = 0.0
        """When the last request was seen."""
        self._panicked_ms = -inf
        self._most_in_panic = 0
        self._samples: deque[tuple[float, float]] = deque()

    def arrival(self, now_ms: float, pool: Pool) -> int:
        if self._born_ms == inf:
            self._born_ms = now_ms
            self._samples.append((now_ms, 0.0))
        self._advance(now_ms, pool.busy + len(pool.waiting))
        self._busy_ms = now_ms
        next_tick_ms = (floor(now_ms / TICK_MS) + 1) * TICK_MS
        self.wake_ms = min(self.wake_ms, next_tick_ms)
        # The activator tells the autoscaler at once of a request to an app at zero.
        return 1 if not (pool.busy or pool.idle or pool.starting) else 0

    def completion(self, now_ms: float, pool: Pool, wait: Wait | None = None) -> None:
        self._advance(now_ms, pool.busy + len(pool.waiting))
        self._busy_ms = now_ms

    def idle(self, now_ms: float, pool: Pool) -> float:
        return FOREVER_MS

    def wake(self, now_ms: float, pool: Pool) -> int:
        concurrency = pool.busy + len(pool.waiting)
        self._advance(now_ms, concurrency)
        if concurrency:
            self._busy_ms = now_ms
        self._samples.append((now_ms, self._area))
        ready = pool.busy + len(pool.idle)
        have = ready + pool.starting
        if not have and not concurrency:
            return 0  # at zero: the next request wakes it
        idle_ms = now_ms - self._busy_ms
        if idle_ms >= self._window_ms:
            if idle_ms < self._window_ms + GRACE_MS:
                self.wake_ms = self._busy_ms + self._window_ms + GRACE_MS
                return 1 - have
            return -len(pool.idle)
        wanted = self._wanted(now_ms, max(ready, 1))
        if have == 1 and wanted <= 1 and not concurrency:
            self.wake_ms = self._busy_ms + self._window_ms
        else:
            self.wake_ms = now_ms + TICK_MS
        return max(wanted, 1) - have

    def _advance(self, now_ms: float, concurrency: int) -> None:
        self._area += self._concurrency * (now_ms - self._since_ms)
        self._concurrency = concurrency
        self._since_ms = now_ms

    def _wanted(self, now_ms: float, ready: int) -> int:
        """How many instances `Scale` would want: its stable and panic modes and rates."""
        samples = self._samples
        while len(samples) > 1 and samples[1][0] <= now_ms - self._window_ms:
            samples.popleft()
        stable = self._bounded(self._mean(now_ms, self._window_ms, samples[0][1]), ready)
        panic_from_ms = now_ms - self._panic_ms
        area = next((a for at_ms, a in reversed(samples) if at_ms <= panic_from_ms), samples[0][1])
        over_panic = ceil(self._mean(now_ms, self._panic_ms, area) / TARGET)
        if over_panic / ready >= PANIC_THRESHOLD:
            if now_ms - self._panicked_ms >= self._window_ms:
                self._most_in_panic = 0
            self._panicked_ms = now_ms
        if now_ms - self._panicked_ms >= self._window_ms:
            return stable
        panic = self._bounded(self._mean(now_ms, self._panic_ms, area), ready)
        self._most_in_panic = max(self._most_in_panic, panic, stable, ready)
        return self._most_in_panic

    def _mean(self, now_ms: float, window_ms: float, area_then: float) -> float:
        seen_ms = max(min(window_ms, now_ms - self._born_ms), 1_000.0)
        return (self._area - area_then) / seen_ms

    @staticmethod
    def _bounded(mean: float, ready: int) -> int:
        wanted = ceil(mean / TARGET)
        return max(min(wanted, ceil(ready * MAX_UP)), floor(ready / MAX_DOWN))


class Knative(Policy):
    """Knative's autoscaler; `stable_window_s` is its knob."""

    late_binding: ClassVar[bool] = True

    def __init__(self, stable_window_s: float = STABLE_WINDOW_S) -> None:
        self.stable_window_s = stable_window_s
        share = min(max(PANIC_WINDOW_S / stable_window_s, LEAST_PANIC_SHARE), PANIC_SHARE)
        self.panic_window_s = max(stable_window_s * share, TICK_MS / 1000.0)
        self.name = (
            "knative" if stable_window_s == STABLE_WINDOW_S else f"knative:{stable_window_s:g}"
        )

    def app(self, key: str, memory_mb: int, runtime: str) -> AppPolicy:
        return _KnativeApp(self.stable_window_s * 1000.0, self.panic_window_s * 1000.0)
