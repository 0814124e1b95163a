"""Our own format: Parquet, one row a request, each row with all that is known of its app.

A file needs no table beside it: the app's columns repeat and compress to nothing. A folder of such
files is one trace too, so what the service records is read like any other. What no row can say
(the format's version, the reader's notes, apps never called) lies as JSON in the file's metadata;
a file without it is read too, so that any tool can make one.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from warmscaler.data.files import whole
from warmscaler.data.seal import is_whole
from warmscaler.data.trace import LIMITS, App, Trace, TraceError, check_arrivals, unit_hint

VERSION = 1
METADATA_KEY = "scaler.trace"
SERVED = ("kept", "bad")
"""Outcomes of a recording's requests that were executed; the others are no part of a trace."""
_APP_COLUMNS = ["app", "runtime", "memory_mb", "timeout_s", "init_ms"]
SCHEMA: dict[str, type[pl.DataType]] = {
    "arrival_ms": pl.Int64,
    "app": pl.String,
    "runtime": pl.String,
    "memory_mb": pl.Int64,
    "timeout_s": pl.Int64,
    "init_ms": pl.Int64,
    "duration_ms": pl.Int64,
    "status_code": pl.Int64,
}


def is_own_parquet(file: Path) -> bool:
    """Whether the file is in our format, whole or not: it says so, or has a column of ours beside
    `app` that nobody else calls so, or cannot be read at all."""
    try:
        names = pl.read_parquet_schema(file).keys()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        return True
    return len(SCHEMA.keys() & names) >= len(SCHEMA) - 1


def read_parquet(path: Path) -> Trace:
    """Reads a file, or every `*.parquet` in a folder; a torn file in a folder is left out, noted."""
    if not path.is_dir():
        table, about = _read_file(path)
        trace = to_trace(path, [table], [about], [])
    else:
        trace = to_trace(path, *read_whole(sorted(path.glob("*.parquet"))))
    check_arrivals(trace.arrival_ms, str(path), "arrival_ms")
    return trace


def read_whole(
    files: Sequence[Path], *, sealed: bool = False
) -> tuple[list[pl.DataFrame], list[dict[str, Any]], list[str]]:
    """Tables and metadata of the files that are whole; a note for each that is not. With `sealed`,
    one without a seal (see `data.seal`) is not."""
    tables, abouts, notes = [], [], []
    for file in files:
        try:
            part, about = _read_file(file, sealed=sealed)
        except TraceError as error:
            notes.append(f"left out: {error}")
        else:
            tables.append(part)
            abouts.append(about)
    return tables, abouts, notes


def to_trace(
    path: Path,
    tables: Sequence[pl.DataFrame],
    abouts: Sequence[dict[str, Any]],
    notes: Sequence[str],
) -> Trace:
    """Tables with the columns of SCHEMA as one trace. TraceError where they hold no request."""
    if not tables:
        why = notes[0] if notes else "the folder has none"
        raise TraceError(f"{path}: no readable *.parquet file here; {why}")
    table = pl.concat(tables)
    within = table.filter(
        pl.all_horizontal(pl.col(name).is_between(*limits) for name, limits in LIMITS.items())
    )
    # Only a recording comes so far with such rows: they are what a caller told the service.
    beyond = len(table) - len(within)
    if beyond:
        table = within
        notes = [*notes, f"{beyond:,} requests with a number that cannot be are not used"]
    notes = [*dict.fromkeys(note for about in abouts for note in about.get("notes", [])), *notes]
    if table.is_empty():
        raise TraceError(f"{path}: no requests in it")
    if not table["arrival_ms"].is_sorted():
        table = table.sort("arrival_ms", maintain_order=True)
        notes.append("requests were out of order and have been sorted by arrival_ms")
    # An app's last row speaks for it: memory and start-up time may change in a long recording.
    apps = table.select(_APP_COLUMNS).unique("app", keep="last", maintain_order=True)
    known = {row[0]: App(*row) for row in apps.iter_rows()}
    for about in abouts:
        for idle in about["idle_apps"]:
            known.setdefault(idle.key, idle)
    index = pl.Enum(apps["app"].to_list())
    return Trace(
        path.name.removesuffix(".parquet"),
        tuple(known.values()),
        table["arrival_ms"].to_numpy(),
        table["app"].cast(index).to_physical().cast(pl.Int64).to_numpy(),
        table["duration_ms"].to_numpy(),
        table["status_code"].to_numpy(),
        tuple(notes),
    )


def write_parquet(trace: Trace, path: Path) -> None:
    """Writes the trace as one file; nothing is left at `path` if writing fails."""
    apps = pl.DataFrame(
        [
            pl.Series("app", [app.key for app in trace.apps], dtype=pl.String),
            pl.Series("runtime", [app.runtime for app in trace.apps], dtype=pl.String),
            pl.Series("memory_mb", [app.memory_mb for app in trace.apps], dtype=pl.Int64),
            pl.Series("timeout_s", [app.timeout_s for app in trace.apps], dtype=pl.Int64),
            pl.Series("init_ms", [app.init_ms for app in trace.apps], dtype=pl.Int64),
        ]
    )
    table = apps[trace.app].with_columns(
        pl.Series("arrival_ms", np.asarray(trace.arrival_ms)),
        pl.Series("duration_ms", np.asarray(trace.duration_ms)),
        pl.Series("status_code", np.asarray(trace.status_code)),
    )
    check_arrivals(trace.arrival_ms, str(path), "arrival_ms")
    path.parent.mkdir(parents=True, exist_ok=True)
    called = np.bincount(trace.app, minlength=len(trace.apps)) > 0
    about = {
        "version": VERSION,
        "notes": trace.notes,
        "idle_apps": [
            asdict(app) for app, any_call in zip(trace.apps, called, strict=True) if not any_call
        ],
    }
    with whole(path) as file:
        table.select(list(SCHEMA)).write_parquet(file, metadata={METADATA_KEY: json.dumps(about)})


def _read_file(file: Path, *, sealed: bool = False) -> tuple[pl.DataFrame, dict[str, Any]]:
    try:
        content = file.read_bytes()
        whole = is_whole(content)
        if whole is False or (sealed and whole is None):
            raise TraceError(f"{file}: not a whole file: its bytes are not those that were written")
        about = json.loads(pl.read_parquet_metadata(io.BytesIO(content)).get(METADATA_KEY, "{}"))
        if about.get("version", VERSION) != VERSION:
            raise TraceError(
                f"{file}: format version {about['version']}, this program reads {VERSION};"
                " convert it again from its source"
            )
        table = pl.read_parquet(io.BytesIO(content))
        about["idle_apps"] = [App(**app) for app in about.get("idle_apps", [])]
    except (AttributeError, TypeError, RecursionError):
        raise TraceError(f"{file}: metadata `{METADATA_KEY}` is not what was written") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise TraceError(f"{file}: not a whole Parquet file ({reason})") from None
    for name, wanted in SCHEMA.items():
        if name not in table.columns:
            raise TraceError(f"{file}: column `{name}` is missing")
        column, kind = table[name], table[name].dtype
        if column.null_count():
            raise TraceError(f"{file}: column `{name}` has empty values")
        text = kind == pl.String or isinstance(kind, pl.Categorical | pl.Enum)
        if not (text if wanted is pl.String else kind.is_integer()):
            raise TraceError(f"{file}: column `{name}` has type {kind}, not {wanted.__name__}")
        if wanted is not pl.String:
            number = column.cast(pl.Int64, strict=False)
            bad = number.is_null()
            if "outcome" not in table.columns:
                bad |= ~number.is_between(*LIMITS[name])
            if bad.any():
                row = int(bad.arg_max() or 0)
                low, high = LIMITS[name]
                raise TraceError(
                    f"{file}: column `{name}`, row {row + 1}: {column[row]} is not in {low} to {high}"
                    + (unit_hint(name, int(column[row])) if column[row] > high else "")
                )
    if "outcome" in table.columns:
        table = table.filter(pl.col("outcome").is_in(SERVED))
    try:
        return table.select([pl.col(name).cast(kind) for name, kind in SCHEMA.items()]), about
    except pl.exceptions.PolarsError as error:
        raise TraceError(f"{file}: {str(error).splitlines()[0]}") from None
