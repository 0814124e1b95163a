"""Whether a model can be served with: its bytes may be whole and its numbers still nonsense."""

from __future__ import annotations

from math import isfinite

import numpy as np

from models.artifact import ArtifactError
from models.learned import MAX_PLACES, MEMORY_GAPS, Model
from models.window import FloatArray

MAX_PRICE = 1e6


def check_model(model: Model) -> None:
    """Raises ArtifactError, one line, where a number in `model` cannot be."""
    price = model.price_s_per_gb_s
    if not (isfinite(price) and 0.0 < price <= MAX_PRICE):
        raise ArtifactError(f"the model's price is {price:g}: train it again")
    if not _are_times(model.prior_ms) or not len(model.prior_ms):
        raise ArtifactError("the model's prior has impossible idle times: train it again")
    if not _is_time(model.start_ms):
        raise ArtifactError(f"the model's start-up time is {model.start_ms:g}: train it again")
    for key, app in model.apps.items():
        fine = _is_time(app.start_ms) and len(app.places) <= MAX_PLACES
        for place in app.places:
            fine = fine and _is_time(place.covered_ms) and _is_time(place.excess_ms)
            fine = fine and len(place.gaps_ms) <= MEMORY_GAPS and _are_times(place.gaps_ms)
            fine = fine and place.phases_ms.shape == place.gaps_ms.shape
            fine = fine and _are_times(place.phases_ms)
        if not fine:
            raise ArtifactError(f"the model has impossible habits for app {key!r}: train it again")


def _is_time(value_ms: float) -> bool:
    return isfinite(value_ms) and value_ms >= 0.0


def _are_times(values_ms: FloatArray) -> bool:
    return values_ms.ndim == 1 and bool(np.isfinite(values_ms).all() and (values_ms >= 0.0).all())
