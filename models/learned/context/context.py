"""Asked when an instance outlasts its first moments: how this idle time differs from the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from warmscaler.models.learned.context.ages import (
    IntArray,
    bins,
    hazard_logits,
    log_survival,
)
from warmscaler.models.learned.context.calls import Calls
from warmscaler.models.learned.context.features import FEATURES, FIXED, Idle, rows
from warmscaler.models.learned.context.trees import Trees, TreesError
from warmscaler.models.learned.plan import FloatArray, Prior

MOST_TILT = 3.0
"""No age becomes likelier, or less likely, by more than this many factors of e."""


@dataclass(frozen=True, slots=True)
class Tilt:
    """By how much each age is likelier than the level's idle times alone say."""

    log_ratio: FloatArray
    """By bin of age, shape (BINS,)."""

    def at(self, ages_ms: FloatArray) -> FloatArray:
        """The factor at each age. Any shape."""
        return self.of(bins(ages_ms))

    def of(self, at: IntArray) -> FloatArray:
        """The factor of each bin. Any shape."""
        return np.exp(self.log_ratio).take(at)


class Context:
    """What training learned across apps, with what it brought each of them."""

    __slots__ = ("gains", "new_apps_gain", "trees")

    def __init__(
        self, text: str, gains: Mapping[str, float] | None = None, new_apps_gain: float = 0.0
    ) -> None:
        """`text` is LightGBM's, on FEATURES. `gains` are shares of the cost that it spared in training
        by app, `new_apps_gain` of apps that it was not trained on. Raises TreesError."""
        self.trees = Trees(text, len(FIXED))
        if self.trees.features != FEATURES:
            raise TreesError("is on other features than this program has")
        self.gains = dict(gains or {})
        self.new_apps_gain = new_apps_gain

    def gain(self, key: str) -> float:
        """What it is believed to spare an app, as a share of its cost; below 0 it costs."""
        return self.gains.get(key, self.new_apps_gain)

    def tilt(
        self,
        of: Idle,
        calls: Calls,
        gaps_ms: FloatArray,
        weights: FloatArray,
        at: IntArray,
        at_weights: FloatArray,
        prior: FloatArray,
        now_ms: float,
    ) -> Tilt:
        """For the idle time that is now; `gaps_ms` and `weights` as `rows` takes them, `at` and
        `at_weights` the bins and weights of the ages they are spread to, shapes (m,), `prior` what
        the prior weighs by bin."""
        plain = hazard_logits(at, at_weights, prior)
        varying, fixed = rows(of, calls, gaps_ms, weights, plain, now_ms)
        return Tilt(tilted(plain, self.trees(varying, fixed)))


def tilted(plain: FloatArray, offset: FloatArray) -> FloatArray:
    """The log-ratio, by bin, of the chance that the next use comes there, with `offset` on the logits
    `plain` of its hazard against without. Shapes (..., BINS)."""
    # chance = hazard x survival so far = odds x survival to the end of the bin
    ratio = offset + log_survival(plain + offset) - log_survival(plain)
    return np.asarray(np.clip(ratio, -MOST_TILT, MOST_TILT))


class Tilted(Prior):
    """A prior whose weight is tilted, of ages that count from `past_ms` before the idle time began."""

    __slots__ = ("_past_ms", "_tilt")

    def __init__(self, prior: Prior, tilt: Tilt, past_ms: float) -> None:
        for name in Prior.__slots__:
            setattr(self, name, getattr(prior, name))
        self._tilt, self._past_ms = tilt, past_ms

    def shares(self, bounds_ms: FloatArray) -> FloatArray:
        middles = (bounds_ms[:-1] + bounds_ms[1:]) / 2.0
        middles[-1] = bounds_ms[-2]
        return super().shares(bounds_ms) * self._tilt.at(middles - self._past_ms)
