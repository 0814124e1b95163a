"""How long the functions of Azure 2019 ran: drawn from the percentiles that its files give.

A file has a row a function and day: the mean and seven percentiles of its executions. Days are
weighed by their executions. Where a file gives means only, executions are log-normal about them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl

from warmscaler.data.trace import LIMITS, IntArray

DURATION_SIGMA = 0.6
"""Spread of the log-normal executions about a function's mean."""
DEFAULT_MEAN_MS = 1_000.0
PERCENTILES = (0, 1, 25, 50, 75, 99, 100)
COLUMNS = tuple(f"percentile_Average_{each}" for each in PERCENTILES)
"""The published files' names of them, in ms."""
_QUANTILES = np.array(PERCENTILES) / 100.0
_Of = tuple[str, str | None]
"""(app, function); (app, None) for all of an app's."""


@dataclass(frozen=True, slots=True)
class Durations:
    """What is known of each function's executions, in ms."""

    mean_ms: dict[_Of, float] = field(default_factory=dict)
    percentiles_ms: dict[_Of, npt.NDArray[np.float64]] = field(default_factory=dict)
    """Shape (7,), in order."""

    def knows(self, app: str, function: str | None) -> bool:
        """Whether anything is known of it or of its app."""
        return (app, function) in self.mean_ms or (app, None) in self.mean_ms

    def draw_ms(
        self, app: str, function: str | None, count: int, random: np.random.Generator
    ) -> IntArray:
        """Executions, shape (count,), whole ms and at least 1."""
        own = (app, function) if (app, function) in self.mean_ms else (app, None)
        given = self.percentiles_ms.get(own)
        if given is None:
            normal = random.standard_normal(count)
            mean_ms = self.mean_ms.get(own, DEFAULT_MEAN_MS)
            drawn_ms = mean_ms * np.exp(DURATION_SIGMA * normal - DURATION_SIGMA**2 / 2.0)
        else:
            # In the logarithm: between two percentiles lie orders of magnitude.
            drawn_ms = np.exp(np.interp(random.random(count), _QUANTILES, np.log(given)))
        return np.rint(drawn_ms).clip(1, LIMITS["duration_ms"][1]).astype(np.int64)


def durations_of(tables: Sequence[pl.DataFrame]) -> Durations:
    """Of a table a day: HashApp, HashFunction (null: of the app), Average, Count, and COLUMNS where
    given. A row without a finite mean is left out."""
    found = Durations()
    if not tables:
        return found
    table = pl.concat(tables, how="diagonal").filter(pl.col("Average").is_finite())
    weight = pl.col("Count").fill_null(1.0).clip(1.0)
    averaged = [name for name in ("Average", *COLUMNS) if name in table.columns]
    means = [((pl.col(name) * weight).sum() / weight.sum()).alias(name) for name in averaged]
    of_apps = (
        table.group_by("HashApp")
        .agg(means)
        .with_columns(pl.lit(None, pl.String).alias("HashFunction"))
    )
    of_functions = table.filter(pl.col("HashFunction").is_not_null())
    of_functions = of_functions.group_by("HashApp", "HashFunction").agg(means)
    for rows in (of_apps, of_functions):
        for row in rows.iter_rows(named=True):
            own = (row["HashApp"], row["HashFunction"])
            found.mean_ms[own] = float(row["Average"])
            given = [row.get(name) for name in COLUMNS]
            if all(value is not None and np.isfinite(value) for value in given):
                rising = np.maximum.accumulate(np.array(given, dtype=np.float64))
                found.percentiles_ms[own] = np.maximum(rising, 1.0)
    return found
