"""The public Azure Functions traces of 2019 and 2021, as traces of apps.

M. Shahrad et al., "Serverless in the Wild", USENIX ATC 2020 (2019 files) and Y. Zhang et al.,
"Faster and Cheaper Serverless Computing on Harvested Resources", SOSP 2021 (2021 file). One app of
ours is one app of theirs (functions of an app share its instances). What a file does not say is
drawn, seeded by the app's key and the seed, and the trace's notes say so.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl

from data.drawn import draw_init_ms, draw_runtime, seeded_by
from data.trace import App, IntArray, Trace, TraceError

DURATION_SIGMA = 0.6
"""Spread of the log-normal executions about an app's mean: the files give no single durations."""
TIMER_JITTER_MS = 400.0
TIMER_MINUTES = 30
"""An app seen at least that often, once a minute at a regular step, is taken for a timer."""
DEFAULT_MEMORY_MB = 170
_DAY_MS = 86_400_000
_MINUTE_MS = 60_000
_DRAWN_STARTS = "start-up times and runtimes are not in the source: drawn, seeded by the app's key"


def is_azure_2021(path: Path) -> bool:
    """Whether the file starts with the 2021 trace's header."""
    if not path.is_file() or path.suffix not in (".csv", ".txt"):
        return False
    with path.open("rb") as file:
        return file.readline(200).strip() == b"app,func,end_timestamp,duration"


def is_azure_2019(path: Path) -> bool:
    """Whether the folder holds the 2019 trace's invocation files."""
    return path.is_dir() and any(path.glob("invocations_per_function*.csv"))


def read_azure_2021(path: Path, seed: int = 0) -> Trace:
    """Reads `app,func,end_timestamp,duration` (seconds); a request starts at end - duration."""
    try:
        table = pl.read_csv(
            path,
            schema={
                "app": pl.String,
                "func": pl.String,
                "end_timestamp": pl.Float64,
                "duration": pl.Float64,
            },
        )
    except pl.exceptions.PolarsError as error:
        raise TraceError(f"{path}: {str(error).splitlines()[0]}") from None
    if table.is_empty():
        raise TraceError(f"{path}: no requests in it")
    for name in table.columns:
        empty = table[name].is_null()
        if empty.any():
            raise TraceError(f"{path}:{int(empty.arg_max() or 0) + 2}: field `{name}` is missing")
    bad = table["duration"] < 0
    if bad.any():
        raise TraceError(f"{path}:{int(bad.arg_max() or 0) + 2}: field `duration` is negative")
    start_ms = ((table["end_timestamp"] - table["duration"]) * 1000.0).round().cast(pl.Int64)
    start_ms = start_ms - min(int(start_ms.min() or 0), 0)  # type: ignore[arg-type]
    rows = table.with_columns(arrival_ms=start_ms).sort("arrival_ms", maintain_order=True)
    keys = rows["app"].unique(maintain_order=True).to_list()
    apps = tuple(_drawn_app(key, DEFAULT_MEMORY_MB, seed) for key in keys)
    return Trace(
        path.stem,
        apps,
        rows["arrival_ms"].to_numpy(),
        rows["app"].cast(pl.Enum(keys)).to_physical().cast(pl.Int64).to_numpy(),
        (rows["duration"] * 1000.0).round().cast(pl.Int64).to_numpy(),
        np.full(len(rows), 200, dtype=np.int64),
        (_DRAWN_STARTS, f"memory is not in the source: every app has {DEFAULT_MEMORY_MB} MB"),
    )


def read_azure_2019(folder: Path, seed: int = 0) -> Trace:
    """Reads every day of invocations per minute in `folder`, with durations and memory beside."""
    arrivals: list[IntArray] = []
    owners: list[IntArray] = []
    keys: dict[str, int] = {}
    for file in sorted(folder.glob("invocations_per_function*.csv")):
        day = int(found[1]) - 1 if (found := re.search(r"\.d(\d+)\.", file.name)) else 0
        for key, per_minute in _minutes_by_app(file).items():
            random = seeded_by(f"{key}/{day}", seed)
            drawn_ms = _place_in_minutes(per_minute, random) + day * _DAY_MS
            arrivals.append(drawn_ms)
            owners.append(np.full(len(drawn_ms), keys.setdefault(key, len(keys)), dtype=np.int64))
    if not arrivals or not sum(map(len, arrivals)):
        raise TraceError(f"{folder}: no invocations in its files")
    mean_ms = _column_by_app(folder, "function_durations_percentiles*.csv", "Average")
    memory_mb = _column_by_app(folder, "app_memory_percentiles*.csv", "AverageAllocatedMb")
    apps = tuple(
        _drawn_app(key, max(1, round(memory_mb.get(key, DEFAULT_MEMORY_MB))), seed) for key in keys
    )
    arrival_ms, owner = np.concatenate(arrivals), np.concatenate(owners)
    order = np.argsort(arrival_ms, kind="stable")
    arrival_ms, owner = arrival_ms[order], owner[order]
    means = np.array([mean_ms.get(key, 1_000.0) for key in keys])
    normal = seeded_by("durations", seed).standard_normal(len(owner))
    spread = np.exp(DURATION_SIGMA * normal - DURATION_SIGMA**2 / 2.0)
    return Trace(
        folder.name,
        apps,
        arrival_ms,
        owner,
        np.maximum(1, np.rint(means[owner] * spread)).astype(np.int64),
        np.full(len(owner), 200, dtype=np.int64),
        (
            "the place inside each minute is drawn: uniform, or one offset with jitter for timers",
            f"executions are drawn: log-normal about the app's mean, sigma {DURATION_SIGMA}",
            _DRAWN_STARTS,
        ),
    )


def _drawn_app(key: str, memory_mb: int, seed: int) -> App:
    random = seeded_by(key, seed)
    return App(key, draw_runtime(random), memory_mb, 60, draw_init_ms(random))


def _read_csv(file: Path, needed: list[str]) -> pl.DataFrame:
    try:
        table = pl.read_csv(file, infer_schema_length=None)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TraceError(f"{file}: {str(error).splitlines()[0]}") from None
    for name in needed:
        if name not in table.columns:
            raise TraceError(f"{file}:1: column `{name}` is missing")
    return table


def _minutes_by_app(file: Path) -> dict[str, IntArray]:
    table = _read_csv(file, ["HashApp", "1"])
    minutes = [name for name in table.columns if name.isdigit()]
    summed = table.group_by("HashApp", maintain_order=True).agg(pl.col(minutes).sum())
    counts = summed.select(minutes).to_numpy().astype(np.int64)
    return dict(zip(summed["HashApp"].to_list(), counts, strict=True))


def _place_in_minutes(per_minute: IntArray, random: np.random.Generator) -> IntArray:
    minutes = np.repeat(np.arange(len(per_minute)), per_minute)
    active = np.flatnonzero(per_minute)
    steps = np.diff(active)
    regular = len(active) >= TIMER_MINUTES and per_minute.max() == 1 and len(np.unique(steps)) == 1
    if regular:
        offset_ms = random.uniform(0.0, _MINUTE_MS)
        inside_ms = offset_ms + TIMER_JITTER_MS * random.standard_normal(len(minutes))
    else:
        inside_ms = random.uniform(0.0, _MINUTE_MS, len(minutes))
    return np.sort(np.maximum(0, np.rint(minutes * _MINUTE_MS + inside_ms)).astype(np.int64))


def _column_by_app(folder: Path, pattern: str, column: str) -> dict[str, float]:
    tables = [_read_csv(file, ["HashApp", column]) for file in sorted(folder.glob(pattern))]
    if not tables:
        return {}
    joined = pl.concat(
        [table.select("HashApp", pl.col(column).cast(pl.Float64)) for table in tables]
    )
    means = joined.group_by("HashApp", maintain_order=True).agg(pl.col(column).mean())
    return {key: float(value) for key, value in means.iter_rows() if value is not None}
