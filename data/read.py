"""One way in and one way out: `read_trace` knows a source by its looks, `write_trace` by the name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from polars.exceptions import PolarsError

from warmscaler.data.azure import is_azure_2019, is_azure_2021, read_azure_2019, read_azure_2021
from warmscaler.data.columnar import read_parquet, write_parquet
from warmscaler.data.contest import is_contest, read_contest, write_contest
from warmscaler.data.recording import is_recording, read_recording
from warmscaler.data.trace import Trace, TraceError

_NOT_WRITTEN = (".gz", ".tgz", ".tar", ".zip", ".csv", ".txt", ".json", ".jsonl", ".ndjson")


def read_trace(path: str | Path, *, set_name: str | None = None, seed: int = 0) -> Trace:
    """Reads a trace of any known format.

    `set_name` chooses among several data sets of a contest archive; `seed` is for what a source
    leaves to be drawn. Raises TraceError, one line, where it cannot be read, or where a set is
    named and the source has none.
    """
    path = Path(path)
    try:
        if not path.exists():
            raise TraceError(f"{path}: there is no such file or folder")
        if path.is_file() and path.stat().st_size == 0:
            raise TraceError(f"{path}: empty; get it again")
        read = _reader_of_one(path, seed)
        if read is not None:
            if set_name is not None:
                raise TraceError(f"{path}: one data set without a name; leave out --set {set_name}")
            return read()
        if is_contest(path):
            return read_contest(path, set_name)
        if path.name.removesuffix(".gz") in ("requests", "metas"):
            return read_contest(path.parent, set_name or path.resolve().parent.name)
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror or error}") from None
    raise TraceError(
        f"{path}: no known trace: a contest folder or .tar.gz, Azure Functions 2019 (folder) or"
        " 2021 (CSV of app,func,end_timestamp,duration), our own .parquet or what the service"
        " recorded is wanted"
    )


def _reader_of_one(path: Path, seed: int) -> Callable[[], Trace] | None:
    """Of a source in a format that holds one data set; None where it is in none of these."""
    if is_recording(path):
        return partial(read_recording, path)
    if path.suffix == ".parquet" or (path.is_dir() and any(path.glob("*.parquet"))):
        return partial(read_parquet, path)
    if is_azure_2019(path):
        return partial(read_azure_2019, path, seed)
    if is_azure_2021(path):
        return partial(read_azure_2021, path, seed)
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
