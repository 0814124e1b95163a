"""The learned forecast: one LightGBM classifier for the levels of every app, in LightGBM's text format.

It gives the chance that a level is in use, from the facts of `levels.FACTS`: a distribution regression
(Foresi and Peracchi, JASA 90, 1995), since quantiles of a peak that is mostly 0 cannot be fitted one by
one where the interesting ones are 0.99 and 0.999.

Beside it stands what each forecaster cost where it was judged: what the accounts of `experts` begin
with.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from warmscaler.replicas.experts import NAMES
from warmscaler.replicas.levels import FACTS

_HEAD = "warmscaler replicas 2 sha256:"
_OLDER = "warmscaler replicas "
_MOST_BYTES = 32 * 2**20


class ForecastError(ValueError):
    """A model that cannot be used. Its text is one line: what is wrong, what to do."""


class Forecast:
    """A model that was checked, ready to predict."""

    def __init__(self, text: str) -> None:
        """`text` is what `as_text` gave. Raises ForecastError if it is altered or of other facts."""
        if len(text) > _MOST_BYTES:
            raise ForecastError(f"the model is larger than {_MOST_BYTES:,} bytes: train it again")
        head, _, self._body = text.partition("\n")
        digest = hashlib.sha256(self._body.encode()).hexdigest()
        if not head.startswith(_HEAD):
            if head.startswith(_OLDER):
                raise ForecastError("the model is of another version: train it again")
            raise ForecastError("it is no model of replicas: train one")
        if head.removeprefix(_HEAD) != digest:
            raise ForecastError("the model was altered or cut short: train it again")
        costs, _, trees = self._body.partition("\n")
        self._costs = _costs_of(costs)
        found = re.search(r"^feature_names=(.*)$", trees, re.MULTILINE)
        if found is None or tuple(found[1].split()) != FACTS:
            raise ForecastError("the model goes by other facts than this version: train it again")
        if not re.search(r"^objective=binary\b", trees, re.MULTILINE):
            raise ForecastError("the model gives no chances: train it again")
        import lightgbm

        try:
            self._booster: Any = lightgbm.Booster(model_str=trees)
        except lightgbm.basic.LightGBMError as error:
            raise ForecastError(f"LightGBM does not read the model: {error}") from None

    def chances(self, rows: Any) -> Any:
        """The chance of each row, shape (rows,), from float32 facts of shape (rows, facts)."""
        if not len(rows):
            return np.zeros(0)
        return np.asarray(self._booster.predict(rows, num_threads=1), dtype=np.float64)

    def costs_at(self, price: float) -> Any:
        """What each forecaster cost the fleet, in misses, shape (experts,); None if it was not judged.

        Between two prices that were judged it is read off at the logarithm of the price.
        """
        if not self._costs:
            return None
        prices, costs = zip(*sorted(self._costs.items()), strict=True)
        at, known = math.log(price), np.log(prices)
        return np.array([np.interp(at, known, each) for each in np.array(costs).T])

    def judged(self, costs: Mapping[float, Any]) -> Forecast:
        """The same model with what each forecaster cost, by price, each in misses, shape (experts,)."""
        trees = self._body.partition("\n")[2]
        return Forecast(sealed(trees, costs))

    def as_text(self) -> str:
        """What the constructor takes."""
        return _headed(self._body)


def sealed(trees: str, costs: Mapping[float, Any] | None = None) -> str:
    """LightGBM's text, after the line that `Forecast` checks it by and what was judged."""
    by_price = [[price, [float(each) for each in own]] for price, own in (costs or {}).items()]
    judged = json.dumps({"forecasters": NAMES, "misses": by_price})
    return _headed(f"{judged}\n{trees}")


def _headed(body: str) -> str:
    return f"{_HEAD}{hashlib.sha256(body.encode()).hexdigest()}\n{body}"


def _costs_of(line: str) -> dict[float, list[float]]:
    """Raises ForecastError where they are not of this version's forecasters."""
    try:
        said = json.loads(line)
        names, costs = said["forecasters"], {float(price): own for price, own in said["misses"]}
        sound = all(
            0.0 < price < math.inf
            and len(own) == len(names)
            and all(type(each) is float and 0.0 <= each < math.inf for each in own)
            for price, own in costs.items()
        )
    except (ValueError, TypeError, KeyError):
        sound = False
    if not sound:
        raise ForecastError("what its forecasters cost cannot be read: train it again")
    if tuple(names) != NAMES:
        raise ForecastError("the model knows other forecasters than this version: train it again")
    return costs
