"""Forecasters of an app's mean concurrency by the minute: those among which FeMux chooses.

As in FeMux's simulator (`code/forecasting/forecasting_sim.py`): what the last 5 or 10 minutes needed at
most, an autoregression of order 10, the Fourier series of the last hour with a linear trend and its ten
slowest harmonics, a Markov chain, exponential smoothing. All look back 120 minutes at most.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from functools import lru_cache
from math import ceil
from typing import ClassVar

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

WINDOW_MINUTES = 120
LEAST_CONCURRENCY = 1.6e-5
"""Less than this is nothing: one request of a millisecond a minute."""


class Forecaster(ABC):
    """Of one app."""

    def observe(self, value: float) -> None:  # noqa: B027 - some remember nothing
        """A minute is over, and this was its concurrency."""

    @abstractmethod
    def next(self, values: FloatArray) -> float:
        """The concurrency of the minute after `values`, oldest first; the last may still run."""


class KeepAlive(Forecaster):
    """As if each instance were kept for so many minutes."""

    def __init__(self, minutes: int) -> None:
        self._minutes = minutes

    def next(self, values: FloatArray) -> float:
        return float(values[-self._minutes :].max())


class Autoregression(Forecaster):
    """Least squares on the last `ORDER` minutes and a constant, fitted anew every few minutes."""

    ORDER: ClassVar[int] = 10
    LEAST_ROWS: ClassVar[int] = 12
    REFIT_MINUTES: ClassVar[int] = 5
    _RIDGE: ClassVar[float] = 1e-9
    """Keeps a series that repeats itself solvable."""

    def __init__(self) -> None:
        self._weights: FloatArray | None = None
        self._age = 0

    def next(self, values: FloatArray) -> float:
        if len(values) < self.ORDER + self.LEAST_ROWS:
            return float(values[-1])
        if self._weights is None or self._age >= self.REFIT_MINUTES:
            self._weights = self._fit(values)
            self._age = 0
        self._age += 1
        return float(self._weights[:-1] @ values[-self.ORDER :] + self._weights[-1])

    def _fit(self, values: FloatArray) -> FloatArray:
        rows = np.lib.stride_tricks.sliding_window_view(values[:-1], self.ORDER)
        lags = np.column_stack([rows, np.ones(len(rows))])
        gram = lags.T @ lags
        gram[np.diag_indices(len(gram))] += self._RIDGE
        return np.asarray(np.linalg.solve(gram, lags.T @ values[self.ORDER :]))


class SlowHarmonics(Forecaster):
    """A linear trend, and the mean and slowest harmonics of what it leaves, of the last hour."""

    MINUTES: ClassVar[int] = 60
    HARMONICS: ClassVar[int] = 10

    def next(self, values: FloatArray) -> float:
        values = values[-self.MINUTES :]
        count = len(values)
        slope = _slope(count) @ values
        harmonics = np.fft.rfft(values - slope * np.arange(count))
        parts = 2.0 * harmonics.real[: self.HARMONICS + 1]
        parts[0] /= 2.0
        if count % 2 == 0 and len(harmonics) <= self.HARMONICS + 1:
            parts[-1] /= 2.0
        return float(parts.sum() / count + slope * count)


@lru_cache(maxsize=WINDOW_MINUTES)
def _slope(count: int) -> FloatArray:
    """What gives the slope of the least-squares line through a series of that length."""
    at = np.arange(count) - (count - 1) / 2.0
    return np.asarray(at / max(float(at @ at), 1.0), dtype=np.float64)


class MarkovChain(Forecaster):
    """States are a level, in whole instances, and for how long it has been there. What followed most
    often is expected; FeMux draws at random, which nothing that decides here may."""

    def __init__(self) -> None:
        self._followed: defaultdict[tuple[int, int], Counter[int]] = defaultdict(Counter)
        self._state = (0, 0)

    def observe(self, value: float) -> None:
        level = instances(value)
        self._followed[self._state][level] += 1
        self._state = self._after(level)

    def next(self, values: FloatArray) -> float:
        state = self._after(instances(float(values[-1])))
        followed = self._followed.get(state)
        if not followed:
            return float(values[-1])
        return float(max(followed, key=lambda level: (followed[level], level)))

    def _after(self, level: int) -> tuple[int, int]:
        before, stayed = self._state
        return (level, min(stayed + 1, WINDOW_MINUTES)) if level == before else (level, 1)


class ExponentialSmoothing(Forecaster):
    """Simple smoothing, by the factor whose squared errors of the next minute were least of late."""

    FACTORS: ClassVar[tuple[float, ...]] = (0.1, 0.3, 0.5, 0.7, 0.9)
    _FORGET: ClassVar[float] = 1.0 - 1.0 / WINDOW_MINUTES

    def __init__(self) -> None:
        self._levels = [0.0] * len(self.FACTORS)
        self._errors = [0.0] * len(self.FACTORS)

    def observe(self, value: float) -> None:
        for place, factor in enumerate(self.FACTORS):
            error = value - self._levels[place]
            self._errors[place] = self._FORGET * self._errors[place] + error * error
            self._levels[place] += factor * error

    def next(self, values: FloatArray) -> float:
        best = self._errors.index(min(self._errors))
        level = self._levels[best]
        return level + self.FACTORS[best] * (float(values[-1]) - level)


def instances(concurrency: float) -> int:
    """Instances that a mean concurrency takes."""
    return ceil(concurrency) if concurrency >= LEAST_CONCURRENCY / 2.0 else 0


def all_of_them() -> list[Forecaster]:
    """One of each, for one app; the first is what FeMux goes by while it knows nothing."""
    return [
        KeepAlive(10),
        KeepAlive(5),
        Autoregression(),
        SlowHarmonics(),
        MarkovChain(),
        ExponentialSmoothing(),
    ]
