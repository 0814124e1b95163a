"""Predicted against observed: how often a level was needed within a time, and how often the
distribution that the policy goes by had said so.

Each forecast is made when a level is left, from the idle times that ended before, as the policy
makes it: recent ones weigh more, the population's prior stands behind them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from warmscaler.data.trace import Trace
from warmscaler.models.learned.app import PRIOR_WEIGHT
from warmscaler.models.learned.habits import MEMORY_GAPS, Model
from warmscaler.models.learned.level import recency_weights
from warmscaler.models.learned.plan import Prior

FloatArray = npt.NDArray[np.float64]
HORIZONS_S = (5.0, 15.0, 60.0, 300.0, 1_800.0)
PER_APP = 400
"""Forecasts taken of one app; of more, evenly thinned, so that no busy app speaks for all."""
BINS = 10


@dataclass(frozen=True, slots=True)
class Calibration:
    """Forecasts in bins of predicted chance; shapes (bins,). Empty bins are left out."""

    predicted: FloatArray
    observed: FloatArray
    forecasts: npt.NDArray[np.int64]

    @property
    def error(self) -> float:
        """The mean distance of observed from predicted, forecasts counting the same."""
        if not len(self.forecasts):
            return 0.0
        off = np.abs(self.predicted - self.observed)
        return float(np.average(off, weights=self.forecasts))


def calibration(trace: Trace, split_ms: float, model: Model) -> Calibration:
    """Of the first levels of all apps, forecasts made from the split on."""
    prior = Prior(model.prior_ms, PRIOR_WEIGHT)
    chances, happened = [np.zeros(0)], [np.zeros(0)]
    for index in range(len(trace.apps)):
        own = trace.app == index
        left_ms, gap_ms = _first_level(trace, own)
        judged = np.flatnonzero((left_ms >= split_ms) & (np.arange(len(gap_ms)) > 0))
        if len(judged) > PER_APP:
            judged = judged[np.linspace(0, len(judged) - 1, PER_APP).round().astype(np.int64)]
        for row in judged.tolist():
            past = gap_ms[max(0, row - MEMORY_GAPS) : row]
            weight = recency_weights(len(past))
            for within_ms in np.array(HORIZONS_S) * 1_000.0:
                believed = float(prior.weight_before(np.array([within_ms]))[0])
                chance = (weight[past <= within_ms].sum() + believed) / (
                    weight.sum() + PRIOR_WEIGHT
                )
                chances.append(np.array([chance]))
                happened.append(np.array([float(gap_ms[row] <= within_ms)]))
    chance, came = np.concatenate(chances), np.concatenate(happened)
    bins = np.minimum((chance * BINS).astype(np.int64), BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    filled = count > 0
    return Calibration(
        predicted=np.bincount(bins, weights=chance, minlength=BINS)[filled] / count[filled],
        observed=np.bincount(bins, weights=came, minlength=BINS)[filled] / count[filled],
        forecasts=count[filled],
    )


def _first_level(trace: Trace, own: npt.NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """When an app had nothing to do, and for how long each time; as if no request waited."""
    arrival = trace.arrival_ms[own].astype(np.float64)
    if not len(arrival):
        return np.zeros(0), np.zeros(0)
    busy_until = np.maximum.accumulate(arrival + trace.duration_ms[own].clip(min=1))
    idle = np.flatnonzero(arrival[1:] > busy_until[:-1])
    left_ms = busy_until[idle]
    gap_ms = arrival[idle + 1] - left_ms
    return left_ms, gap_ms
