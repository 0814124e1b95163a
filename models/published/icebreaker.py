"""IceBreaker: instances for the next minute by a Fourier series of the last hour, where warming pays.

R. Basu Roy, T. Patel and D. Tiwari, "IceBreaker: Warming Serverless Functions Better with
Heterogeneity", ASPLOS 2022, doi 10.1145/3503222.3507750. Each minute an app's concurrency in the next
one is foreseen: a quadratic trend of its recent past, and the Fourier series of what the trend leaves
out, cut to its harmonics. A utility score, the mean of how often too little was foreseen, how seldom
too much, how small the app is and how much faster dear nodes are, says where it is warmed: on dear
nodes, on cheap ones, or not at all.

Where the paper leaves room, or our setting differs, we chose (the abstract, accounts by others, and the
artifact's forecaster as FeMux's repository has it were at hand):

- One kind of node: nothing is placed, the speed-up leaves the score, and one threshold remains, the knob.
  At or above it an app is warmed. In our score each part lies in [0, 1]: the shares of the last hour's
  minutes foreseen too low and too high, and memory over the most that platforms offer (10 GB).
- The paper's trend is quadratic and its harmonics the strongest; the artifact takes a linear trend and
  the ten slowest. Ours: quadratic, the ten strongest, over the artifact's 60 minutes, rounded as there.
- Concurrency is the most requests at once within a minute: what warming it must provide.
- Until ten minutes of an app are known, it keeps what any of them needed.
- An app below the threshold keeps nothing beyond the minute of its use.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from warmscaler.models.policy import AppPolicy, Policy, Pool
from warmscaler.models.published.per_minute import KEEP_MINUTES, Minute, PerMinuteApp

FloatArray = npt.NDArray[np.float64]

WINDOW_MINUTES = 60
HARMONICS = 10
LARGEST_MB = 10_240
THRESHOLD = 0.5
"""Our choice: the paper's two thresholds are not in what was at hand."""


def next_value(values: FloatArray) -> float:
    """What follows `values`, shape (n >= 3,): quadratic trend plus the strongest harmonics.

    A harmonic of the window's length is at its end where it was at its beginning.
    """
    count = len(values)
    residual_of, trend_of = _trend(count)
    harmonics = np.fft.rfft(residual_of @ values)
    parts = harmonics.real * (2.0 / count)
    if count % 2 == 0:
        parts[-1] /= 2.0
    if len(parts) > HARMONICS + 1:
        weak = np.argpartition(np.abs(harmonics[1:]), len(parts) - 1 - HARMONICS)
        parts[1 + weak[: len(parts) - 1 - HARMONICS]] = 0.0
    return float(trend_of @ values + parts[1:].sum())  # the trend has taken the mean


@lru_cache(maxsize=2 * WINDOW_MINUTES)
def _trend(count: int) -> tuple[FloatArray, FloatArray]:
    """Matrices of least squares for a quadratic trend over 0 .. count - 1: what gives the rest of a
    series, and what gives the trend's value at `count`."""
    at = np.arange(count + 1) / count
    powers = np.stack([np.ones(count + 1), at, at * at], axis=1)
    fit = np.linalg.pinv(powers[:count])
    return np.eye(count) - powers[:count] @ fit, powers[count] @ fit


class _IceBreakerApp(PerMinuteApp):
    __slots__ = ("_foreseen", "_missed", "_threshold")

    def __init__(self, threshold: float) -> None:
        super().__init__(WINDOW_MINUTES)
        self._threshold = threshold
        self._foreseen: dict[int, int] = {}
        """What was foreseen of the minute last asked for and of the one before, by their numbers."""
        self._missed: deque[int] = deque(maxlen=WINDOW_MINUTES)
        """By minute: -1 foreseen too low, 1 too high, 0 right."""

    def forecast(self, number: int, minutes: list[Minute], pool: Pool) -> int:
        if len(minutes) < KEEP_MINUTES:
            return max(minute.most for minute in minutes)
        values = np.array([minute.most for minute in minutes], dtype=np.float64)
        foreseen = max(round(next_value(values)), 0) if values.any() else 0
        self._foreseen = {k: v for k, v in self._foreseen.items() if k == number - 1}
        self._foreseen[number] = foreseen
        return foreseen if self._utility(pool) >= self._threshold else 0

    def over(self, number: int, minute: Minute, pool: Pool) -> None:
        foreseen = self._foreseen.get(number)
        if foreseen is not None:
            self._missed.append((foreseen > minute.most) - (foreseen < minute.most))

    def _utility(self, pool: Pool) -> float:
        known = max(len(self._missed), 1)
        too_low, too_high = self._missed.count(-1) / known, self._missed.count(1) / known
        size = min(pool.memory_mb / LARGEST_MB, 1.0)
        return (too_low + (1.0 - too_high) + (1.0 - size)) / 3.0


class IceBreaker(Policy):
    """IceBreaker's forecast; apps whose utility is below `threshold`, its knob, are not warmed."""

    late_binding: ClassVar[bool] = True

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self.threshold = threshold
        self.name = "icebreaker" if threshold == THRESHOLD else f"icebreaker:{threshold:g}"

    def app(self, key: str, memory_mb: int, runtime: str) -> AppPolicy:
        return _IceBreakerApp(self.threshold)
