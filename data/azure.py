"""The public Azure Functions traces of 2019 and 2021, as traces of apps.

M. Shahrad et al., "Serverless in the Wild", USENIX ATC 2020 (2019 files) and Y. Zhang et al.,
"Faster and Cheaper Serverless Computing on Harvested Resources", SOSP 2021 (2021 file). One app of
ours is one app of theirs (functions of an app share its instances). What a file does not say is
drawn, seeded by the app's key and the seed, and the trace's notes say so.
"""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

import numpy as np
import polars as pl

from warmscaler.data.azure_durations import (
    COLUMNS,
    DEFAULT_MEAN_MS,
    DURATION_SIGMA,
    Durations,
    durations_of,
)
from warmscaler.data.drawn import draw_init_ms, draw_runtime, seeded_by
from warmscaler.data.trace import LIMITS, App, IntArray, Trace, TraceError

TIMER_JITTER_MS = 400.0
TIMER_TICKS = 30
"""A function seen at least that often, once a minute at a regular step, is taken for a timer."""
DEFAULT_MEMORY_MB = 170
"""Half of the apps allocate no more (Serverless in the Wild, section 3)."""
MEMORY_STEP_MB = 64
MAX_REQUESTS = 100_000_000
"""The whole of 2019 is billions of requests; beyond this no machine we know of holds them."""
FIRST_DAY_2019_MS = 1_563_148_800_000  # 15 July 2019, 0:00 UTC: a Monday
_COLUMNS_2021: dict[str, type[pl.DataType]] = {
    "app": pl.String,
    "func": pl.String,
    "end_timestamp": pl.Float64,
    "duration": pl.Float64,
}
_DAY_MS = 86_400_000
_MINUTE_MS = 60_000
_DRAWN_STARTS = "start-up times and runtimes are not in the source: drawn, seeded by the app's key"
_WHOLE_APPS = "an app is the source's app: its functions share instances"


def is_azure_2021(path: Path) -> bool:
    """Whether the file starts with the 2021 trace's header, in any order; it may be gzipped."""
    return set(_COLUMNS_2021) <= _begin_of_header(path)


def is_day_of_azure_2019(path: Path) -> bool:
    """Whether the file is one of the 2019 trace's, by the columns that each kind of them has."""
    return {"HashOwner", "HashApp"} <= _begin_of_header(path)


def _begin_of_header(path: Path) -> set[str]:
    """The columns in the first bytes of a CSV file, which may be gzipped; none of another file."""
    name = path.name.removesuffix(".gz")
    if not path.is_file() or not name.endswith((".csv", ".txt")):
        return set()
    try:
        with gzip.open(path) if name != path.name else path.open("rb") as file:
            header = file.readline(200)
    except (EOFError, OSError, zlib.error) as error:
        raise TraceError(f"{path}: not a whole gzip file ({error}); get it again") from None
    columns = header.removeprefix(b"\xef\xbb\xbf").decode(errors="replace").strip().split(",")
    return {column.strip('"') for column in columns}


def is_azure_2019(path: Path) -> bool:
    """Whether the folder holds the 2019 trace's invocation files."""
    return path.is_dir() and bool(_days(path, "invocations_per_function"))


def _days(folder: Path, name: str) -> list[Path]:
    """The files of one kind in order of their days, plain or gzipped."""
    found = [*folder.glob(f"{name}*.csv"), *folder.glob(f"{name}*.csv.gz")]
    return sorted(file for file in found if file.is_file())


def read_azure_2021(path: Path, seed: int = 0) -> Trace:
    """Reads `app,func,end_timestamp,duration` (seconds); a request starts at end - duration."""
    table = _read_csv(path, _COLUMNS_2021)
    if table.is_empty():
        raise TraceError(f"{path}: no requests in it")
    for name, ours in (("end_timestamp", "arrival_ms"), ("duration", "duration_ms")):
        longest_s = LIMITS[ours][1] / 1000.0
        bad = ~(table[name].abs() <= longest_s)  # which NaN is not either
        _refuse(path, table[name], bad, f"is not a time in seconds, of {longest_s:.0f} at most")
    _refuse(path, table["duration"], table["duration"] < 0, "is negative")
    start_ms = ((table["end_timestamp"] - table["duration"]) * 1000.0).round().cast(pl.Int64)
    start_ms = start_ms - min(int(start_ms.min() or 0), 0)  # type: ignore[arg-type]
    rows = table.with_columns(arrival_ms=start_ms).sort("arrival_ms", maintain_order=True)
    keys = rows["app"].unique(maintain_order=True).to_list()
    apps = tuple(_drawn_app(key, DEFAULT_MEMORY_MB, seed) for key in keys)
    return Trace(
        path.name.split(".")[0],
        apps,
        rows["arrival_ms"].to_numpy(),
        rows["app"].cast(pl.Enum(keys)).to_physical().cast(pl.Int64).to_numpy(),
        (rows["duration"] * 1000.0).round().cast(pl.Int64).to_numpy(),
        np.full(len(rows), 200, dtype=np.int64),
        (
            _WHOLE_APPS,
            _DRAWN_STARTS,
            f"memory is not in the source: every app has {DEFAULT_MEMORY_MB} MB",
        ),
    )


def read_azure_2019(folder: Path, seed: int = 0) -> Trace:
    """Reads every day of invocations per minute in `folder`, with durations and memory beside.

    The draws of a function depend on its names and the seed alone, so that a file of fewer apps
    gives the same requests for those it has.
    """
    durations = _durations(folder)
    keys: dict[str, int] = {}
    unknown_mean: set[str] = set()
    columns: list[tuple[IntArray, IntArray, IntArray]] = []
    total = 0
    for file in _days(folder, "invocations_per_function"):
        day = int(found[1]) - 1 if (found := re.search(r"\.d(\d+)\.", file.name)) else 0
        functions, counts = _minutes(file)
        total += int(counts.sum())
        if total > MAX_REQUESTS:
            raise TraceError(
                f"{folder}: over {MAX_REQUESTS:,} invocations up to {file.name};"
                " keep fewer apps or days of it"
            )
        for (key, function, trigger), per_minute in zip(functions, counts, strict=True):
            random = seeded_by(f"{key}/{function}/{trigger}/{day}", seed)
            # A timer keeps its offset from day to day.
            offset_ms = float(seeded_by(f"{key}/{function}", seed).uniform(0.0, _MINUTE_MS))
            timer = trigger == "timer" or _is_regular(per_minute)
            arrival_ms = _place_in_minutes(per_minute, offset_ms if timer else None, random)
            if not durations.knows(key, function):
                unknown_mean.add(key)
            owner = keys.setdefault(key, len(keys))
            columns.append(
                (
                    arrival_ms + (FIRST_DAY_2019_MS + day * _DAY_MS),
                    np.full(len(arrival_ms), owner, dtype=np.int64),
                    durations.draw_ms(key, function, len(arrival_ms), random),
                )
            )
    if not total:
        raise TraceError(f"{folder}: no invocations in its files")
    memory_mb = _memory_mb(folder)
    apps = tuple(_drawn_app(key, memory_mb.get(key, DEFAULT_MEMORY_MB), seed) for key in keys)
    notes = [
        _WHOLE_APPS,
        "the place inside each minute is drawn: uniform, or one offset with jitter for timers",
        "executions are drawn: from the function's percentiles"
        if durations.percentiles_ms
        else f"executions are drawn: log-normal about the function's mean, sigma {DURATION_SIGMA}",
        _DRAWN_STARTS,
    ]
    if unknown_mean:
        notes.append(f"{len(unknown_mean)} apps lack durations: {DEFAULT_MEAN_MS:.0f} ms assumed")
    if unknown_memory := len(keys.keys() - memory_mb.keys()):
        notes.append(f"{unknown_memory} apps lack memory: {DEFAULT_MEMORY_MB} MB assumed")
    arrival_ms, app, duration_ms = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    order = np.argsort(arrival_ms, kind="stable")
    return Trace(
        folder.resolve().name,
        apps,
        arrival_ms[order],
        app[order],
        duration_ms[order],
        np.full(len(order), 200, dtype=np.int64),
        tuple(notes),
    )


def _drawn_app(key: str, memory_mb: int, seed: int) -> App:
    random = seeded_by(key, seed)
    return App(key, draw_runtime(random), memory_mb, 60, draw_init_ms(random))


def _minutes(file: Path) -> tuple[list[tuple[str, str | None, str]], IntArray]:
    """The functions of a day as (app, function, trigger), and their calls: (functions, minutes)."""
    header = _header(file)
    minutes = [name for name in header if name.isdigit()]
    names = [name for name in ("HashApp", "HashFunction", "Trigger") if name in header]
    types: dict[str, type[pl.DataType]] = dict.fromkeys(("HashApp", *names), pl.String)
    table = _read_csv(file, types | dict.fromkeys(minutes or ["1"], pl.Int64))
    for name in minutes:
        _refuse(file, table[name], table[name] < 0, "is negative")
        _refuse(file, table[name], table[name] > MAX_REQUESTS, f"is above {MAX_REQUESTS}")
    table = table.group_by(names, maintain_order=True).agg(pl.col(minutes).sum())
    functions = [
        (row["HashApp"], row.get("HashFunction"), row.get("Trigger", ""))
        for row in table.select(names).iter_rows(named=True)
    ]
    return functions, table.select(minutes).to_numpy().astype(np.int64)


def _is_regular(per_minute: IntArray) -> bool:
    active = np.flatnonzero(per_minute)
    if len(active) < TIMER_TICKS or per_minute.max() > 1:
        return False
    return len(np.unique(np.diff(active))) == 1


def _place_in_minutes(
    per_minute: IntArray, offset_ms: float | None, random: np.random.Generator
) -> IntArray:
    """Sorted arrivals, ms from midnight, in their minutes: uniform, or about a timer's offset."""
    calls = np.repeat(per_minute, per_minute)
    minutes = np.repeat(np.arange(len(per_minute)), per_minute)
    if offset_ms is None:
        inside_ms = random.uniform(0.0, _MINUTE_MS, len(minutes))
    else:
        # Several ticks in one minute stand evenly, as every 20 seconds does.
        first = np.repeat(np.cumsum(per_minute) - per_minute, per_minute)
        tick = np.arange(len(minutes)) - first
        exact_ms = (offset_ms + tick * (_MINUTE_MS / calls)) % _MINUTE_MS
        inside_ms = exact_ms + TIMER_JITTER_MS * random.standard_normal(len(minutes))
    inside_ms = np.floor(inside_ms).clip(0, _MINUTE_MS - 1)
    return np.sort(minutes * _MINUTE_MS + inside_ms.astype(np.int64))


def _durations(folder: Path) -> Durations:
    """Of every day's file; one in which a percentile is missing counts by its mean."""
    optional: dict[str, type[pl.DataType]] = {"HashFunction": pl.String, "Count": pl.Float64}
    optional |= dict.fromkeys(COLUMNS, pl.Float64)
    tables = []
    for file in _days(folder, "function_durations_percentiles"):
        types: dict[str, type[pl.DataType]] = {"HashApp": pl.String, "Average": pl.Float64}
        header = _header(file)
        types |= {name: kind for name, kind in optional.items() if name in header}
        table = _read_csv(file, types)
        missing = [
            pl.lit(None, optional[name]).alias(name)
            for name in ("HashFunction", "Count")
            if name not in types
        ]
        tables.append(table.with_columns(missing))
    return durations_of(tables)


def _memory_mb(folder: Path) -> dict[str, int]:
    """Each app's mean memory over its days, to the nearest 64 MB."""
    types = {"HashApp": pl.String, "AverageAllocatedMb": pl.Float64}
    files = _days(folder, "app_memory_percentiles")
    if not files:
        return {}
    table = pl.concat([_read_csv(file, types).select(*types) for file in files])
    table = table.filter(pl.col("AverageAllocatedMb").is_finite())
    means = table.group_by("HashApp").agg(pl.col("AverageAllocatedMb").mean())
    return {
        key: min(max(1, round(value / MEMORY_STEP_MB)) * MEMORY_STEP_MB, LIMITS["memory_mb"][1])
        for key, value in means.iter_rows()
    }


def _header(file: Path) -> list[str]:
    try:
        return pl.read_csv(file, glob=False, n_rows=0).columns
    except pl.exceptions.PolarsError as error:
        raise TraceError(f"{file}: {str(error).splitlines()[0]}") from None


def _read_csv(file: Path, types: dict[str, type[pl.DataType]]) -> pl.DataFrame:
    """The columns of `types`, each with a value in every row; TraceError says the line."""
    header = _header(file)
    for name in types:
        if name not in header:
            raise TraceError(f"{file}:1: column `{name}` is missing")
    columns = list(types)
    try:
        table = pl.read_csv(file, glob=False, columns=columns, schema_overrides=types)
    except pl.exceptions.PolarsError as error:
        try:
            # Slow, and only for the error: which value is none of its column's?
            text = pl.read_csv(file, glob=False, columns=columns, infer_schema=False)
        except pl.exceptions.PolarsError:
            raise TraceError(f"{file}: {str(error).splitlines()[0]}") from None
        for name, kind in types.items():
            number = text[name].cast(kind, strict=False)
            word = "a whole number" if kind is pl.Int64 else "a number"
            bad = number.is_null() & text[name].is_not_null()
            _refuse(file, text[name], bad, f"is not {word}")
        raise TraceError(f"{file}: {str(error).splitlines()[0]}") from None
    for name in columns:
        if table[name].null_count():
            _refuse(file, table[name], table[name].is_null(), "is missing")
    return table


def _refuse(file: Path, column: pl.Series, bad: pl.Series, text: str) -> None:
    if bad.any():
        row = int(bad.arg_max() or 0)
        value = "" if column[row] is None else f": {column[row]!r}"
        raise TraceError(f"{file}:{row + 2}: field `{column.name}` {text}{value}")
