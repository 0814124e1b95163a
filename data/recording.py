"""What the service records: Parquet segments, and the journal of the one that is still open.

    20261123T130000.000-1a2b3c4d.parquet    a closed segment, whole and on the disk
    20261123T131500.000-1a2b3c4d.journal    the open one: a JSON object of columns a line

A segment has the columns of `data.columnar` and more, so it is a trace to every reader; it is
sealed (`data.seal`). A line of a journal counts once its end is written: what a crash tore
is left out. A segment appears under its name before its journal goes: where both are there, the
segment counts.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl

from warmscaler.data.columnar import METADATA_KEY, SCHEMA, SERVED, VERSION, read_whole, to_trace
from warmscaler.data.files import whole
from warmscaler.data.seal import BLANK, is_whole, seal
from warmscaler.data.trace import Trace, TraceError

SEGMENT = ".parquet"
JOURNAL = ".journal"
NAME = re.compile(r"(\d{8}T\d{6}\.\d{3})-[0-9a-f]{8}")
"""A segment's name without its ending: when it was begun (UTC), and a random part."""
COLUMNS: dict[str, type[pl.DataType]] = SCHEMA | {
    "wait_ms": pl.Float64,
    "cold": pl.Boolean,
    "outcome": pl.String,
    "result_code": pl.Int64,
    "create_ms": pl.Int64,
}
"""`status_code` is 2xx exactly where the instance was kept, `result_code` is what Idle said;
`init_ms` and `create_ms` are what the app's starts were seen to take of late; `outcome` is `kept` or
`bad` (the instance, after an execution), `refused` or `gone` (no execution)."""


def is_recording(path: Path) -> bool:
    """Whether `path` is a folder that a service recorded, or records, into."""
    return path.is_dir() and any(
        file.suffix in (SEGMENT, JOURNAL) and NAME.fullmatch(file.stem) for file in path.iterdir()
    )


def read_recording(
    folder: Path, window_ms: float | None = None, until_ms: float | None = None
) -> Trace:
    """Every request with an execution, the open segment's too; with `window_ms` those that arrive
    no longer than that before the newest, with `until_ms` those that do not arrive after it.

    A torn segment or line is left out, and noted, as are requests after `until_ms`. Raises
    TraceError where nothing is left.
    """
    notes: list[str] = []
    journals: dict[str, tuple[pl.DataFrame, str | None]] = {}
    # Journals first: one that is closed meanwhile is then found as a segment.
    for journal in sorted(folder.glob(f"*{JOURNAL}")):
        try:
            table, torn = read_journal(journal)
        except FileNotFoundError:
            continue
        note = f"left out: {journal}: {torn} torn lines" if torn else None
        served = table.filter(pl.col("outcome").is_in(SERVED)).select(list(SCHEMA))
        journals[journal.stem] = served, note
    files = [file for file in sorted(folder.glob(f"*{SEGMENT}")) if NAME.fullmatch(file.stem)]
    for file in files:  # closed while the journals were read: its requests must not count twice
        journals.pop(file.stem, None)
    tables = [table for table, _ in journals.values()]
    notes += [note for _, note in journals.values() if note is not None]
    whole, abouts, more = read_whole(files, sealed=True)
    tables += whole
    if until_ms is not None:  # before the window, which goes by the newest
        late = sum(int((table["arrival_ms"] > until_ms).sum()) for table in tables)
        tables = [table.filter(pl.col("arrival_ms") <= until_ms) for table in tables]
        if late:
            more.append(too_late(late))
    if window_ms is not None:
        newest_ms = max((_newest(table) for table in tables), default=0)
        since_ms = newest_ms - window_ms
        tables = [table.filter(pl.col("arrival_ms") >= since_ms) for table in tables]
    return to_trace(folder, tables, abouts, [*notes, *more])


def read_app(folder: Path, key: str, until_ms: float | None = None) -> pl.DataFrame:
    """All that is recorded of the app `key`, with COLUMNS, in order of arrival; up to `until_ms`.

    Torn segments and lines are left out. Raises TraceError where there is nothing.
    """
    tables: dict[str, pl.DataFrame] = {}
    for journal in sorted(folder.glob(f"*{JOURNAL}")):
        with suppress(FileNotFoundError):  # it is closed just now, and found as a segment below
            tables[journal.stem], _ = read_journal(journal)
    for file in sorted(folder.glob(f"*{SEGMENT}")):
        with suppress(pl.exceptions.PolarsError, OSError):
            content = file.read_bytes()
            if NAME.fullmatch(file.stem) and is_whole(content):
                table = pl.read_parquet(io.BytesIO(content), columns=list(COLUMNS))
                tables[file.stem] = table.select(
                    pl.col(name).cast(kind) for name, kind in COLUMNS.items()
                )
    rows = pl.concat(
        [pl.DataFrame(schema=dict(COLUMNS))]
        + [table.filter(pl.col("app") == key) for table in tables.values()]
    )
    if rows.is_empty():
        raise TraceError(f"{folder}: no request of the app {key!r} is recorded here")
    if until_ms is not None:
        first_ms = int(rows["arrival_ms"].min() or 0)  # type: ignore[arg-type]
        rows = rows.filter(pl.col("arrival_ms") <= until_ms)
        if rows.is_empty():
            first = np.datetime64(first_ms, "ms")
            raise TraceError(
                f"{folder}: the first request of the app {key!r} came later, at {first}"
            )
    return rows.sort("arrival_ms", maintain_order=True)


def too_late(requests: int) -> str:
    """The note about requests that are left out for their time."""
    return f"{requests:,} requests in the future are not used: the clock they were recorded by was wrong"


def _newest(table: pl.DataFrame) -> int:
    newest = table["arrival_ms"].max()
    return newest if isinstance(newest, int) else 0


def observed_create_ms(folder: Path) -> float | None:
    """What CreateSlot was seen to take, as the median of the newest segment that says."""
    for file in sorted(folder.glob(f"*{SEGMENT}"), reverse=True):
        try:
            content = file.read_bytes()
            if not is_whole(content):
                continue
            column = pl.read_parquet(io.BytesIO(content), columns=["create_ms"])["create_ms"]
        except (pl.exceptions.PolarsError, OSError):
            continue
        median = column.filter(column > 0).median()
        if isinstance(median, int | float):
            return float(median)
    return None


def table_of(columns: Mapping[str, Sequence[Any]]) -> pl.DataFrame:
    """Columns of equal length as a table. Raises TraceError where they are not COLUMNS."""
    try:
        return pl.DataFrame(
            {name: columns[name] for name in COLUMNS}, schema=dict(COLUMNS), strict=True
        )
    except (KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise TraceError(f"not the columns of a recording ({error})") from None


def journal_line(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """Columns as a line of a journal."""
    return orjson.dumps(columns, option=orjson.OPT_APPEND_NEWLINE)


def read_journal(path: Path) -> tuple[pl.DataFrame, int]:
    """What a journal holds, and how many of its lines are torn. Raises OSError."""
    tables = [pl.DataFrame(schema=dict(COLUMNS))]
    torn = 0
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            tables.append(table_of(orjson.loads(line)))
        except (orjson.JSONDecodeError, TraceError):
            torn += 1
    return pl.concat(tables), torn


def write_segment(table: pl.DataFrame, path: Path) -> None:
    """Writes a segment that is on the disk, whole, when this returns. Raises OSError if it is not."""
    about = {"version": VERSION, "seal": BLANK}
    content = io.BytesIO()
    table.write_parquet(content, metadata={METADATA_KEY: json.dumps(about)})
    with whole(path, durable=True) as file:
        file.write_bytes(seal(content.getvalue()))
