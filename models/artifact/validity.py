"""Whether a model can be served with: its bytes may be whole and its numbers still nonsense."""

from __future__ import annotations

from math import isfinite

import numpy as np

from warmscaler.models.artifact.folder import ArtifactError
from warmscaler.models.learned.habits import MAX_LEVELS, Model
from warmscaler.models.learned.plan import FloatArray
from warmscaler.models.objectives.price import PRICE_RANGE, is_price

MOST_GAPS = 1_024
"""Idle times of a level: more than training ever kept; the latest are taken."""


def check_model(model: Model) -> None:
    """Raises ArtifactError, one line, where a number in `model` cannot be."""
    price = model.price_s_per_gb_s
    if not is_price(price):
        raise ArtifactError(f"the model's price is {price:g}: {PRICE_RANGE}; train it again")
    prior_ms = model.prior_ms
    if not len(prior_ms) or not _are_times(prior_ms) or (np.diff(prior_ms) < 0.0).any():
        raise ArtifactError("the model's prior has impossible idle times: train it again")
    if not _is_time(model.start_ms):
        raise ArtifactError(f"the model's start-up time is {model.start_ms:g}: train it again")
    context = model.context
    if context is not None and not all(
        map(isfinite, [context.new_apps_gain, *context.gains.values()])
    ):
        raise ArtifactError("the model's context pays by what is no number: train it again")
    if not _are_fine(model):
        raise ArtifactError("the model has impossible habits of some app: train it again")


def _are_fine(model: Model) -> bool:
    # Flat arrays, as they lie on the disk: an app at a time would keep a server from its requests.
    try:
        arrays = model.arrays()
    except (TypeError, ValueError):  # more dimensions than one, or numbers that are none
        return False
    numbers = (
        *("app_start_ms", "app_use_ms", "app_crowd"),
        *("level_covered_ms", "level_excess_ms", "level_open_ms", "level_uses", "level_behind"),
        *("gaps_ms", "phases_ms"),
    )
    most = (("app_levels", MAX_LEVELS), ("level_gaps", MOST_GAPS))
    return (
        all(_are_times(arrays[name]) for name in numbers)
        and all(bool((arrays[name] <= limit).all()) for name, limit in most)
        and all(
            level.gaps_ms.shape == level.phases_ms.shape
            for app in model.apps.values()
            for level in app.levels
        )
    )


def _is_time(value_ms: float) -> bool:
    return isfinite(value_ms) and value_ms >= 0.0


def _are_times(values_ms: FloatArray) -> bool:
    return values_ms.ndim == 1 and bool(np.isfinite(values_ms).all() and (values_ms >= 0.0).all())
