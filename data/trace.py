"""The invocation trace every other room works on: apps, and requests as columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]

_WEEK_MS = 604_800_000
LIMITS: dict[str, tuple[int, int]] = {
    "arrival_ms": (0, 253_402_300_799_999),  # the end of the year 9999
    "duration_ms": (0, _WEEK_MS),
    "init_ms": (0, _WEEK_MS),
    "memory_mb": (1, 2**24),  # 16 TB: what is more is bytes
    "timeout_s": (0, 2**32 - 1),  # a uint32 on the wire
    "status_code": (-(2**31), 2**31 - 1),  # an int32 on the wire
}
"""The least and the most that each number of a trace may be. Beyond them a value is a mistake, and
a replay of it would not end or would not fit the wire."""


_SECONDS = (1_000_000_000, 4_200_000_000)
"""Seconds since 1970, from 2001 to 2103; as milliseconds all of them lie in January and February 1970."""
_DECADES_LATER_MS = 10**11
"""March 1973: a trace that begins in _SECONDS and ends later than that has both units."""


def unit_hint(name: str, value: int) -> str:
    """In which unit a number above its limit in LIMITS seems to be, and how to convert it."""
    if name == "memory_mb":
        return "; it looks like bytes: divide by 1,048,576"
    if name == "arrival_ms":
        unit, by = ("microseconds", 1_000) if value < 10**17 else ("nanoseconds", 1_000_000)
        return f"; it looks like {unit}: divide by {by:,}"
    return ""


class TraceError(Exception):
    """A trace that cannot be used. Its text is one line: what is wrong, where, what to do."""


def check_arrivals(arrival_ms: IntArray, where: str, name: str) -> None:
    """Raises TraceError where arrivals, in field `name` at `where`, are milliseconds only by name."""
    first, last = int(arrival_ms.min(initial=2**62)), int(arrival_ms.max(initial=0))
    mixed = last >= _DECADES_LATER_MS
    if _SECONDS[0] <= first < _SECONDS[1] and (last < _SECONDS[1] or mixed):
        day = np.datetime64(first, "ms").astype("datetime64[D]")
        raise TraceError(
            f"{where}: field `{name}` from {first} on would be {day}:"
            f" {'some of it looks' if mixed else 'it looks'} like seconds;"
            " multiply by 1,000, it is ms since 1970"
        )


@dataclass(frozen=True, slots=True)
class App:
    """What is known of an app before its first request (the contest's `metas`)."""

    key: str
    runtime: str
    memory_mb: int
    timeout_s: int
    init_ms: int


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in order of arrival, as columns of one length, and the apps they call.

    `app` holds indices into `apps`. Times are milliseconds since the epoch. Requests with equal
    arrival times keep the order of their source.
    """

    name: str
    apps: tuple[App, ...]
    arrival_ms: IntArray
    app: IntArray
    duration_ms: IntArray
    status_code: IntArray
    notes: tuple[str, ...] = field(default=())
    """What a reader did to the source that its user should know (sorted, drawn, dropped)."""

    def __len__(self) -> int:
        return len(self.arrival_ms)

    def split_ms(self, fraction: float) -> float:
        """The instant at `fraction` of the span between the first and the last arrival."""
        first, last = int(self.arrival_ms[0]), int(self.arrival_ms[-1])
        return first + fraction * (last - first)

    def between(self, start_ms: float, end_ms: float) -> Trace:
        """The requests that arrive in [start_ms, end_ms); every app stays."""
        low, high = np.searchsorted(self.arrival_ms, [start_ms, end_ms], side="left")
        return self._rows(slice(int(low), int(high)))

    def only(self, keys: Iterable[str]) -> Trace:
        """The requests of the apps with these keys; the other apps are left out."""
        wanted = set(keys)
        kept = [index for index, app in enumerate(self.apps) if app.key in wanted]
        renumber = np.full(len(self.apps), -1, dtype=np.int64)
        renumber[kept] = np.arange(len(kept))
        rows = np.flatnonzero(renumber[self.app] >= 0)
        return Trace(
            self.name,
            tuple(self.apps[index] for index in kept),
            self.arrival_ms[rows],
            renumber[self.app[rows]],
            self.duration_ms[rows],
            self.status_code[rows],
            self.notes,
        )

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        name: str = "frame",
        memory_mb: int | None = None,
        init_ms: int | None = None,
        apps: Any = None,
        **columns: str,
    ) -> Trace:
        """A trace of a polars or pandas DataFrame, or of a dict of columns: a row a request.

        `columns` say which column is what where its name does not, as `app="fn",
        arrival="ts:s", duration="took_ms"`; what else may be said is in `warmscaler.read_trace`.
        Raises TraceError.

        >>> from warmscaler import Trace
        >>> calls = {"fn": ["a", "b", "a"], "ts": [1.7e9, 1.7e9 + 1, 1.7e9 + 60], "took": [80, 9, 75]}
        >>> trace = Trace.from_frame(calls, duration="took:ms", memory_mb=512, init_ms=900)
        >>> len(trace), [app.key for app in trace.apps]
        (3, ['a', 'b'])
        """
        from warmscaler.data.tables.frames import trace_from_frame

        return trace_from_frame(
            frame, name=name, memory_mb=memory_mb, init_ms=init_ms, apps=apps, **columns
        )

    def to_frame(self) -> Any:
        """A polars DataFrame, a row a request: app, memory_mb, init_ms, arrival (UTC), duration_ms,
        status_code."""
        from warmscaler.data.tables.frames import frame_of

        return frame_of(self)

    def _rows(self, rows: slice) -> Trace:
        return Trace(
            self.name,
            self.apps,
            self.arrival_ms[rows],
            self.app[rows],
            self.duration_ms[rows],
            self.status_code[rows],
            self.notes,
        )
