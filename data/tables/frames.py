"""Traces from tables in memory and from files, with columns named as keyword arguments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from warmscaler.data.read import read_app_facts
from warmscaler.data.read import read_trace as read_any
from warmscaler.data.tables.build import AppFacts, layout_of, to_trace
from warmscaler.data.tables.sources import flat_frame
from warmscaler.data.tables.table import FRAME, Table
from warmscaler.data.trace import Trace, TraceError

Apps = str | Path | Mapping[str, AppFacts] | None


def read_trace(
    path: str | Path,
    *,
    set_name: str | None = None,
    seed: int = 0,
    memory_mb: int | None = None,
    init_ms: int | None = None,
    apps: Apps = None,
    **columns: str,
) -> Trace:
    """Reads a trace of any known format; `scaler trace formats` lists them. `-` is stdin.

    `columns` say which column is what where its name does not: `app="fn", arrival="ts",
    duration="took:ms"`. `memory_mb` and `init_ms` (start-up time in ms) are for apps of which the
    trace does not say; `apps` is a small file of them, or AppFacts by key, and stands above the
    trace. `set_name` chooses a set of a contest archive, `seed` is for what is drawn. What was taken
    for what stands in the trace's `notes`. Raises TraceError: one line, what, where, how to mend.
    """
    layout = layout_of(_told(columns), memory_mb=memory_mb, init_ms=init_ms, apps=_facts(apps))
    return read_any(path, set_name=set_name, seed=seed, layout=layout)


def trace_from_frame(
    frame: Any,
    *,
    name: str = "frame",
    memory_mb: int | None = None,
    init_ms: int | None = None,
    apps: Apps = None,
    **columns: str,
) -> Trace:
    """See `Trace.from_frame`."""
    layout = layout_of(_told(columns), memory_mb=memory_mb, init_ms=init_ms, apps=_facts(apps))
    return to_trace(Table(FRAME, flat_frame(_polars(frame))), layout, name)


def frame_of(trace: Trace) -> pl.DataFrame:
    """See `Trace.to_frame`."""
    apps = pl.DataFrame(
        {
            "app": [app.key for app in trace.apps],
            "memory_mb": [app.memory_mb for app in trace.apps],
            "init_ms": [app.init_ms for app in trace.apps],
        },
        schema={"app": pl.String, "memory_mb": pl.Int64, "init_ms": pl.Int64},
    )
    return apps[trace.app].with_columns(
        pl.Series("arrival", trace.arrival_ms).cast(pl.Datetime("ms", "UTC")),
        pl.Series("duration_ms", trace.duration_ms),
        pl.Series("status_code", trace.status_code),
    )


def _told(columns: Mapping[str, str]) -> str | None:
    return ",".join(f"{role}={column}" for role, column in columns.items()) or None


def _facts(apps: Any) -> Mapping[str, AppFacts] | None:
    if isinstance(apps, str | Path):
        return read_app_facts(apps)
    if apps is not None and not (
        isinstance(apps, Mapping) and all(isinstance(each, AppFacts) for each in apps.values())
    ):
        raise TraceError(
            f'apps: a {type(apps).__name__} is none; give {{"orders": AppFacts(memory_mb=512)}}, or a'
            " file's name"
        )
    return apps


def _polars(frame: Any) -> pl.DataFrame:
    """A polars or pandas frame, or columns by name, as polars; pandas is not imported for it.

    Raises TraceError.
    """
    try:
        return _converted(frame)
    except (pl.exceptions.PolarsError, ValueError, TypeError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise TraceError(f"frame: its columns cannot be taken together ({reason})") from None


def _converted(frame: Any) -> pl.DataFrame:
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if isinstance(frame, pl.DataFrame):
        return frame
    if isinstance(frame, Mapping):
        return pl.DataFrame(frame, strict=False)
    if not hasattr(frame, "columns") or not hasattr(frame, "dtypes"):
        raise TraceError(
            f"frame: a {type(frame).__name__} is no frame; give a polars or pandas DataFrame, or a"
            " dict of columns"
        )
    for name in frame.columns:
        if list(frame.columns).count(name) > 1:
            raise TraceError(f"frame: two columns are called `{name}`; give each a name of its own")
    return pl.DataFrame([_series(str(name), frame[name]) for name in frame.columns])


def _series(name: str, column: Any) -> pl.Series:
    """A column of pandas. Not by way of Arrow, which pandas may lack."""
    kind = getattr(column.dtype, "kind", "O")
    if kind == "M":
        aware = getattr(column.dtype, "tz", None) is not None
        instants = pl.Series(name, column.to_numpy(dtype="datetime64[us]"))
        return instants.dt.replace_time_zone("UTC") if aware else instants
    if kind == "m":
        return pl.Series(name, column.to_numpy(dtype="timedelta64[us]"))
    if kind in "iufb" and not column.isna().any():
        return pl.Series(name, column.to_numpy())
    known = column.notna()
    values = [value if there else None for value, there in zip(column, known, strict=True)]
    found = pl.Series(name, values, strict=False)
    if found.dtype == pl.Object:  # of pandas' own kinds, Period say: as it is written
        found = pl.Series(name, [None if each is None else str(each) for each in values])
    return found
