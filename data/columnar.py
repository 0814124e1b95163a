"""Our own format: Parquet, one row a request, each row with all that is known of its app.

A file needs no table beside it: the app's columns repeat and compress to nothing. A folder of such
files is one trace too, so what the service records is read like any other.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from data.trace import App, Trace, TraceError

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


def read_parquet(path: Path) -> Trace:
    """Reads a file, or every `*.parquet` in a folder; a torn file in a folder is left out, noted."""
    notes: list[str] = []
    if path.is_dir():
        tables = []
        for file in sorted(path.glob("*.parquet")):
            try:
                tables.append(_read_file(file))
            except TraceError as error:
                notes.append(f"left out: {error}")
        if not tables:
            raise TraceError(f"{path}: no readable *.parquet file here")
        table = pl.concat(tables)
    else:
        table = _read_file(path)
    if table.is_empty():
        raise TraceError(f"{path}: no requests in it")
    if not table["arrival_ms"].is_sorted():
        table = table.sort("arrival_ms", maintain_order=True)
        notes.append("requests were out of order and have been sorted by arrival_ms")
    # An app's last row speaks for it: memory and start-up time may change in a long recording.
    apps = table.select(_APP_COLUMNS).unique("app", keep="last", maintain_order=True)
    index = pl.Enum(apps["app"].to_list())
    return Trace(
        path.name.removesuffix(".parquet"),
        tuple(App(*row) for row in apps.iter_rows()),
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
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    table.select(list(SCHEMA)).write_parquet(partial)
    partial.rename(path)


def _read_file(file: Path) -> pl.DataFrame:
    try:
        table = pl.read_parquet(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise TraceError(f"{file}: not a whole Parquet file ({reason})") from None
    for name, kind in SCHEMA.items():
        if name not in table.columns:
            raise TraceError(f"{file}: column `{name}` is missing")
        if table[name].null_count():
            raise TraceError(f"{file}: column `{name}` has empty values")
        if (table[name].dtype == pl.String) != (kind is pl.String):
            raise TraceError(f"{file}: column `{name}` has type {table[name].dtype}, not {kind}")
    if (table["duration_ms"] < 0).any():
        raise TraceError(f"{file}: column `duration_ms` has a negative value")
    return table.select([pl.col(name).cast(kind) for name, kind in SCHEMA.items()])
