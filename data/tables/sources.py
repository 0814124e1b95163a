"""From bytes to a table: CSV, JSON lines, one JSON document, Parquet or a log, told by their looks."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from warmscaler.data.tables.aws_lambda import (
    is_report_text,
    of_insights,
    reports_in_rows,
    reports_in_text,
)
from warmscaler.data.tables.openwhisk import activations, is_activation
from warmscaler.data.tables.table import Table
from warmscaler.data.trace import TraceError

_LISTS = (
    *("events", "logEvents", "results", "activations", "records", "items", "data", "requests"),
    *("rows", "docs"),  # CouchDB's _all_docs and _find
)
"""Where a JSON document that is one object may keep its rows."""
_OF_ALL_ROWS = ("logGroup", "logGroupName", "logStream")
"""What such a document says of all of them."""
_SEPARATORS = ",;\t|"
_UNKNOWN = (
    "no known trace: CSV with a header, JSON lines, Parquet or a log is wanted; see scaler trace"
    " formats"
)
_PACKED = {
    b"PK\x03\x04": ("zip", "unzip"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -d"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ": ("xz", "unxz"),
    b"Rar!": ("rar", "unrar x"),
    b"7z\xbc\xaf": ("7z", "7z x"),
}
"""How a file packed otherwise begins, and what unpacks it."""
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
"""As PowerShell and spreadsheets begin theirs."""
_WSK = (b"activations", b"ok: got activation ")
"""What OpenWhisk's `wsk activation list --full` and `get` print before records, on a line."""
_DECIMAL_COMMA = r"^\s*-?\d+(,\d+)?\s*$"
_NULLS = ["NULL", "null", "\\N"]
"""What databases export where there is no value."""
_DEEPEST = 6
_OF_REQUESTS = ("httpRequest.latency", "response_flags")
"""What only a request's line has in the logs of Knative's and Envoy's proxies."""
_Numbered = tuple[int | None, dict[str, Any]]
_NO_VALUE = "-"
"""What Envoy and most proxies write where there is none."""


def table_of(content: bytes, where: str, name: str) -> Table:
    """What `content` holds, by its looks; gzip is unpacked.

    `where` stands first in errors, `name` for an app that no line names ("" has none). Raises
    TraceError.
    """
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise TraceError(f"{where}: not a whole gzip file ({error}); get it again") from None
    if content[:4] == b"PAR1":
        return _parquet(content, where)
    for begins, (kind, unpack) in _PACKED.items():
        if content.startswith(begins):
            raise TraceError(f"{where}: packed with {kind}; unpack it first: {unpack} {where}")
    if content[257:262] == b"ustar":
        raise TraceError(f"{where}: a tar archive; unpack it first, and give one file: tar -xf")
    if content[:2] in _UTF_16:
        content = content.decode("utf-16", errors="replace").encode()
    content = content.removeprefix(b"\xef\xbb\xbf")
    if content.startswith(b"Datetime ") and b"Activation ID" in content[:100]:
        raise TraceError(
            f"{where}: a list to be read by people; get the records: wsk activation list --full"
        )
    if content.lstrip().startswith(_WSK):
        content = b"\n".join(
            b"" if line.startswith(_WSK) else line for line in content.split(b"\n")
        )
    if not content.strip():
        raise TraceError(f"{where}: empty; get it again")
    first = content.lstrip()[:1]
    if first in (b"{", b"["):
        return _json(content, where, name)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TraceError(
            f"{where}:{line}: not text in UTF-8; save it so, if it is text; else {_UNKNOWN}"
        ) from None
    if is_report_text(content):
        header = next(csv.reader([text.lstrip().splitlines()[0]]), [])
        if not {"message", "@message"} & {each.strip() for each in header}:
            return reports_in_text(where, name, text)
    return _csv(text, where, name)


def table_of_files(files: Sequence[Path], where: str) -> Table:
    """Of Parquet files that together are one table. Raises TraceError, for the first that is none."""
    frames = [_parquet(file.read_bytes(), str(file)).frame for file in files]
    try:
        return Table(where, pl.concat(frames, how="diagonal_relaxed"))
    except pl.exceptions.PolarsError as error:
        reason = (str(error).splitlines() or [""])[0]
        raise TraceError(f"{where}: its files do not fit together ({reason}); give one") from None


def _parquet(content: bytes, where: str) -> Table:
    try:
        return Table(where, flat_frame(pl.read_parquet(io.BytesIO(content))))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise TraceError(f"{where}: not a whole Parquet file ({reason}); get it again") from None


def flat_frame(frame: pl.DataFrame) -> pl.DataFrame:
    """Nested fields as columns with dotted names; lists are left out, they are no column."""
    for _ in range(_DEEPEST):
        nested = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Struct)]
        if not nested:
            break
        frame = frame.unnest(nested, separator=".")
    return frame.select(pl.selectors.exclude(pl.selectors.nested(), pl.selectors.object()))


def _csv(text: str, where: str, name: str) -> Table:
    if "\n" not in text:
        text = text.replace("\r", "\n")  # as a spreadsheet may still end its lines
    first = text.lstrip("\r\n").splitlines()[0]
    separator = max(_SEPARATORS, key=first.count)
    header = [each.strip() for each in next(csv.reader([first], delimiter=separator))]
    if len(header) == 1:
        raise TraceError(f"{where}: {_UNKNOWN}")
    # No column is called by a number, and a row of a trace has one.
    headless = any(_is_number(each) for each in header)
    if len(header) != len(set(header)):
        twice = next(each for each in header if header.count(each) > 1)
        raise TraceError(
            f"{where}:1: two columns are called `{twice}`; give each a name of its own"
        )
    try:
        frame = pl.read_csv(
            io.BytesIO(text.encode()),
            separator=separator,
            has_header=not headless,
            infer_schema=False,
            null_values=_NULLS,
        )
    except pl.exceptions.PolarsError:
        raise TraceError(_ragged(text, separator, where)) from None
    frame.columns = [str(n + 1) for n in range(frame.width)] if headless else header
    frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))  # lines without anything
    if frame.is_empty():
        raise TraceError(f"{where}: no rows after the header in it")
    line_of = _csv_lines(text, separator, headless)
    frame, notes = _decimal_points(frame) if separator != "," else (frame, ())
    table = Table(where, frame, line_of, notes=notes)
    if found := of_insights(table):
        return found
    if {"message", "@message"} & set(header):
        rows = ((line_of(n), row) for n, row in enumerate(frame.iter_rows(named=True)))
        if lambdas := reports_in_rows(where, name, header, rows):
            return lambdas
    return table


def _decimal_points(frame: pl.DataFrame) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Columns whose values all are numbers, some with a decimal comma, with a point; and a note."""
    with_commas = [
        each.name
        for each in frame
        if each.str.contains(",", literal=True).any() and each.str.contains(_DECIMAL_COMMA).all()
    ]
    if not with_commas:
        return frame, ()
    said = f"commas in {', '.join(f'`{each}`' for each in with_commas)} taken as decimal points"
    return frame.with_columns(pl.col(with_commas).str.replace(",", ".", literal=True)), (said,)


def _csv_lines(text: str, separator: str, headless: bool) -> Callable[[int], int]:
    @cache
    def lines() -> Sequence[int]:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        ends = [reader.line_num for row in reader if any(row)]
        return ends if headless else ends[1:]

    def line_of(row: int) -> int:
        return lines()[row] if row < len(lines()) else row + 2

    return line_of


def _ragged(text: str, separator: str, where: str) -> str:
    """Why a CSV file could not be read: which row has more fields than the header. Slow."""
    wanted = None
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        for row in reader:
            wanted = wanted or len(row)
            if row and len(row) > wanted:
                return (
                    f"{where}:{reader.line_num}: {len(row)} fields where the first line has {wanted};"
                    " put text that holds a separator in double quotes"
                )
    except csv.Error as error:
        return f"{where}:{reader.line_num}: not CSV ({error}); mend the quotes"
    return f"{where}: cannot be read as CSV separated by {separator!r}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _json(content: bytes, where: str, name: str) -> Table:
    records = _records(content, where)
    first = records[0][1]
    if is_activation(first):
        return activations(where, records)
    flat = [(line, _flat(record)) for line, record in records]
    columns = list(dict.fromkeys(key for _, row in flat for key in row))
    numbered = [(line if line is not None else n, row) for n, (line, row) in enumerate(flat, 1)]
    if {"message", "@message", "record.requestId"} & set(columns):
        lambdas = reports_in_rows(where, name, columns, numbered)
        if lambdas is not None:
            return lambdas
    flat, notes = _requests(flat)
    try:
        frame = pl.DataFrame(
            [_series(each, [row.get(each) for _, row in flat]) for each in columns]
        )
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise TraceError(f"{where}: {half} alone is half a character; leave it out") from None
    lines = [line for line, _ in flat]
    line_of: Any = lines.__getitem__ if all(line is not None for line in lines) else None
    table = Table(where, frame, line_of, notes=notes)
    return of_insights(table) or table


def _requests(flat: list[_Numbered]) -> tuple[list[_Numbered], tuple[str, ...]]:
    """Of a proxy's log what tells of requests, and a note; all of what is none's log."""
    told = [each for each in flat if any(key.endswith(_OF_REQUESTS) for key in each[1])]
    if not told or len(told) == len(flat):
        return flat, ()
    return told, (f"{len(flat) - len(told):,} lines of the log that are no requests left out",)


def _records(content: bytes, where: str) -> list[tuple[int | None, Mapping[str, Any]]]:
    """Every object with its line, None where they stand in one document. At least one."""
    whole: Any = None
    lines = content.split(b"\n")
    if content.lstrip()[:1] == b"[" or not _is_json(next(each for each in lines if each.strip())):
        try:
            whole = orjson.loads(content)
        except orjson.JSONDecodeError as error:
            whole = _documents(content, where, error.lineno, error.msg)
    elif sum(1 for each in lines if each.strip()) == 1:
        whole = orjson.loads(content)
    if whole is not None:
        return [(None, row) for row in _rows_of(whole, where)]
    found: list[tuple[int | None, Mapping[str, Any]]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            raise TraceError(
                f"{where}:{number}: not JSON; one object a line is wanted: leave the line out"
            ) from None
        if not isinstance(row, dict):
            raise TraceError(f"{where}:{number}: not a JSON object; leave the line out")
        events = row.get("logEvents")  # a CloudWatch subscription: many events a line
        if isinstance(events, list):
            found += [(number, each) for each in _rows_of(row, where)]
        else:
            found.append((number, row))
    return found


def _documents(content: bytes, where: str, line: int, says: str) -> list[Any]:
    """What stands in documents one after another, as `jq` and Firehose write them.

    Raises TraceError, `says` at `line`, where not even one is whole.
    """
    text = content.decode(errors="replace")
    found: list[Any] = []
    decode = json.JSONDecoder().raw_decode
    begin = 0
    while (begin := re.compile(r"\s*").match(text, begin).end()) < len(text):  # type: ignore[union-attr]
        try:
            document, begin = decode(text, begin)
        except (json.JSONDecodeError, RecursionError) as error:
            if found and isinstance(error, json.JSONDecodeError):
                line, says = error.lineno, error.msg
            raise TraceError(
                f"{where}:{line}: not JSON ({says}); an object a line, or whole documents, are"
                " wanted: leave out what is none"
            ) from None
        found += _rows_of(document, where)
    return found


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def _rows_of(whole: Any, where: str) -> Iterable[Mapping[str, Any]]:
    if isinstance(whole, dict):
        lists = [key for key in _LISTS if isinstance(whole.get(key), list)]
        if lists:
            outer = {key: whole[key] for key in _OF_ALL_ROWS if key in whole}
            inner = [_pairs(_document(row)) for row in whole[lists[0]] if not _is_design(row)]
            rows = [outer | row if isinstance(row, dict) else row for row in inner]
        else:
            rows = [whole]
    else:
        rows = whole if isinstance(whole, list) else [whole]
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise TraceError(f"{where}: element {number} is not a JSON object; leave it out")
    if not rows:
        raise TraceError(f"{where}: no requests in it")
    return rows


def _document(row: Any) -> Any:
    """CouchDB's _all_docs and views: a row holds a document, or what the view keeps of it."""
    if isinstance(row, dict) and {"id", "key", "value"} <= row.keys():
        return row.get("doc", row["value"])
    return row


def _is_design(row: Any) -> bool:
    """Whether it is no document of CouchDB's but how one is looked at."""
    return isinstance(row, dict) and str(row.get("_id", row.get("id"))).startswith("_design/")


def _pairs(row: Any) -> Any:
    """CloudWatch's get-query-results: a row is a list of {field, value}."""
    if isinstance(row, list) and all(isinstance(each, dict) and "field" in each for each in row):
        return {each["field"]: each.get("value") for each in row}
    return row


def _flat(record: Mapping[str, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Fields by dotted name; lists are left out, they are no column."""
    fields: dict[str, Any] = {}
    for key, value in record.items():
        if key == "log" and isinstance(value, str) and value.startswith("{"):
            value = _object(value)
        if isinstance(value, dict):
            if depth < _DEEPEST:
                fields |= _flat(value, f"{prefix}{key}.", depth + 1)
        elif not isinstance(value, list):
            fields[prefix + key] = None if value == _NO_VALUE else value
    return fields


def _object(text: str) -> Any:
    """The JSON in `text`, or the text where it is none."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _series(name: str, values: list[Any]) -> pl.Series:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pl.Series(name, values, dtype=pl.Boolean)
    if kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values):
        return pl.Series(name, values, dtype=pl.Int64)
    if kinds <= {int, float} and kinds:
        return pl.Series(name, [None if v is None else float(v) for v in values], dtype=pl.Float64)
    return pl.Series(name, [None if v is None else str(v) for v in values], dtype=pl.String)
