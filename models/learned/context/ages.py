"""Bins of age since the last use, and hazards over them.

A discrete-time hazard is the chance that the next use comes in a bin, where it had not come before
(D. Cox, Journal of the Royal Statistical Society B 34, 1972, section 6).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from warmscaler.models.learned.plan import FloatArray, Prior

IntArray = npt.NDArray[np.int64]

FIRST_MS = 500.0
"""The least age told apart; what is younger lies in the first bin."""
COARSE = 18
"""Bins of half a factor of e, up to 68 minutes; then of a quarter, as fine as the hours of a day need."""
BINS = 40
"""What is older than nine days lies in the last one."""
SLACK = 1e-4
"""No hazard is closer to 0 or 1."""


def bins(ages_ms: FloatArray) -> IntArray:
    """The bin of each age, from 0. Any shape."""
    steps = 2.0 * np.log(np.maximum(ages_ms, FIRST_MS) * (1.0 / FIRST_MS))
    found = np.maximum(steps, 2.0 * steps - COARSE).astype(np.int64)
    return np.minimum(found, BINS - 1)


def _edges() -> FloatArray:
    number = np.arange(BINS + 1)
    return np.asarray(FIRST_MS * np.exp(np.minimum(number / 2.0, (number + COARSE) / 4.0)))


EDGES_MS = _edges()
"""Bin b holds [EDGES_MS[b], EDGES_MS[b + 1]). Shape (BINS + 1,)."""
MIDDLES_MS = np.sqrt(EDGES_MS[:-1] * EDGES_MS[1:])
LOG_MIDDLES = np.log(MIDDLES_MS)


def prior_weights(prior: Prior) -> FloatArray:
    """How much of the prior lies in each bin. Shape (BINS,)."""
    edges = np.concatenate(([0.0], EDGES_MS[1:-1], [np.inf]))
    return np.diff(prior.weight_before(edges))


def hazard_logits(at: IntArray, weights: FloatArray, prior: FloatArray) -> FloatArray:
    """The logit of the hazard of weighted ages in these bins, shapes (n,), over a prior's weights by bin.

    Shape (BINS,).
    """
    mass = prior + 1e-9
    if len(at):
        mass = mass + np.bincount(at, weights, BINS)
    alive = mass[::-1].cumsum()[::-1]
    hazard = np.minimum(np.maximum(mass / alive, SLACK), 1.0 - SLACK)
    return np.asarray(np.log(hazard / (1.0 - hazard)))


def log_survival(logits: FloatArray) -> FloatArray:
    """The logarithm of the chance that an age reaches each bin's end. Shapes (..., n)."""
    return np.asarray(-np.cumsum(np.logaddexp(0.0, logits), axis=-1))
