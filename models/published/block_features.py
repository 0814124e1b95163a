"""What FeMux knows of a block of an app's minutes: density, stationarity, linearity, harmonics.

As in FeMux's `code/extract` (EuroSys 2026): the mean, the augmented Dickey-Fuller test at 5 %, the BDS
test at 5 %, and how many frequencies stand two standard deviations above the rest.
"""

from __future__ import annotations

from math import log2, sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

DICKEY_FULLER_5 = -2.88
"""The test's critical value with a constant, about 100 observations (W. Fuller, 1976)."""
NORMAL_5 = 1.96
NEAR = 1.5
"""BDS: two points are near each other within so many standard deviations."""
LEAST_FREQUENCY = 2.0 / 120.0
PEAK_STDS = 2.0
MOST_HARMONICS = 4
LEAST_MINUTES = 20


class Features(NamedTuple):
    """Of one block: a cell of what FeMux clusters with k-means."""

    density: int
    """The power of two of its mean concurrency."""
    stationary: bool
    linear: bool
    harmonics: int


def features(values: FloatArray) -> Features:
    """Of concurrency by the minute, shape (n >= 1,)."""
    mean = float(values.mean())
    density = round(log2(mean)) if mean > 0.0 else -99
    if len(values) < LEAST_MINUTES or float(values.max()) == float(values.min()):
        return Features(density, True, True, 0)
    return Features(density, _stationary(values), _linear(values), _harmonics(values))


def _stationary(values: FloatArray) -> bool:
    """Augmented Dickey-Fuller with one lag and a constant."""
    steps = np.diff(values)
    regressors = np.column_stack([np.ones(len(steps) - 1), values[1:-1], steps[:-1]])
    weights, _, rank, _ = np.linalg.lstsq(regressors, steps[1:], rcond=None)
    if rank < 3:
        return True
    rest = steps[1:] - regressors @ weights
    variance = float(rest @ rest) / max(len(rest) - 3, 1)
    spread = variance * float(np.linalg.inv(regressors.T @ regressors)[1, 1])
    return spread <= 0.0 or float(weights[1]) / sqrt(spread) <= DICKEY_FULLER_5


def _linear(values: FloatArray) -> bool:
    """BDS in two dimensions on the steps of log(1 + value) (W. Brock et al., 1996)."""
    steps = np.diff(np.log1p(values))
    count = len(steps)
    reach = NEAR * float(steps.std())
    if reach == 0.0:
        return True
    near = np.abs(steps[:, None] - steps[None, :]) <= reach
    pairs = near[1:, 1:] & near[:-1, :-1]
    total = float(near.sum())
    one = (total - count) / (count * (count - 1))
    two = (float(pairs.sum()) - (count - 1)) / ((count - 1) * (count - 2))
    by_row = near.sum(axis=1).astype(np.float64)
    three = (float(by_row @ by_row) - 3.0 * total + 2.0 * count) / (
        count * (count - 1) * (count - 2)
    )
    spread = 2.0 * (three - one * one)
    return spread <= 0.0 or abs(sqrt(count - 1) * (two - one * one) / spread) < NORMAL_5


def _harmonics(values: FloatArray) -> int:
    at = np.arange(len(values))
    slope = np.polyfit(at, values, 1)[0]
    strength = np.abs(np.fft.rfft(values - slope * at))
    strength = strength[np.fft.rfftfreq(len(values)) >= LEAST_FREQUENCY]
    peaks = strength >= strength.mean() + PEAK_STDS * strength.std()
    return min(int(peaks.sum()), MOST_HARMONICS)
