"""The report's pictures of single apps: what each costs, and one app's slots over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from warmscaler.data.trace import Trace
from warmscaler.simulator.replay import Replay, Slot
from warmscaler.training.evaluating.account import Account
from warmscaler.training.reporting.drawing import (
    BLUE,
    DARK_GREY,
    IDLE,
    INK,
    LIGHT_BLUE,
    NARROW_IN,
    ORANGE,
    OURS,
    PINK,
    ROSE,
    SERVING,
    STARTING,
    Drawing,
)

PARTS = {
    "kept_used": ("kept, and used", IDLE),
    "prewarmed_used": ("pre-warmed, and used", LIGHT_BLUE),
    "kept_unused": ("kept, never used again", DARK_GREY),
    "prewarmed_unused": ("pre-warmed, never used", BLUE),
    "starting": ("memory while starting", ORANGE),
    "wait_none": ("waited: released too soon, or not pre-warmed in time", OURS),
    "wait_first": ("waited: never needed so many at once before", ROSE),
    "wait_starting": ("waited: on its way", STARTING),
    "wait_busy": ("queued for a busy instance", PINK),
}
_MS_PER_MINUTE = 60_000.0


def draw_parts(
    account: Account,
    hindsight: npt.NDArray[np.float64],
    apps: Sequence[int],
    names: Sequence[str],
    *,
    narrow: bool,
) -> Drawing:
    """What each of `apps` (indices) costs, in seconds of waiting: bars of its parts."""
    height = 2.0 + (0.8 if narrow else 0.0) + 0.3 * max(len(apps), 4)
    drawing = Drawing.new(NARROW_IN if narrow else 9.4, height, narrow=narrow)
    axes = drawing.axes
    at = np.arange(len(apps))[::-1]
    left = np.zeros(len(apps))
    rows = np.asarray(apps, dtype=np.int64)
    for field, (label, colour) in PARTS.items():
        value = getattr(account, field)[rows]
        bars = axes.barh(at, value, left=left, color=colour, label=label, height=0.72)
        for bar, name, seconds in zip(bars, names, value.tolist(), strict=True):
            if seconds > 0.0:
                drawing.tip(bar, f"{name}\n{label}\n{seconds:,.1f} s")
        left += value
    axes.plot(
        hindsight[rows],
        at,
        "|",
        color=INK,
        markersize=11,
        markeredgewidth=2.0,
        linestyle="none",
        label="the best plan in hindsight",
    )
    axes.set_yticks(at, names, fontsize=8.5)
    axes.set_ylim(-0.7, len(apps) - 0.3)
    axes.set_xlabel("seconds of waiting, memory counted at the price")
    axes.grid(visible=False, axis="y")
    drawing.figure.legend(
        loc="outside lower left",
        ncols=1 if narrow else 2,
        frameon=False,
        fontsize=8.5,
    )
    return drawing


def draw_timeline(
    trace: Trace,
    lanes: Mapping[str, Replay],
    app: int,
    from_ms: float,
    to_ms: float,
    create_ms: float,
    *,
    narrow: bool,
) -> Drawing:
    """One app's slots from `from_ms` to `to_ms`, a lane a policy: starting, idle, serving; and the
    requests, those that waited in red."""
    drawing = Drawing.new(NARROW_IN if narrow else 9.4, 0.9 + 1.4 * len(lanes), narrow=narrow)
    axes = drawing.axes
    start_ms = create_ms + trace.apps[app].init_ms
    window = _Window(axes, from_ms, to_ms)
    for lane, (policy, result) in enumerate(lanes.items()):
        base = -2.0 * lane
        shown = [
            (number, slot)
            for number, slot in enumerate(result.slots)
            if slot.app == app and slot.destroyed_ms > from_ms and slot.created_ms < to_ms
        ]
        row_of, rows = _rows(shown)
        height = 1.0 / rows
        for number, slot in shown:
            y = base + row_of[number] * height
            ready_ms = min(slot.created_ms + start_ms, slot.destroyed_ms)
            window.bar(slot.created_ms, ready_ms, y, height, STARTING)
            window.bar(ready_ms, slot.destroyed_ms, y, height, IDLE)
        own = np.flatnonzero((trace.app == app) & (trace.arrival_ms < to_ms))
        for row_index in own.tolist():
            begin = float(trace.arrival_ms[row_index] + result.wait_ms[row_index])
            end = begin + float(trace.duration_ms[row_index])
            number = int(result.slot[row_index])
            if end > from_ms and number in row_of:
                y = base + row_of[number] * height
                window.bar(begin, end, y, height, SERVING)
        seen = own[trace.arrival_ms[own] >= from_ms]
        late = result.wait_ms[seen] > 1.0
        for rows_of, colour in ((seen[~late], INK), (seen[late], OURS)):
            at_min = (trace.arrival_ms[rows_of] - from_ms) / _MS_PER_MINUTE
            (ticks,) = axes.plot(
                at_min, np.full(len(rows_of), base + 1.12), "|", color=colour, markersize=7
            )
            waited = result.wait_ms[rows_of].tolist()
            drawing.tip(ticks, *(f"waited {ms / 1_000.0:,.1f} s" for ms in waited))
        axes.text(0.0, base + 1.3, policy, ha="left", va="bottom", fontsize=9, weight="bold")
    axes.set_yticks([])
    axes.set_ylim(-2.0 * (len(lanes) - 1) - 0.15, 1.75)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False)
    axes.set_xlim(0.0, (to_ms - from_ms) / _MS_PER_MINUTE)
    axes.set_xlabel("minutes")
    return drawing


def _rows(slots: Sequence[tuple[int, Slot]]) -> tuple[dict[int, int], int]:
    """A row for each numbered slot, so that none lies on another; and how many rows."""
    free_at: list[float] = []
    row_of: dict[int, int] = {}
    for number, slot in sorted(slots, key=lambda each: each[1].created_ms):
        row = next((r for r, at in enumerate(free_at) if at <= slot.created_ms), len(free_at))
        free_at[row : row + 1] = [slot.destroyed_ms]
        row_of[number] = row
    return row_of, max(len(free_at), 1)


class _Window:
    """The stretch of time that is drawn, in minutes from its begin."""

    def __init__(self, axes: Axes, from_ms: float, to_ms: float) -> None:
        self._axes = axes
        self._from_ms = from_ms
        self._to_ms = to_ms

    def bar(self, begin_ms: float, end_ms: float, y: float, height: float, colour: str) -> None:
        begin, end = max(begin_ms, self._from_ms), min(end_ms, self._to_ms)
        if end > begin:
            self._axes.broken_barh(
                [((begin - self._from_ms) / _MS_PER_MINUTE, (end - begin) / _MS_PER_MINUTE)],
                (y, 0.92 * height),
                color=colour,
                linewidth=0.6 if colour == SERVING else 0.0,
            )
