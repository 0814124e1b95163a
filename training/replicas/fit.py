"""Fits the learned forecast on the looks before an instant, pooled over apps, levels and leads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from warmscaler.replicas.compiled import fast
from warmscaler.replicas.forecast import Forecast, sealed
from warmscaler.replicas.levels import FACTS, fresh, levels_for
from warmscaler.training.replicas.load import AppLoad, Load
from warmscaler.training.replicas.walk import count_rows, describe_looks, falling

ROWS = 400_000
"""Most rows that a model is fitted to; looks in use are kept first, the others weigh accordingly."""
MOST_NEGATIVE = 0.75
_SEED = 1
_TREES = 80
_PARAMETERS = {
    "objective": "binary",
    "learning_rate": 0.12,
    "num_leaves": 31,
    "min_data_in_leaf": 100,
    "lambda_l2": 5.0,
    "max_bin": 127,
    "feature_fraction": 0.8,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "seed": _SEED,
    "verbose": -1,
}
_LEVEL = FACTS.index("level")

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def fit(load: Load, until: int, done: Callable[[float], None] = lambda _: None) -> Forecast | None:
    """A forecast from the looks before number `until`; None where nothing was ever in use by then.

    `done` is told the part of the apps that was read.
    """
    import lightgbm

    rng = np.random.default_rng(_SEED)
    bounds = [row_starts(app, load.first, until) for app in load.apps]
    total = sum(int(starts[-1]) for starts in bounds)
    share = min(1.0, MOST_NEGATIVE * ROWS / max(total, 1))
    parts: list[tuple[Any, ...]] = []
    for number, (app, starts) in enumerate(zip(load.apps, bounds, strict=True)):
        lead = lead_of(app)
        last = until - lead
        if last > 0:
            facts = described(load, app, lead, starts, 0, last)
            look = np.repeat(np.arange(last), np.diff(starts[: last + 1]))
            used = app.needed[look + lead] >= facts[:, _LEVEL]
            kept = used | (rng.random(len(used)) < share)
            parts.append((facts[kept], used[kept]))
        done((number + 1) / len(load.apps))
    if not parts:
        return None
    facts, used = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    weight = np.where(used, 1.0, 1.0 / share)
    most_used = int(ROWS * (1.0 - MOST_NEGATIVE))
    if int(used.sum()) > most_used:
        thin = most_used / int(used.sum())
        kept = ~used | (rng.random(len(used)) < thin)
        weight = np.where(used, 1.0 / thin, weight)[kept]
        facts, used = facts[kept], used[kept]
    if not used.any():
        return None
    data = lightgbm.Dataset(
        facts, used, weight=weight, feature_name=list(FACTS), params=_PARAMETERS
    )
    booster = lightgbm.train(_PARAMETERS, data, _TREES)
    return Forecast(sealed(booster.model_to_string()))


def lead_of(app: AppLoad) -> int:
    """Looks from the last one taken in to the one that begins when a replica started now is ready."""
    from warmscaler.replicas.experts import terms_of

    return 1 + terms_of(app.spec).start_looks


def row_starts(app: AppLoad, first: int, until: int) -> IntArray:
    """Where the rows of each look begin, shape (until + 1,)."""
    starts = np.zeros(until + 1, dtype=np.int64)
    fast(count_rows)(_memory(app), first, app.needed[:until], starts)
    return starts


def described(
    load: Load, app: AppLoad, lead: int, starts: IntArray, begin: int, end: int
) -> npt.NDArray[np.float32]:
    """The facts of looks [begin, end), shape (rows, facts)."""
    memory = _memory(app)
    fast(count_rows)(memory, load.first, app.needed[:begin], np.zeros(begin + 1, dtype=np.int64))
    own = starts[begin : end + 1] - starts[begin]
    rows = np.zeros((int(own[-1]), len(FACTS)), dtype=np.float32)
    looks = slice(begin, end)
    fast(describe_looks)(
        memory, load.first + begin, app.needed[looks], load.fleet[looks], lead, own, rows
    )
    return rows


def chances_of(
    load: Load, app: AppLoad, forecast: Forecast | None, starts: IntArray, begin: int, end: int
) -> tuple[IntArray, FloatArray]:
    """Where the rows of looks [begin, end) begin, and their chances; without a forecast, none."""
    if forecast is None:
        return np.zeros(end - begin + 1, dtype=np.int64), np.zeros(0)
    own = starts[begin : end + 1] - starts[begin]
    chances = forecast.chances(described(load, app, lead_of(app), starts, begin, end))
    fast(falling)(chances, own)
    return own, chances


def _memory(app: AppLoad) -> Any:
    return fresh(levels_for(float(app.needed.max(initial=0.0))))
