"""The learned forecast: one LightGBM classifier for the levels of every app, in LightGBM's text format.

It gives the chance that a level is in use, from the facts of `levels.FACTS`: a distribution regression
(Foresi and Peracchi, JASA 90, 1995), since quantiles of a peak that is mostly 0 cannot be fitted one by
one where the interesting ones are 0.99 and 0.999.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import numpy as np

from warmscaler.replicas.levels import FACTS

_HEAD = "warmscaler replicas 1 sha256:"
_MOST_BYTES = 32 * 2**20


class ForecastError(ValueError):
    """A model that cannot be used. Its text is one line: what is wrong, what to do."""


class Forecast:
    """A model that was checked, ready to predict."""

    def __init__(self, text: str) -> None:
        """`text` is what `as_text` gave. Raises ForecastError if it is altered or of other facts."""
        if len(text) > _MOST_BYTES:
            raise ForecastError(f"the model is larger than {_MOST_BYTES:,} bytes: train it again")
        head, _, self._trees = text.partition("\n")
        digest = hashlib.sha256(self._trees.encode()).hexdigest()
        if not head.startswith(_HEAD):
            raise ForecastError("it is no model of replicas: train one")
        if head.removeprefix(_HEAD) != digest:
            raise ForecastError("the model was altered or cut short: train it again")
        found = re.search(r"^feature_names=(.*)$", self._trees, re.MULTILINE)
        if found is None or tuple(found[1].split()) != FACTS:
            raise ForecastError("the model goes by other facts than this version: train it again")
        if not re.search(r"^objective=binary\b", self._trees, re.MULTILINE):
            raise ForecastError("the model gives no chances: train it again")
        import lightgbm

        try:
            self._booster: Any = lightgbm.Booster(model_str=self._trees)
        except lightgbm.basic.LightGBMError as error:
            raise ForecastError(f"LightGBM does not read the model: {error}") from None

    def chances(self, rows: Any) -> Any:
        """The chance of each row, shape (rows,), from float32 facts of shape (rows, facts)."""
        if not len(rows):
            return np.zeros(0)
        return np.asarray(self._booster.predict(rows, num_threads=1), dtype=np.float64)

    def as_text(self) -> str:
        """What the constructor takes."""
        return sealed(self._trees)


def sealed(trees: str) -> str:
    """LightGBM's text with the line that `Forecast` checks it by."""
    return f"{_HEAD}{hashlib.sha256(trees.encode()).hexdigest()}\n{trees}"
