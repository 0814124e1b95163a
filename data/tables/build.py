"""From a table to a trace: roles found, units converted, what is missing said or given by default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Integral

import numpy as np
import polars as pl

from warmscaler.data.tables.missing import refuse_missing
from warmscaler.data.tables.roles import Role, guess, parse_map
from warmscaler.data.tables.table import Table
from warmscaler.data.tables.units import durations_ms, instants_ms, memory_mb, refuse_other_unit
from warmscaler.data.trace import LIMITS, App, IntArray, Trace, TraceError

DEFAULT_MEMORY_MB = 256
DEFAULT_INIT_MS = 1_000
DEFAULT_TIMEOUT_S = 60
_GOOD_WORDS = ("success", "succeeded", "ok", "true", "1", "0", "completed", "finished", "pass")
_BROKEN_FROM = 500
"""An HTTP status from which on the instance is taken for broken: what a 404 says is the caller's."""


@dataclass(frozen=True, slots=True)
class AppFacts:
    """What is known of one app from elsewhere; None is not known."""

    memory_mb: int | None = None
    init_ms: int | None = None
    runtime: str | None = None
    timeout_s: int | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """What its user says of a table. Everything else is guessed, or a default that is stated."""

    roles: Mapping[str, Role] = field(default_factory=dict)
    memory_mb: int | None = None
    """For each app whose memory is nowhere."""
    init_ms: int | None = None
    """For each app whose start-up time is nowhere."""
    apps: Mapping[str, AppFacts] = field(default_factory=dict)
    """By key; stands above what the table says."""

    def __bool__(self) -> bool:
        """Whether anything is said at all."""
        return bool(self.roles or self.apps) or (self.memory_mb, self.init_ms) != (None, None)


def layout_of(
    roles: str | None = None,
    *,
    memory_mb: int | None = None,
    init_ms: int | None = None,
    apps: Mapping[str, AppFacts] | None = None,
) -> Layout:
    """A layout from what the command line says. Raises TraceError where a number cannot be."""
    said = [("--memory-mb", memory_mb, "memory_mb"), ("--init-ms", init_ms, "init_ms")]
    for key, facts in (apps or {}).items():
        said += [
            (f"{key}: {name}", getattr(facts, name), name) for name in ("memory_mb", "init_ms")
        ]
        said.append((f"{key}: timeout_s", facts.timeout_s, "timeout_s"))
    for what, value, limit in said:
        low, high = LIMITS[limit]
        if value is not None and not (isinstance(value, Integral) and low <= value <= high):
            raise TraceError(f"{what} {value}: must be a whole number of {low} to {high}")
    return Layout(parse_map(roles) if roles else {}, memory_mb, init_ms, apps or {})


def to_trace(table: Table, layout: Layout, name: str) -> Trace:
    """The trace that `table` holds under `layout`; its notes say what was taken for what.

    Raises TraceError, one line: all that is missing, or the first value that cannot be.
    """
    known = parse_map(table.known) if table.known else {}
    roles = guess(table.frame.columns, {**known, **layout.roles})
    if table.known and "arrival" in layout.roles:
        roles.pop("end", None)
    refuse_missing(table, roles)
    columns = _Columns(table, roles)
    arrival_ms, duration_ms = columns.times()
    keys = columns.text("app", "is empty")
    apps, facts_notes = _apps(columns, keys, layout)
    if strangers := layout.apps.keys() - {app.key for app in apps}:
        some = ", ".join(sorted(strangers)[:3]) + (", …" if len(strangers) > 3 else "")
        facts_notes.append(f"not in the trace, of --apps: {some}")
    index = pl.Enum([app.key for app in apps])
    order = np.argsort(arrival_ms, kind="stable")
    return Trace(
        name,
        apps,
        arrival_ms[order],
        keys.cast(index).to_physical().cast(pl.Int64).to_numpy()[order],
        duration_ms[order],
        columns.status_codes()[order],
        (*table.notes, f"read as {', '.join(columns.taken)}", *facts_notes, *columns.notes),
    )


def read_apps(table: Table) -> dict[str, AppFacts]:
    """What a small file says of apps, a row each: key, and memory, start-up time and so on by the
    same names as in a trace. Raises TraceError."""
    roles = guess(table.frame.columns, {})
    if "app" not in roles:
        raise TraceError(
            f"{table.where}: no column is an app's name; write a header as app,memory_mb,init_ms"
        )
    columns = _Columns(table, roles)
    keys = columns.text("app", "is empty")
    table.refuse(keys, ~keys.is_first_distinct(), "has a row already", "keep one row an app")
    memory, init = columns.optional("memory"), columns.optional("init")
    timeout = columns.optional("timeout")
    runtime = columns.text("runtime") if roles.get("runtime") else None
    return {
        key: AppFacts(
            _whole(memory, row, 1),
            _whole(init, row, 0),
            None if runtime is None else runtime[row],
            _whole(timeout / 1000.0 if timeout is not None else None, row, 0),
        )
        for row, key in enumerate(keys)
    }


class _Columns:
    """The roles' values, checked; what was taken for what gathers in `taken`."""

    def __init__(self, table: Table, roles: Mapping[str, Role]) -> None:
        self.table = table
        self.roles = roles
        self.taken: list[str] = []
        self.notes: list[str] = []

    def times(self) -> tuple[IntArray, IntArray]:
        """Arrivals and durations, whole ms, as LIMITS has them."""
        table, start, end = self.table, self._instants("arrival"), self._instants("end")
        duration = self.optional("duration")
        if duration is None:
            assert start is not None  # noqa: S101 - refuse_missing saw to it
            assert end is not None  # noqa: S101
            duration = end - start
            mend = "an end comes after its start: are the two columns the right way round?"
            table.refuse(end, duration < 0.0, "lies before the start", mend)
            self.taken.append("duration=end less arrival")
        table.refuse(duration, duration.is_null(), "is empty", "fill it in, or leave the line out")
        if start is None:
            assert end is not None  # noqa: S101
            start = end - duration
            self.taken.append("arrival=end less duration")
            if table.start_comes_first and (init := self.optional("init", said=False)) is not None:
                start = start - init.fill_null(0.0)
        first = float(start.min() or 0.0)  # type: ignore[arg-type]
        start = (start - min(first, 0.0)).floor().alias(start.name)
        duration = duration.round().alias(duration.name)
        for column, limit in ((start, "arrival_ms"), (duration, "duration_ms")):
            low, high = LIMITS[limit]
            mend = f"{low} to {high} ms can be: is its unit told right?"
            says = (
                "is negative" if column is duration and bool((column < 0).any()) else "is too large"
            )
            table.refuse(column, ~column.is_between(low, high), says, mend)
        return start.cast(pl.Int64).to_numpy(), duration.cast(pl.Int64).to_numpy()

    def text(self, name: str, says_empty: str | None = None) -> pl.Series:
        """A role as text; `says_empty` where every row must have it."""
        role = self.roles[name]
        if role.constant is not None:
            self.taken.append(f"{name}={role.constant!r} everywhere")
            return pl.Series(name, [role.constant]).new_from_index(0, len(self.table.frame))
        column = self.table.frame[role.column or ""]
        values = column.cast(pl.String, strict=False).alias(column.name)
        if says_empty:
            empty = values.is_null() | (values.str.len_bytes() == 0)
            self.table.refuse(values, empty, says_empty, "fill it in, or leave the line out")
        self.taken.append(f"{name}=`{column.name}`")
        return values

    def optional(self, name: str, *, said: bool = True) -> pl.Series | None:
        """A duration (ms) or memory (MB) that need not be there, empty where it is not."""
        role = self.roles.get(name)
        if role is None:
            return None
        if role.constant is not None:
            column = pl.Series(name, [role.constant]).new_from_index(0, len(self.table.frame))
        else:
            column = self.table.frame[role.column or ""]
        convert = memory_mb if name == "memory" else durations_ms
        unit = role.unit or ("s" if name == "timeout" else None)
        values, taken = convert(self.table, column, unit)
        values = values.alias(column.name)
        limit = {"memory": "memory_mb", "init": "init_ms"}.get(name)
        if limit:
            low, high = LIMITS[limit]
            # 0.4 MB is somebody's rounding, not a mistake of ours to make.
            low = 0 if name == "memory" else low
            mend = f"{low} to {high} can be: is its unit told right?"
            bad = values.is_not_null() & ~values.is_between(low, high)
            self.table.refuse(values, bad, f"taken in {taken.partition(',')[0]} cannot be", mend)
        if said:
            self.taken.append(f"{name}=`{column.name}` ({taken})")
        return values

    def status_codes(self) -> IntArray:
        """200 where the instance stayed good, what was told or 500 where it broke."""
        count = len(self.table.frame)
        if "status" not in self.roles:
            self.notes.append("no status in the source: every request is taken as good")
            return np.full(count, 200, dtype=np.int64)
        values = self.text("status")
        lower = values.str.strip_chars().str.to_lowercase()
        number = lower.cast(pl.Float64, strict=False)
        broken = pl.Series(number >= _BROKEN_FROM) | (number < 0) | ((number > 0) & (number < 100))
        words = ~lower.is_in(_GOOD_WORDS)
        bad = pl.select(
            pl.when(lower.is_null() | (lower == "1"))
            .then(statement=False)
            .when(number.is_null())
            .then(words)
            .otherwise(broken)
        ).to_series()
        codes = pl.select(
            pl.when(bad & (number >= _BROKEN_FROM) & (number < 1000))
            .then(number)
            .when(bad)
            .then(500)
            .otherwise(200)
        ).to_series()
        if count_bad := int(bad.sum()):
            self.notes.append(f"{count_bad:,} requests broke their instance, by their status")
        return codes.cast(pl.Int64).to_numpy()

    def _instants(self, name: str) -> pl.Series | None:
        role = self.roles.get(name)
        if role is None or role.column is None:
            return None
        column = self.table.frame[role.column]
        values, taken = instants_ms(self.table, column, role.unit)
        if role.unit and not role.unit_told:
            refuse_other_unit(self.table, column, role.unit)
        mend = "fill it in, or leave the line out"
        self.table.refuse(values, values.is_null(), "is empty", mend)
        self.taken.append(f"{name}=`{role.column}` ({taken})")
        return values


def _apps(columns: _Columns, keys: pl.Series, layout: Layout) -> tuple[tuple[App, ...], list[str]]:
    """Every app in order of its first row, and what was assumed of whom."""
    optional = {name: columns.optional(name) for name in ("memory", "init", "timeout")}
    runtime = columns.text("runtime") if "runtime" in columns.roles else None
    empty = pl.Series("", [None], dtype=pl.Float64).new_from_index(0, len(keys))
    rows = pl.DataFrame(
        {"app": keys, "runtime": runtime if runtime is not None else empty.cast(pl.String)}
        | {name: empty if each is None else each for name, each in optional.items()}
    )
    seen = pl.col("init").filter(pl.col("init") > 0)
    by_app = rows.group_by("app", maintain_order=True).agg(
        # Memory is a setting, the last one stands; a start-up time was measured, again and again.
        pl.col("memory").drop_nulls().last(),
        seen.median().alias("init"),
        pl.col("runtime").drop_nulls().last(),
        pl.col("timeout").drop_nulls().last(),
    )
    usual = by_app["init"].median()
    init_ms = layout.init_ms
    why = "--init-ms"
    if init_ms is None:
        init_ms = round(usual) if isinstance(usual, float) else DEFAULT_INIT_MS
        why = "the others' median" if isinstance(usual, float) else "a default: see --init-ms"
    memory = DEFAULT_MEMORY_MB if layout.memory_mb is None else layout.memory_mb
    apps: list[App] = []
    lacking = {"memory": 0, "init": 0}
    for key, own_mb, own_init_ms, own_runtime, own_timeout_ms in by_app.iter_rows():
        told = layout.apps.get(key, AppFacts())
        own = {"memory": told.memory_mb, "init": told.init_ms}
        if own["memory"] is None and own_mb is not None:
            own["memory"] = max(round(own_mb), 1)
        if own["init"] is None and own_init_ms is not None:
            own["init"] = round(own_init_ms)
        for name in lacking:
            lacking[name] += own[name] is None
        timeout_s = None if own_timeout_ms is None else round(own_timeout_ms / 1000.0)
        apps.append(
            App(
                key,
                told.runtime or own_runtime or "unknown",
                memory if own["memory"] is None else own["memory"],
                told.timeout_s or timeout_s or DEFAULT_TIMEOUT_S,
                init_ms if own["init"] is None else own["init"],
            )
        )
    notes = []
    if lacking["memory"]:
        source = "--memory-mb" if layout.memory_mb is not None else "a default: see --memory-mb"
        notes.append(
            f"{_which(lacking['memory'], apps)} without memory: {memory} MB each ({source})"
        )
    if lacking["init"]:
        notes.append(
            f"{_which(lacking['init'], apps)} without a start-up time: {init_ms:,} ms each ({why})"
        )
    return tuple(apps), notes


def _which(count: int, apps: list[App]) -> str:
    return "all apps are" if count == len(apps) else f"{count:,} of {len(apps):,} apps are"


def _whole(values: pl.Series | None, row: int, least: int) -> int | None:
    value = None if values is None else values[row]
    return None if value is None else max(round(value), least)
