"""Small models of trees, made by LightGBM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from warmscaler.models.learned.context.features import FEATURES

if TYPE_CHECKING:
    import lightgbm


def booster(
    names: Sequence[str] = FEATURES, *, trees: int = 12, leaves: int = 8, seed: int = 0
) -> lightgbm.Booster:
    """On random numbers, some of them equal, of which all but the last feature tell something."""
    import lightgbm  # two seconds, which only the worker that comes here is to spend

    draw = np.random.default_rng(seed)
    values = draw.normal(size=(1_500, len(names)))
    values[:, ::3] = np.round(values[:, ::3])
    says = values[:, :-1] @ draw.normal(size=len(names) - 1)
    ends = says + draw.normal(size=len(values)) > 0.0
    parameters = {
        "objective": "binary",
        "boost_from_average": False,
        "num_leaves": leaves,
        "use_missing": False,
        "feature_fraction": 0.6,
        "seed": seed,
        "num_threads": 1,
        "verbose": -1,
    }
    data = lightgbm.Dataset(values, ends, feature_name=list(names))
    return lightgbm.train(parameters, data, trees)
