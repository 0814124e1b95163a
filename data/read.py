"""One way in and one way out: `read_trace` knows a source by its looks, `write_trace` by the name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from polars.exceptions import PolarsError

from warmscaler.data.azure import (
    is_azure_2019,
    is_azure_2021,
    is_day_of_azure_2019,
    read_azure_2019,
    read_azure_2021,
)
from warmscaler.data.columnar import is_own_parquet, read_parquet, write_parquet
from warmscaler.data.contest import is_contest, read_contest, write_contest
from warmscaler.data.recording import is_recording, read_recording
from warmscaler.data.tables.build import AppFacts, Layout, read_apps, to_trace
from warmscaler.data.tables.sources import table_of, table_of_files
from warmscaler.data.trace import Trace, TraceError

STDIN = "-"
_NOT_WRITTEN = (".gz", ".tgz", ".tar", ".zip", ".csv", ".txt", ".json", ".jsonl", ".ndjson")


def read_trace(
    path: str | Path, *, set_name: str | None = None, seed: int = 0, layout: Layout | None = None
) -> Trace:
    """Reads a trace of any known format; `-` is what comes in on stdin.

    `set_name` chooses among several data sets of a contest archive; `seed` is for what a source
    leaves to be drawn; `layout` says what is what in a table of somebody else's. Raises TraceError,
    one line, where it cannot be read, where a set is named and the source has none, or where there
    is a layout and the source needs none.
    """
    path = Path(path)
    layout = layout or Layout()
    try:
        if str(path) == STDIN:
            return _read_table(sys.stdin.buffer.read(), "stdin", "", set_name, layout)
        if not path.exists():
            raise TraceError(f"{path}: there is no such file or folder")
        if path.is_file() and path.stat().st_size == 0:
            raise TraceError(f"{path}: empty; get it again")
        read = None if layout.roles else _reader_of_one(path, seed)
        if read is None and not layout.roles:
            read = _reader_of_set(path, set_name)
        elif read is not None:
            _refuse_set(str(path), set_name)
        if read is not None:
            if layout:
                raise TraceError(
                    f"{path}: says of each app what memory and start-up time it has; leave out"
                    " --memory-mb, --init-ms and --apps"
                )
            return read()
        if not path.is_dir():  # a pipe as well, as a shell's <(...)
            name = path.name.removesuffix(".gz").rpartition(".")[0] or path.name
            return _read_table(path.read_bytes(), str(path), name, set_name, layout)
        if files := sorted(path.glob("*.parquet")):  # as Spark and its like write a table
            _refuse_set(str(path), set_name)
            return to_trace(table_of_files(files, str(path)), layout, path.resolve().name)
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror or error}") from None
    raise TraceError(
        f"{path}: no known trace in this folder: the contest's `requests` and `metas`, Azure"
        " Functions 2019, *.parquet or what the service recorded is wanted; of another format give a"
        " file; see scaler trace formats"
    )


def read_app_facts(path: str | Path) -> dict[str, AppFacts]:
    """Memory, start-up time, runtime and timeout by app, from a small CSV or JSON file."""
    path = Path(path)
    try:
        return read_apps(table_of(path.read_bytes(), str(path), ""))
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror or error}") from None


def formats_text() -> str:
    """docs/formats.md: what is read, and what is assumed of what a source does not say."""
    return Path(__file__).with_name("formats.md").read_text(encoding="utf-8")


def _read_table(
    content: bytes, where: str, name: str, set_name: str | None, layout: Layout
) -> Trace:
    _refuse_set(where, set_name)
    return to_trace(table_of(content, where, name), layout, name or where)


def _refuse_set(where: str, set_name: str | None) -> None:
    if set_name is not None:
        raise TraceError(f"{where}: one data set without a name; leave out --set {set_name}")


def _reader_of_one(path: Path, seed: int) -> Callable[[], Trace] | None:
    """Of a source in a format that holds one data set; None where it is in none of these."""
    if is_recording(path):
        return partial(read_recording, path)
    if path.is_dir() and (files := list(path.glob("*.parquet"))):
        return partial(read_parquet, path) if all(map(is_own_parquet, files)) else None
    if path.suffix == ".parquet" and is_own_parquet(path):
        return partial(read_parquet, path)
    if is_azure_2019(path):
        return partial(read_azure_2019, path, seed)
    if is_day_of_azure_2019(path):
        raise TraceError(
            f"{path}: one file of Azure Functions 2019; give the folder that holds it and the durations'"
            f" and memory's files: {path.parent}"
        )
    if is_azure_2021(path):
        return partial(read_azure_2021, path, seed)
    return None


def _reader_of_set(path: Path, set_name: str | None) -> Callable[[], Trace] | None:
    """Of a source that may hold several data sets."""
    if is_contest(path):
        return partial(read_contest, path, set_name)
    if path.name.removesuffix(".gz") in ("requests", "metas"):
        return partial(read_contest, path.parent, set_name or path.resolve().parent.name)
    return None


def write_trace(trace: Trace, path: str | Path) -> None:
    """Writes `*.parquet` in our own format, a name without ending as a folder of the contest's.

    Raises TraceError, one line, and leaves nothing half-written where it cannot.
    """
    path = Path(path)
    if path.suffix in _NOT_WRITTEN:
        raise TraceError(
            f"{path}: no {path.suffix} is written; name a *.parquet, or a folder (contest's format)"
        )
    try:
        if path.suffix == ".parquet":
            write_parquet(trace, path)
        else:
            write_contest(trace, path)
    except FileExistsError:
        raise TraceError(f"{path}: a file is in the way of the folder; choose another") from None
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror or error}") from None
    except PolarsError as error:
        raise TraceError(f"{path}: cannot be written ({str(error).splitlines()[0]})") from None
