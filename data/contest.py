"""The contest's format: `requests` and `metas`, JSON objects one a line, in a folder or an archive."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zlib
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np
import polars as pl

from warmscaler.data.files import whole
from warmscaler.data.trace import (
    LIMITS,
    App,
    Trace,
    TraceError,
    check_arrivals,
    unit_hint,
)

_REQUEST_FIELDS = {
    "startTime": pl.Int64,
    "metaKey": pl.String,
    "durationsInMs": pl.Int64,
    "statusCode": pl.Int64,
}
_META_FIELDS = {
    "key": pl.String,
    "runtime": pl.String,
    "memoryInMb": pl.Int64,
    "timeoutInSecs": pl.Int64,
    "initDurationInMs": pl.Int64,
}
_OUR_NAMES = {
    "startTime": "arrival_ms",
    "durationsInMs": "duration_ms",
    "statusCode": "status_code",
    "memoryInMb": "memory_mb",
    "timeoutInSecs": "timeout_s",
    "initDurationInMs": "init_ms",
}
_FILES = ("requests", "metas")
_INT64 = range(-(2**63), 2**63)
Sets = dict[str, dict[str, Callable[[], bytes]]]
"""The files of each data set by name, read only when called: a set not wanted costs nothing."""


def is_contest(path: Path) -> bool:
    """Whether `path` looks like a data set in this format: an archive, or folders with its files."""
    if path.is_dir():
        return bool(_sets_in_folder(path))
    return path.name.endswith((".tar.gz", ".tgz", ".tar"))


def read_contest(path: Path, set_name: str | None = None) -> Trace:
    """Reads one data set. `set_name` chooses where there are several; else TraceError names them."""
    sets = _sets_in_folder(path) if path.is_dir() else _sets_in_archive(path)
    if not sets:
        raise TraceError(
            f"{path}: no data set here: a folder with `requests` and `metas` is wanted; unpack an"
            " archive of other files, and give one of them"
        )
    if set_name is None and len(sets) > 1:
        names = ", ".join(sorted(sets))
        raise TraceError(f"{path}: holds several sets ({names}); choose one with --set")
    name = set_name if set_name is not None else next(iter(sets))
    if name not in sets:
        raise TraceError(f"{path}: no set {name!r} here; there is {', '.join(sorted(sets))}")
    raw: dict[str, bytes] = {}
    for file in _FILES:
        if file not in sets[name]:
            raise TraceError(f"{path}: set {name!r} has no file `{file}`")
        # Some editors and shells put a byte order mark first, which JSON does not know.
        raw[file] = sets[name][file]().removeprefix(b"\xef\xbb\xbf")
    inside = path.is_dir() and path.resolve().name == name
    where = {file: f"{path}/{file}" if inside else f"{path}/{name}/{file}" for file in _FILES}
    metas = _table(raw["metas"], _META_FIELDS, where["metas"])
    requests = _table(raw["requests"], _REQUEST_FIELDS, where["requests"])
    return _trace(name, metas, requests, raw, where)


def write_contest(trace: Trace, folder: Path) -> None:
    """Writes `requests` and `metas` into `folder` (made if need be): both whole, or neither.

    Raises TraceError where the folder holds anything else: a trace put into a model's folder, or
    beside a trace of another format, is a mixture that nobody asked for.
    """
    check_arrivals(trace.arrival_ms, str(folder), "startTime")
    made = not folder.exists()
    if folder.is_dir() and any(file.name not in _FILES for file in folder.iterdir()):
        raise TraceError(f"{folder}: holds something that is not a contest trace: name another")
    folder.mkdir(parents=True, exist_ok=True)
    keys = np.array([app.key for app in trace.apps], dtype=object)
    requests = pl.DataFrame(
        {
            "startTime": trace.arrival_ms,
            "metaKey": pl.Series(keys[trace.app], dtype=pl.String),
            "durationsInMs": trace.duration_ms,
            "statusCode": trace.status_code,
        }
    )
    metas = pl.DataFrame(
        {
            "key": [app.key for app in trace.apps],
            "runtime": [app.runtime for app in trace.apps],
            "memoryInMb": [app.memory_mb for app in trace.apps],
            "timeoutInSecs": [app.timeout_s for app in trace.apps],
            "initDurationInMs": [app.init_ms for app in trace.apps],
        }
    )
    try:
        with (
            whole(folder / "requests") as requests_file,
            whole(folder / "metas") as metas_file,
        ):
            requests.write_ndjson(requests_file)
            metas.write_ndjson(metas_file)
    finally:
        if made and not any(folder.iterdir()):
            folder.rmdir()


def _sets_in_folder(path: Path) -> Sets:
    sets: Sets = {}
    for folder in (path, *sorted(child for child in path.iterdir() if child.is_dir())):
        files: dict[str, Callable[[], bytes]] = {}
        for name in _FILES:
            if (folder / name).is_file():
                files[name] = (folder / name).read_bytes
            elif (folder / f"{name}.gz").is_file():
                files[name] = partial(_read_gzip, folder / f"{name}.gz")
        if files:
            sets[folder.resolve().name] = files
    return sets


def _read_gzip(path: Path) -> bytes:
    return _gunzip(path.read_bytes(), path)


def _gunzip(packed: bytes, path: Path) -> bytes:
    try:
        return gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise TraceError(f"{path}: not a whole gzip file ({error}); get it again") from None


def _sets_in_archive(path: Path) -> Sets:
    sets: Sets = {}
    try:
        # Unpacked at once in memory: the archive is read only once and never onto the disk.
        raw = path.read_bytes()
        plain = _gunzip(raw, path) if raw[:2] == b"\x1f\x8b" else raw
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as archive:
            for member in archive:
                inside = PurePosixPath(member.name)
                if inside.is_absolute() or ".." in inside.parts:
                    raise TraceError(
                        f"{path}: entry {member.name!r} climbs out of the archive; refused"
                    )
                name = inside.name.removesuffix(".gz")
                if name not in _FILES:
                    continue
                if not member.isfile():
                    raise TraceError(f"{path}: entry {member.name!r} is not a plain file; refused")
                content = archive.extractfile(member)
                assert content is not None  # noqa: S101 - isfile() was asked
                data = content.read()
                files = sets.setdefault(inside.parent.name or path.name.split(".")[0], {})
                if name in files:
                    raise TraceError(
                        f"{path}: two files {name!r} for one set ({member.name!r}); pack it again"
                    )
                packed = inside.name.endswith(".gz")
                files[name] = partial(_gunzip if packed else _as_it_is, data, path / inside)
    except tarfile.TarError as error:
        raise TraceError(f"{path}: not a whole tar archive ({error}); get it again") from None
    return sets


def _as_it_is(data: bytes, path: Path) -> bytes:
    return data


def _table(raw: bytes, fields: dict[str, type[pl.DataType]], where: str) -> pl.DataFrame:
    if not raw or raw.isspace():
        raise TraceError(f"{where}: empty; get it again")
    try:
        table = pl.read_ndjson(io.BytesIO(raw), schema=dict(fields))
    except pl.exceptions.PolarsError:
        table = None
    if table is None or any(table[name].null_count() for name in fields):
        _explain(raw, fields, where)
    assert table is not None  # noqa: S101 - _explain raises
    return table


def _explain(raw: bytes, fields: dict[str, type[pl.DataType]], where: str) -> None:
    """Finds the line that the columnar reader stumbled over. Slow, and only for the error."""
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise TraceError(f"{where}:{number}: not JSON; one object a line is wanted") from None
        if not isinstance(row, dict):
            raise TraceError(f"{where}:{number}: not a JSON object")
        for name, kind in fields.items():
            if row.get(name) is None:
                raise TraceError(f"{where}:{number}: field `{name}` is missing")
            wanted = str if kind is pl.String else int
            if not isinstance(row[name], wanted) or isinstance(row[name], bool):
                word = "text" if wanted is str else "a whole number"
                raise TraceError(f"{where}:{number}: field `{name}` must be {word}")
            if wanted is int and row[name] not in _INT64:
                raise TraceError(f"{where}:{number}: field `{name}` is too large")
    raise TraceError(f"{where}: cannot be read as JSON lines with {', '.join(fields)}")


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _line_number(raw: bytes, row: int) -> int:
    """The number of the line that holds the table's row: blank lines are lines, but not rows."""
    filled = (number for number, line in enumerate(raw.split(b"\n"), start=1) if line.strip())
    return next(islice(filled, row, None))


def _trace(
    name: str,
    metas: pl.DataFrame,
    requests: pl.DataFrame,
    raw: dict[str, bytes],
    where: dict[str, str],
) -> Trace:
    def refuse(file: str, column: pl.Series, bad: pl.Series, text: str) -> None:
        if bad.any():
            row = int(bad.arg_max() or 0)
            place = f"{where[file]}:{_line_number(raw[file], row)}: field `{column.name}`"
            says = text.format(repr(column[row]))
            if "above" in text:
                says += unit_hint(_OUR_NAMES[column.name], int(column[row]))
            raise TraceError(f"{place} {says}")

    key = metas["key"]
    refuse("metas", key, ~key.is_first_distinct(), "{} has a meta already: an app has one")
    refuse("metas", key, key.str.len_bytes() == 0, "is empty")
    for file, table in (("metas", metas), ("requests", requests)):
        for field in table.columns:
            if field not in _OUR_NAMES:
                continue
            low, high = LIMITS[_OUR_NAMES[field]]
            says = "is negative: {}" if low == 0 else f"is below {low}: {{}}"
            refuse(file, table[field], table[field] < low, says)
            refuse(file, table[field], table[field] > high, f"is above {high}: {{}}")
    called = requests["metaKey"]
    refuse("requests", called, ~called.is_in(key.implode()), "{} has no meta in `metas`")
    apps = tuple(App(*row) for row in metas.iter_rows())
    check_arrivals(requests["startTime"].to_numpy(), where["requests"], "startTime")
    index = pl.Enum(metas["key"].to_list())
    notes: tuple[str, ...] = ()
    if not requests["startTime"].is_sorted():
        requests = requests.sort("startTime", maintain_order=True)
        notes = ("requests were out of order and have been sorted by startTime",)
    return Trace(
        name,
        apps,
        requests["startTime"].to_numpy(),
        requests["metaKey"].cast(index).to_physical().cast(pl.Int64).to_numpy(),
        requests["durationsInMs"].to_numpy(),
        requests["statusCode"].to_numpy(),
        notes,
    )
