"""What a table lacks to be a trace, all in one line, with a command that would do."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

import polars as pl

from warmscaler.data.tables.roles import Role
from warmscaler.data.tables.table import FRAME, Table
from warmscaler.data.trace import TraceError

_WANTED = {
    "app": "app (whose request it is)",
    "arrival": "arrival or end (when it came, or was done)",
    "duration": "duration (how long it ran; or arrival and end)",
}
_LOOKED_AT = 100
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:|\d{9,}(\.\d+)?$")
_NUMBER = re.compile(r"-?\d+(\.\d*)?([eE][+-]?\d+)?\s*(ns|us|µs|ms|s|m|min|h)?$")
_MOST_SHOWN = 30


def refuse_missing(table: Table, roles: Mapping[str, Role]) -> None:
    """Raises TraceError where a column that was told is not there, or a role has none."""
    columns = table.frame.columns
    has = ", ".join(columns[:_MOST_SHOWN]) + (", …" if len(columns) > _MOST_SHOWN else "")
    for name, role in roles.items():
        if role.column is not None and role.column not in columns:
            raise TraceError(f"{table.where}: no column `{role.column}` for {name}; there is {has}")
    missing = [name for name in _WANTED if name not in roles]
    if "end" in roles:
        if "arrival" in missing and "duration" not in missing:
            missing.remove("arrival")
        elif "duration" in missing and "arrival" not in missing:
            missing.remove("duration")
    if table.frame.is_empty():
        raise TraceError(f"{table.where}: no requests in it")
    if not missing:
        return
    words = "; ".join(_WANTED[name] for name in missing)
    example = _example(table, roles)
    if table.where == FRAME:
        pairs = (each.partition("=") for each in example)
        call = f"Trace.from_frame(frame, {', '.join(f'{role}={it!r}' for role, _, it in pairs)})"
    else:
        mapping = shlex.quote(",".join(example))
        call = f"scaler trace info {shlex.quote(table.where)} --map {mapping}"
    raise TraceError(
        f"{table.where}: no column is known as {words}. Its columns: {has}. Say which is which, as:"
        f" {call}"
    )


def _example(table: Table, roles: Mapping[str, Role]) -> list[str]:
    """A mapping that would do, as far as the values give away what they are."""
    used = {role.column for role in roles.values()}
    free = [name for name in table.frame.columns if name not in used]
    kinds = {name: _kind(table.frame[name]) for name in free}
    parts = []
    for name in _WANTED:
        if name in roles or (name == "arrival" and "end" in roles and "duration" in roles):
            role = roles.get(name)
            if role is not None and role.told and role.column is not None:
                parts.append(f"{name}={role.column}")
            continue
        wanted = {"app": "text", "arrival": "instant", "duration": "number"}[name]
        found = next((each for each in free if kinds[each] == wanted), None)
        if found is None:
            parts.append("app==NAME" if name == "app" else f"{name}=COLUMN")
            continue
        free.remove(found)
        parts.append(f"{name}={found}:ms" if name == "duration" else f"{name}={found}")
    return parts


def _kind(column: pl.Series) -> str:
    if column.dtype.is_temporal() and column.dtype != pl.Duration:
        return "instant"
    values = [str(each).strip() for each in column.drop_nulls().head(_LOOKED_AT)]
    if not values or column.dtype == pl.Boolean:
        return "nothing"
    if all(_INSTANT.match(each) for each in values):
        return "instant"
    return "number" if all(_NUMBER.match(each) for each in values) else "text"
