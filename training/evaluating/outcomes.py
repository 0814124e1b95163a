"""What happened to every measured request, as a Parquet file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from warmscaler.data.files import whole
from warmscaler.training.evaluating.evaluate import Measured, Window


class OutcomesError(Exception):
    """The file cannot be written. Its text is one line."""


def write_outcomes(path: Path, part: Window, measured: Sequence[Measured]) -> None:
    """Writes a row per policy and measured request: policy, arrival_ms, app, wait_ms, cold.

    `measured` must have been evaluated with `keep_requests`; the clairvoyant reference, in which
    no request waits, has no rows. The file appears whole or not at all.
    """
    trace = part.trace
    rows = trace.arrival_ms >= part.split_ms
    keys = pl.Series([app.key for app in trace.apps], dtype=pl.String)
    base = pl.DataFrame({"arrival_ms": trace.arrival_ms[rows], "app": keys[trace.app[rows]]})
    frames = [
        base.select(
            pl.lit(each.setting.policy).alias("policy"),
            "arrival_ms",
            "app",
            pl.Series("wait_ms", each.wait_ms),
            pl.Series("cold", each.cold),
        )
        for each in measured
        if each.wait_ms is not None
    ]
    schema = {
        "policy": pl.String,
        "arrival_ms": pl.Int64,
        "app": pl.String,
        "wait_ms": pl.Float64,
        "cold": pl.Boolean,
    }
    table = pl.concat(frames) if frames else pl.DataFrame(schema=schema)
    try:
        with whole(path) as file:
            table.write_parquet(file)
    except OSError as error:
        raise OutcomesError(f"{path}: cannot be written: {error.strerror or error}") from None
