"""Floors by the statistical models of Nixtla's statsforecast, each rolled forward with the past only.

What is forecast is the peak of a bucket, an app at a time. Levels above the mean add to it a quantile
of the model's own errors of late (split conformal prediction: Lei et al., 2018).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from warmscaler.replicas.levels import DAY_LOOKS, LOOK_S
from warmscaler.training.replicas.load import AppLoad, FloatArray, Load

IS_INSTALLED = find_spec("statsforecast") is not None
MEAN = "mean"
LEVELS = (0.5, 0.8, 0.9, 0.95, 0.99, 0.999)
"""Of the peak; besides there is the mean."""
BUCKET_LOOKS, SHORT_BUCKET_LOOKS = 20, 4
"""5 minutes; one minute in a trace of no more than a day."""
_PAST_DAYS = 3
"""What a model is shown."""
_LEAST = 12
"""Buckets before anything is forecast."""
_ERRORS = 288
"""Errors of late that a level goes by."""


def statistical(
    load: Load, done: Callable[[float], None] = lambda _: None
) -> Iterator[tuple[str, list[FloatArray]]]:
    """Yields a label and floors by app, each of shape (looks,), for every model and level.

    Forecasts begin 288 buckets before the split, so that there are errors to go by. `done` is told a
    part of 1. Needs statsforecast.
    """
    bucket = BUCKET_LOOKS if load.looks > DAY_LOOKS else SHORT_BUCKET_LOOKS
    day = DAY_LOOKS // bucket
    first = max(load.split_look // bucket - _ERRORS, _LEAST)
    models = _models(day if first >= 2 * day else None)
    for number, model in enumerate(models):
        by_level: dict[str, list[FloatArray]] = {}
        for index, app in enumerate(load.apps):
            for level, floors in floors_of(app, model, bucket, first).items():
                by_level.setdefault(level, []).append(floors)
            done((number + (index + 1) / len(load.apps)) / len(models))
        for level, every in by_level.items():
            yield f"statsforecast {model.alias}, {level}", every


def floors_of(app: AppLoad, model: Any, bucket: int, first: int) -> dict[str, FloatArray]:
    """The app's floors by level, each of shape (looks,); 0 until `first` buckets have passed."""
    looks = len(app.needed)
    ahead = round(app.spec.start_s / LOOK_S) + 2
    horizon = 1 + -(-(ahead - 1) // bucket)
    peaks = np.maximum.reduceat(app.needed, np.arange(0, looks, bucket))
    means = _rolled(model, peaks, first, horizon, bucket)
    origins = np.arange(len(means))
    found = {MEAN: means}
    for level in LEVELS:
        found[_named(level)] = means.copy()
    for step in range(horizon):
        # What was forecast `step` before for the bucket that has just passed.
        told = means[: len(means) - 1 - step, step]
        errors = np.full(len(means), np.nan)
        errors[step + 1 :] = peaks[step : step + len(told)] - told
        errors[: first + step + 1] = np.nan
        rows = np.sort(
            sliding_window_view(np.append(np.full(_ERRORS - 1, np.nan), errors), _ERRORS)
        )
        count = (~np.isnan(rows)).sum(axis=1)
        for level in LEVELS:
            rank = np.clip(np.ceil(level * (count + 1)) - 1, 0, np.maximum(count - 1, 0))
            found[_named(level)][:, step] += np.nan_to_num(rows[origins, rank.astype(int)])
    # After look i, origin (i + 1) // bucket is known; its replicas are there from i + 1 to i + ahead.
    at = np.arange(1, looks + 1)
    origin = at // bucket
    last = (at + ahead - 1) // bucket - origin
    held = {
        name: np.maximum.accumulate(of.clip(0.0), axis=1)[origin, last]
        for name, of in found.items()
    }
    # A peak is whole: its quantile is rounded, and a mean says that there is something.
    return {name: np.ceil(of) if name == MEAN else np.round(of) for name, of in held.items()}


def _rolled(model: Any, peaks: FloatArray, first: int, horizon: int, bucket: int) -> FloatArray:
    """Forecasts of the buckets from each origin on, shape (buckets + 1, horizon); row i sees `peaks[:i]`.

    A model that can go on without being fitted again is fitted once a day, and more often at first.
    """
    day = DAY_LOOKS // bucket
    means = np.zeros((len(peaks) + 1, horizon))
    fitted, due = None, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for origin in range(first, len(peaks) + 1):
            past = peaks[max(origin - _PAST_DAYS * day, 0) : origin]
            if not past.any():
                continue
            if not hasattr(model, "forward"):
                told = model.forecast(y=past, h=horizon)
            else:
                if fitted is None or origin >= due:
                    fitted = model.new().fit(past)
                    due = origin + min(origin // 4, day)
                told = fitted.forward(y=past, h=horizon)
            means[origin] = np.nan_to_num(told["mean"], posinf=0.0, neginf=0.0).clip(0.0)
    return means


def _named(level: float) -> str:
    return f"{100 * level:g} %"


def _models(day: int | None) -> list[Any]:
    """What statsforecast has for intermittent demand and for levels; for seasons of `day` buckets too."""
    known: Any = import_module("statsforecast.models")
    models = [
        known.TSB(alpha_d=0.2, alpha_p=0.2),
        known.ADIDA(),
        known.SimpleExponentialSmoothingOptimized(alias="SES"),
        known.AutoETS(season_length=1),
    ]
    if day is not None:
        models += [
            known.SeasonalNaive(day),
            known.SeasonalWindowAverage(day, window_size=2, alias="SeasonalWindowAverage"),
        ]
    return models
