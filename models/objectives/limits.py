"""The limits of the price, by objective: what a second of waiting is worth, at least and at most.

Where a GB·h costs 0.06 (a GB·s 1.67e-5), a price of 0.1 s per GB·s says that a second waited is worth
1.67e-4, 0.6 an hour; one of 1e-4 says 0.17, 600 an hour. No wage is below the one or above the other.

On the training parts of three shared traces (contest-set1-5h, contest-set3, llm2023-hour) from 0.1 to 1
requests wait three to four times as long for 8, 32 and 13 % less memory; from 1e-4 to 1e-5 there are 3,
21 and 46 % more memory, and hardly a start fewer on the first two.
"""

from __future__ import annotations

from warmscaler.models.objectives.words import Kind, Objective

LOW, HIGH = 1e-5, 30.0
"""Seconds per GB·s that any price is moved between."""
CHEAPEST_SECOND = 0.1
"""SAFE: that they waited under fixed:300 is no reason to make people wait for next to nothing."""
DEAREST_SECOND = 1e-4
"""COLD_STARTS, WAIT, SAFE: where requests wait whatever is spent, more is not spent."""


def limits_of(objective: Objective) -> tuple[float, float]:
    """The lowest and the highest price, in seconds per GB·s."""
    if objective.kind is Kind.SAFE:
        return DEAREST_SECOND, CHEAPEST_SECOND
    if objective.kind in (Kind.COLD_STARTS, Kind.WAIT):
        return DEAREST_SECOND, HIGH
    return LOW, HIGH
