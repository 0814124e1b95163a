"""Activation records of Apache OpenWhisk, and of platforms built on it, as its REST API gives them.

Documented in OpenWhisk's docs/annotations.md and its REST API. `start` to `end` (ms) holds the
initialisation (`initTime`) of a cold start as well as the run; a request came `waitTime` before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from warmscaler.data.tables.table import Table
from warmscaler.data.trace import TraceError

_KNOWN = (
    "app=action,arrival=arrival:ms,duration=run:ms,memory=memory:mb,init=initTime:ms,status=good,"
    "runtime=kind,timeout=timeout:ms"
)
_LEFT_OUT = "{count:,} activations of sequences and triggers left out: they take no container"
_BROKEN = 2
"""A response's statusCode from which on the container is not used again: 0 is success, 1 an error
that the action returned, 2 one of its container, 3 one of the platform."""


def is_activation(record: Mapping[str, Any]) -> bool:
    """Whether a JSON object is an activation record."""
    return "activationId" in record and "start" in record


def activations(where: str, records: Iterable[tuple[int | None, Mapping[str, Any]]]) -> Table:
    """A table of (line, record). Raises TraceError for a record that is none."""
    rows, lines, others = [], [], 0
    for place, (line, record) in enumerate(records, start=1):
        try:
            row = _row(record)
        except (KeyError, TypeError, ValueError) as error:
            at = f"{where}: record {place}" if line is None else f"{where}:{line}"
            raise TraceError(
                f"{at}: no whole activation ({type(error).__name__}: {error}); start, duration or end"
                " and name are wanted, as `wsk activation get` prints them"
            ) from None
        if row is None:
            others += 1
            continue
        rows.append(row)
        lines.append(place if line is None else line)
    if not rows:
        raise TraceError(
            f"{where}: sequences and triggers only; get their actions' activations too"
        )
    frame = pl.DataFrame(rows, infer_schema_length=None, strict=False)
    notes = (_LEFT_OUT.format(count=others),) if others else ()
    return Table(where, frame, lines.__getitem__, _KNOWN, notes=notes)


def _row(record: Mapping[str, Any]) -> dict[str, Any] | None:
    """None for what runs in no container of its own: a sequence, whose actions have records of
    their own, and a trigger, which has no end."""
    about = {each["key"]: each.get("value") for each in record.get("annotations", [])}
    limits = about.get("limits") or {}
    start_ms = int(record["start"])
    whole_ms = record.get("duration")
    if about.get("kind") == "sequence" or (whole_ms is None and record.get("end") == 0):
        return None
    if whole_ms is None:
        whole_ms = int(record["end"]) - start_ms
    init_ms = int(about.get("initTime") or 0)
    # A sequence's or a web action's name may stand in the path alone.
    action = about.get("path") or f"{record.get('namespace', '_')}/{record['name']}"
    response = record.get("response") or {}
    code = response.get("statusCode", record.get("statusCode", 0))
    return {
        "action": str(action),
        "arrival": start_ms - int(about.get("waitTime") or 0),
        "run": max(int(whole_ms) - init_ms, 0),
        "memory": limits.get("memory"),
        "initTime": init_ms or None,
        "good": int(code) < _BROKEN,
        "kind": about.get("kind"),
        "timeout": limits.get("timeout"),
    }
