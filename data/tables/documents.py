"""JSON: an object a line, lists, documents one after another, as a table of requests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
import polars as pl

from warmscaler.data.tables.aws_lambda import of_insights, reports_in_rows
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
DEEPEST = 6
"""Levels of fields within fields that become columns."""
_OF_REQUESTS = ("httpRequest.latency", "response_flags")
"""What only a request's line has in the logs of Knative's and Envoy's proxies."""
_Numbered = tuple[int | None, dict[str, Any]]
_NO_VALUE = "-"
"""What Envoy and most proxies write where there is none."""


def table_of_json(content: bytes, where: str, name: str) -> Table:
    """As `table_of` of the sources, for content that begins as JSON does. Raises TraceError."""
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
            if depth < DEEPEST:
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
