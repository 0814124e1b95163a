"""Quantiles of the peak, from the chances of its levels, kept honest by adaptive conformal inference.

A peak is a count, mostly 0, so a quantile of it is reached exactly only if the count is jittered: y + u
with u uniform in [0, 1) (Machado and Santos Silva, "Quantiles for counts", JASA 100, 2005). How much
of [y, y + 1) lies below the quantile is what it covered; no number is drawn. The level that the
quantile is read at follows what was covered: alpha moves by GAMMA times what was missed too much
(Gibbs and Candès, "Adaptive conformal inference under distribution shift", NeurIPS 2021), on the
distribution's own scale (Chernozhukov, Wüthrich and Zhu, PNAS 118, 2021).
"""

from __future__ import annotations

from typing import Any

from warmscaler.replicas.compiled import compilable
from warmscaler.replicas.levels import THRESHOLDS

GAMMA = 0.005
ALPHA = 0.1
"""What may lie above the upper quantile."""


@compilable
def quantile(chances: Any, levels: int, probability: float) -> float:
    """Of the jittered peak. `chances[k]` that level k is in use, falling in k; `levels` of them."""
    below, at = 0.0, 0.0
    for k in range(levels):
        up_to = 1.0 - chances[k]  # the peak stays below this level
        if probability <= up_to:
            part = (probability - below) / max(up_to - below, 1e-12)
            return float(at + (THRESHOLDS[k] - at) * part)
        below, at = up_to, THRESHOLDS[k]
    return float(at + min((probability - below) / max(1.0 - below, 1e-12), 1.0))


@compilable
def covered(jittered: float, needed: float) -> float:
    """How much of [needed, needed + 1) lies below the quantile, from 0 to 1."""
    return min(max(jittered - needed, 0.0), 1.0)


@compilable
def adapted(alpha: float, share: float) -> float:
    """The next alpha, after `share` was covered where all but ALPHA should be."""
    return min(max(alpha + GAMMA * (ALPHA - (1.0 - share)), 0.0), 1.0)
