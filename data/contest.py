"""The contest's format: `requests` and `metas`, JSON objects one a line, in a folder or an archive."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
import polars as pl

from data.trace import App, Trace, TraceError

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
_FILES = ("requests", "metas")


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
            f"{path}: no data set here: a folder with `requests` and `metas` is wanted"
        )
    if set_name is None and len(sets) > 1:
        names = ", ".join(sorted(sets))
        raise TraceError(f"{path}: holds several sets ({names}); choose one with --set")
    name = set_name if set_name is not None else next(iter(sets))
    if name not in sets:
        raise TraceError(f"{path}: no set {name!r} here; there is {', '.join(sorted(sets))}")
    files = sets[name]
    for file in _FILES:
        if file not in files:
            raise TraceError(f"{path}: set {name!r} has no file `{file}`")
    where = {file: f"{path}/{name}/{file}" for file in _FILES}
    metas = _table(files["metas"], _META_FIELDS, where["metas"])
    requests = _table(files["requests"], _REQUEST_FIELDS, where["requests"])
    return _trace(name, metas, requests, where)


def write_contest(trace: Trace, folder: Path) -> None:
    """Writes `requests` and `metas` into `folder` (made if need be)."""
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
    for name, table in (("requests", requests), ("metas", metas)):
        partial = folder / f".{name}.partial"
        table.write_ndjson(partial)
        partial.rename(folder / name)


def _sets_in_folder(path: Path) -> dict[str, dict[str, bytes]]:
    sets: dict[str, dict[str, bytes]] = {}
    for folder in (path, *sorted(child for child in path.iterdir() if child.is_dir())):
        files = {}
        for name in _FILES:
            if (folder / name).is_file():
                files[name] = (folder / name).read_bytes()
            elif (folder / f"{name}.gz").is_file():
                files[name] = _gunzip((folder / f"{name}.gz").read_bytes(), folder / f"{name}.gz")
        if files:
            sets[folder.name] = files
    return sets


def _gunzip(packed: bytes, path: Path) -> bytes:
    try:
        return gzip.decompress(packed)
    except (OSError, EOFError, zlib.error) as error:
        raise TraceError(f"{path}: not a whole gzip file ({error}); get it again") from None


def _sets_in_archive(path: Path) -> dict[str, dict[str, bytes]]:
    sets: dict[str, dict[str, bytes]] = {}
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
                if not member.isfile() or name not in _FILES:
                    continue
                content = archive.extractfile(member)
                assert content is not None  # noqa: S101 - isfile() was asked
                data = content.read()
                if len(data) < member.size:
                    raise TraceError(f"{path}: truncated in {member.name!r}; get it again")
                if inside.name.endswith(".gz"):
                    data = _gunzip(data, path / inside)
                sets.setdefault(inside.parent.name or path.name.split(".")[0], {})[name] = data
    except tarfile.TarError as error:
        raise TraceError(f"{path}: not a whole tar archive ({error}); get it again") from None
    return sets


def _table(raw: bytes, fields: dict[str, type[pl.DataType]], where: str) -> pl.DataFrame:
    if not raw.strip():
        raise TraceError(f"{where}: empty")
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
            row = json.loads(line)
        except ValueError:
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
    raise TraceError(f"{where}: cannot be read as JSON lines with {', '.join(fields)}")


def _trace(name: str, metas: pl.DataFrame, requests: pl.DataFrame, where: dict[str, str]) -> Trace:
    def refuse(file: str, bad: pl.Series, text: str) -> None:
        if bad.any():
            number = int(bad.arg_max() or 0) + 1
            raise TraceError(f"{where[file]}:{number}: {text}")

    refuse("metas", metas["key"].is_duplicated(), "field `key`: two metas for one app")
    for field in ("memoryInMb", "timeoutInSecs", "initDurationInMs"):
        low = 1 if field == "memoryInMb" else 0
        refuse("metas", metas[field] < low, f"field `{field}` is below {low}")
    refuse("requests", requests["durationsInMs"] < 0, "field `durationsInMs` is negative")
    refuse("requests", requests["startTime"] < 0, "field `startTime` is negative")
    refuse(
        "requests",
        ~requests["metaKey"].is_in(metas["key"].to_list()),
        "field `metaKey`: no meta of this app",
    )
    apps = tuple(App(*row) for row in metas.iter_rows())
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
