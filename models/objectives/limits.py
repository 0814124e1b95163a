"""The limits of the price, by objective: what a second of waiting is worth, at least and at most.

At 0.06 of money per GB·h (1.67e-5 per GB·s) a price of 0.1 s per GB·s says that a second waited is worth
1.67e-4, 0.6 an hour: nobody's time is less. A price of 1e-4 says 600 an hour: nobody's is more. Between
the two lies all that a share of late requests can be bought or sold for, as was seen on training parts:
below 1e-4 memory grows by half and hardly a request is spared, above 0.1 people wait ten times as long
for a few percent of memory.
"""

from __future__ import annotations

from warmscaler.models.objectives.words import Kind, Objective

LOW, HIGH = 1e-5, 30.0
"""Seconds per GB·s that any price is moved between."""
DEAREST_SECOND = 1e-4
"""COLD_STARTS, WAIT, SAFE: where requests wait whatever is spent, more is not."""
CHEAPEST_SECOND = 0.1
"""SAFE: memory is not saved at people's cost for next to nothing."""


def limits_of(objective: Objective) -> tuple[float, float]:
    """The lowest and the highest price, in seconds per GB·s."""
    if objective.kind is Kind.SAFE:
        return DEAREST_SECOND, CHEAPEST_SECOND
    if objective.kind in (Kind.COLD_STARTS, Kind.WAIT):
        return DEAREST_SECOND, HIGH
    return LOW, HIGH
