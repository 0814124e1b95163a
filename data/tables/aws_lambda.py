"""AWS Lambda's REPORT lines: plain, exported from CloudWatch, or JSON (`platform.report`).

Documented under "Lambda function logs" and "Telemetry API event schema reference" of the AWS Lambda
Developer Guide. A line is written when the invocation ends; Init Duration comes before it and is no
part of its Duration. The line does not name the function: its log group does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
import polars as pl

from warmscaler.data.tables.table import Table
from warmscaler.data.trace import TraceError

_REPORT = re.compile(r"REPORT RequestId: \S+\s+Duration: ([\d.]+) ms")
_MEMORY = re.compile(r"Memory Size: (\d+) MB")
_START = re.compile(r"(?:Init|Restore) Duration: ([\d.]+) ms")
_STATUS = re.compile(r"Status: (\w+)")
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}[0-9.,]*(?:Z|[+-]\d{2}:?\d{2})?")
_GROUP = "/aws/lambda/"
_MESSAGE = ("message", "@message")
_TIME = ("timestamp", "@timestamp", "time", "ingestionTime")
_GROUPS = ("@log", "logGroup", "logGroupName", "log_group")
_KNOWN = "end=end,duration=duration:ms,memory=memory:mb,init=init:ms,status=status"
_TIMED = "export them with their times, as aws logs tail prints them"
_NO_NAME = "no line names its function: {name}, as the file is called (another: --map app==NAME)"


def is_report_text(content: bytes) -> bool:
    """Whether plain lines of a log hold reports."""
    return b"REPORT RequestId: " in content or b'"platform.report"' in content


def reports_in_text(where: str, name: str, text: str) -> Table:
    """Of lines as `aws logs tail` and `sam logs` print them or an export to S3 holds them: a time
    stands before the report."""
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if (report := _report(line[line.find("{") :] if line.find("{") >= 0 else line)) is None:
            continue
        end = report.pop("end", None) or next(iter(_INSTANT.findall(line)), None)
        rows.append({"line": number, "end": end, **report})
    return _table(where, name, rows)


def reports_in_rows(
    where: str, name: str, columns: Sequence[str], rows: Iterable[tuple[int, Mapping[str, Any]]]
) -> Table | None:
    """Of (line, fields), as CloudWatch exports them in CSV and JSON; None where there are none."""
    message, time, group = (
        next((each for each in names if each in columns), None)
        for names in (_MESSAGE, _TIME, _GROUPS)
    )
    found = []
    for number, row in rows:
        text = row.get(message) if message else None
        # In the JSON format of logs a function's own lines have messages, and reports none.
        report = _report(text) if isinstance(text, str) else _platform_report(row)
        if report is not None:
            at = row.get(time) if time else None
            said = report.pop("end", None)
            own = {"end": said if at is None else at}
            log = str(row[group]) if group and row.get(group) else ""
            app = log.rpartition(_GROUP)[2] or None
            found.append({"line": number, "app": app, **own, **report})
    return _table(where, name, found) if found else None


def of_insights(table: Table) -> Table | None:
    """Of the fields that CloudWatch Logs Insights finds in reports by itself; else None."""
    columns = table.frame.columns
    if not {"@timestamp", "@duration"} <= set(columns):
        return None
    frame = table.frame.filter(pl.col("@duration").is_not_null())
    kept = table.frame.with_row_index("row").filter(pl.col("@duration").is_not_null())["row"]
    known = "end=@timestamp,duration=@duration:ms"
    if "@memorySize" in columns:  # in bytes, a thousand thousand to the MB
        size = pl.col("@memorySize").cast(pl.Float64, strict=False) / 1e6
        frame = frame.with_columns(size.alias("memory size"))
        known += ",memory=memory size:mb"
    if "@initDuration" in columns:
        known += ",init=@initDuration:ms"
    if "@log" in columns:
        log = pl.col("@log").cast(pl.String).str.split(_GROUP).list.last()
        frame = frame.with_columns(log.alias("function"))
        known += ",app=function"
    line_of = table.line_of
    of_row = None if line_of is None else lambda row: line_of(int(kept[row]))
    return Table(table.where, frame, of_row, known, start_comes_first=True)


def _report(text: str) -> dict[str, Any] | None:
    if found := _REPORT.search(text):
        start, memory, status = (each.search(text) for each in (_START, _MEMORY, _STATUS))
        return {
            "duration": float(found[1]),
            "memory": int(memory[1]) if memory else None,
            "init": float(start[1]) if start else None,
            "status": status[1] if status else "success",
        }
    if text.lstrip().startswith("{") and '"platform.report"' in text:
        try:
            return _platform_report(orjson.loads(text))
        except orjson.JSONDecodeError:
            return None
    return None


def _platform_report(event: Mapping[str, Any]) -> dict[str, Any] | None:
    """The event as an object, or as fields with dotted names."""
    if event.get("type") != "platform.report":
        return None
    record = event.get("record")
    if isinstance(record, dict):
        get = {**record, **{f"metrics.{k}": v for k, v in record.get("metrics", {}).items()}}.get
    else:
        get = {key.removeprefix("record."): value for key, value in event.items()}.get
    return {
        "end": event.get("time"),
        "duration": get("metrics.durationMs"),
        "memory": get("metrics.memorySizeMB"),
        "init": get("metrics.initDurationMs") or get("metrics.restoreDurationMs"),
        "status": get("status") or "success",
    }


def _table(where: str, name: str, rows: list[dict[str, Any]]) -> Table:
    lines = [row["line"] for row in rows]
    if all(row["end"] is None for row in rows):
        raise TraceError(f"{where}:{lines[0]}: no time stands by its reports; {_TIMED}")
    known = _KNOWN
    notes: tuple[str, ...] = ()
    names = ["end", "duration", "memory", "init", "status"]
    columns = [pl.Series(each, [row[each] for row in rows], strict=False) for each in names]
    apps = [row.get("app") for row in rows]
    if all(apps):
        known += ",app=app"
        columns.append(pl.Series("app", apps))
    elif name:
        known += f",app=={name}"
        notes = (_NO_NAME.format(name=name),)
    return Table(where, pl.DataFrame(columns), lines.__getitem__, known, True, notes)
