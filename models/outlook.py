"""What a policy expects of one app, for people: when it is needed next, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

QUANTILES = tuple(each / 20.0 for each in range(1, 20))
_DUE_MS = 2_000.0
_DUE_SHARE = 0.04


@dataclass(frozen=True, slots=True)
class Due:
    """A stretch of time in which much of what is believed lies. Times in ms since the epoch."""

    from_ms: float
    to_ms: float
    share: float
    """The chance that the next use comes in it."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The next use of the instance that an app would use next. Times in ms since the epoch."""

    since_ms: float
    """When it was last in use."""
    idle_times: int
    """How many past idle times the belief goes by."""
    longer: int
    """Those of them that lasted longer than it is idle already."""
    due: Due | None
    """The likeliest stretch from now on; None where nothing is expected any more."""
    by_ms: Sequence[float]
    """By when it comes with a chance of each of QUANTILES; `inf` where it may never."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a policy says of an app as it is now."""

    rule: str
    """How it decides, as a clause: "keeps an instance for 300 s after each use"."""
    expected: Expected | None = None
    """None where it expects nothing in particular."""
    start_ms: float = inf
    """When it will start an instance ahead, if nothing comes before."""


def expected(
    now_ms: float,
    since_ms: float,
    ages_ms: FloatArray,
    weights: FloatArray,
    *,
    doubt: float = 0.0,
) -> Expected:
    """The belief that follows from past idle times as ages since `since_ms`, shapes (n,).

    Given that the next use did not come by `now_ms`. `doubt` is the weight of what was never seen.
    """
    later = since_ms + ages_ms > now_ms
    order = np.argsort(ages_ms[later], kind="stable")
    at_ms = since_ms + ages_ms[later][order]
    weight = weights[later][order]
    whole = float(weight.sum()) + doubt
    if not len(at_ms) or whole <= 0.0:
        return Expected(since_ms, len(ages_ms), 0, None, (inf,) * len(QUANTILES))
    share = weight / whole
    sums = np.concatenate(([0.0], np.cumsum(share)))
    rows = np.searchsorted(sums[1:], np.array(QUANTILES) - 1e-9)
    by_ms = [float(at_ms[row]) if row < len(at_ms) else inf for row in rows.tolist()]
    # The densest stretch as long as a timer's jitter, or a small part of the age.
    reach_ms = np.maximum(_DUE_MS, _DUE_SHARE * (at_ms - since_ms))
    ends = np.searchsorted(at_ms, at_ms + reach_ms, side="right")
    inside = sums[ends] - sums[:-1]
    best = int(inside.argmax())
    due = Due(float(at_ms[best]), float(at_ms[ends[best] - 1]), float(inside[best]))
    return Expected(since_ms, len(ages_ms), len(at_ms), due, by_ms)
