"""The report's pictures, as SVG to stand in a page: no display, no fonts, no files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from warmscaler.data.trace import Trace
from warmscaler.simulator.replay import Replay
from warmscaler.training.evaluating.account import Account
from warmscaler.training.evaluating.calibration import Calibration
from warmscaler.training.evaluating.evaluate import Measured
from warmscaler.training.evaluating.settings import BASELINE, CLAIRVOYANT, LEARNED

COLOURS = {
    "fixed": "#6b7280",
    "reference": "#111827",
    "hybrid-histogram": "#0072b2",
    "greedy-dual": "#cc79a7",
    "knative": "#e69f00",
    LEARNED: "#d1242f",
    CLAIRVOYANT: "#009e73",
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "grid.linewidth": 0.7,
}


def frontier(measured: Sequence[Measured]) -> str:
    """Seconds of waiting against wasted GB·s, both logarithmic: down and left is better."""
    with _style("frontier"):
        figure, axes = _figure(9.0, 5.6)
        draw_frontier(axes, measured)
        return _svg(figure)


def draw_frontier(axes: Axes, measured: Sequence[Measured]) -> None:
    """Draws the frontier into `axes`: each family's settings joined, the named ones labelled."""
    families: dict[str, list[Measured]] = {}
    for each in measured:
        families.setdefault(each.setting.family, []).append(each)
    for family, members in families.items():
        if family == CLAIRVOYANT:
            waste = members[0].figures.wasted_gb_s
            colour = COLOURS[CLAIRVOYANT]
            axes.axvline(waste, color=colour, linestyle="--", label=f"{family} (no waiting)")
            continue
        points = [
            (each.figures.wasted_gb_s, each.figures.wait_s)
            for each in sorted(members, key=lambda each: each.figures.wasted_gb_s)
            if each.figures.wait_s > 0.0 and each.figures.wasted_gb_s > 0.0
        ]
        if not points:
            continue
        ours = family == LEARNED
        axes.plot(
            *zip(*points, strict=True),
            marker="o",
            markersize=6 if ours else 4,
            linewidth=2.4 if ours else 1.2,
            color=COLOURS.get(family, "#444444"),
            label=family,
            zorder=3 if ours else 2,
        )
    for each in _named(measured):
        if each.figures.wait_s > 0.0 and each.figures.wasted_gb_s > 0.0:
            axes.annotate(
                each.setting.policy.removeprefix("fixed:") + "s"
                if each.setting.family == "fixed"
                else each.setting.policy,
                (each.figures.wasted_gb_s, each.figures.wait_s),
                xytext=(5, 5),
                textcoords="offset points",
                parse_math=False,
                fontsize=8,
                color=COLOURS.get(each.setting.family, "#444444"),
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("wasted memory, GB·s")
    axes.set_ylabel("waiting, s")
    _legend(axes, fontsize=9)


def distribution(
    values: Mapping[str, npt.NDArray[np.float64]], xlabel: str, *, log: bool, name: str
) -> str:
    """For each policy, the share of apps at or below each value; `values` by policy."""
    with _style(name):
        figure, axes = _figure(6.2, 4.2)
        for policy, of_apps in values.items():
            family = policy.partition(":")[0]
            ordered = np.sort(of_apps)
            share = np.arange(1, len(ordered) + 1) / max(len(ordered), 1)
            axes.step(
                ordered.clip(min=1.0) if log else ordered,
                share,
                where="post",
                color=COLOURS.get(family, "#444444"),
                linewidth=2.4 if family == LEARNED else 1.2,
                linestyle="-" if family != "fixed" or policy == BASELINE else ":",
                label=policy,
            )
        if log:
            axes.set_xscale("log")
        axes.set_ylim(0.0, 1.02)
        axes.set_xlabel(xlabel)
        axes.set_ylabel("share of the apps at or below")
        _legend(axes, fontsize=8)
        return _svg(figure)


PARTS = {
    "kept_used": ("kept, and used", "#9ca3af"),
    "ahead_used": ("started ahead, and used", "#60a5fa"),
    "kept_unused": ("kept, never used again", "#4b5563"),
    "ahead_unused": ("started ahead, never used", "#1d4ed8"),
    "starting": ("memory while starting", "#d1d5db"),
    "wait_none": ("waited: released too soon, or not pre-warmed in time", "#d1242f"),
    "wait_first": ("waited: never needed so many at once before", "#fca5a5"),
    "wait_starting": ("waited: on its way", "#e69f00"),
    "wait_busy": ("waited for a busy instance", "#cc79a7"),
}


def parts_by_app(
    account: Account, hindsight: npt.NDArray[np.float64], apps: Sequence[int], names: Sequence[str]
) -> str:
    """What each of `apps` (indices) costs, in seconds of waiting: bars of its parts."""
    with _style("parts"):
        figure, axes = _figure(10.0, 0.8 + 0.32 * max(len(apps), 4))
        at = np.arange(len(apps))[::-1]
        left = np.zeros(len(apps))
        rows = np.asarray(apps, dtype=np.int64)
        for field, (label, colour) in PARTS.items():
            value = getattr(account, field)[rows]
            axes.barh(at, value, left=left, color=colour, label=label, height=0.72)
            left += value
        axes.plot(
            hindsight[rows],
            at,
            "|",
            color="#111827",
            markersize=11,
            markeredgewidth=2.0,
            linestyle="none",
            label="the best plan in hindsight",
        )
        # What an app is called may look like mathematics to matplotlib: `b$$` like bad ones.
        axes.set_yticks(at, names, fontsize=8, parse_math=False)
        axes.set_xlabel("seconds of waiting, memory counted at the price")
        axes.grid(visible=False, axis="y")
        _legend(axes, fontsize=8, loc="lower right")
        return _svg(figure)


def calibrated(of: Calibration) -> str:
    """Observed against predicted chance; on the diagonal is right."""
    with _style("calibration"):
        figure, axes = _figure(4.6, 4.2)
        axes.plot([0.0, 1.0], [0.0, 1.0], color="#9ca3af", linestyle="--", linewidth=1.0)
        sizes = 12.0 + 120.0 * of.forecasts / max(int(of.forecasts.max(initial=1)), 1)
        axes.plot(of.predicted, of.observed, color=COLOURS[LEARNED], linewidth=1.2)
        axes.scatter(of.predicted, of.observed, s=sizes, color=COLOURS[LEARNED], zorder=3)
        axes.set_xlabel("predicted chance of a request in time")
        axes.set_ylabel("share that came")
        axes.set_xlim(0.0, 1.0)
        axes.set_ylim(0.0, 1.0)
        return _svg(figure)


def timeline(
    trace: Trace,
    lanes: Mapping[str, Replay],
    app: int,
    from_ms: float,
    to_ms: float,
    create_ms: float,
) -> str:
    """One app's slots from `from_ms` to `to_ms`, a lane a policy: starting, idle, serving; and the
    requests, those that waited in red."""
    with _style("timeline"):
        figure, axes = _figure(10.0, 1.2 + 1.1 * len(lanes))
        start_ms = create_ms + trace.apps[app].init_ms
        for lane, (policy, result) in enumerate(lanes.items()):
            base = -2.0 * lane
            free_at: list[float] = []  # rows of the lane, by when each is free again
            row_of: dict[int, int] = {}
            shown = [
                (number, slot)
                for number, slot in enumerate(result.slots)
                if slot.app == app and slot.destroyed_ms > from_ms and slot.created_ms < to_ms
            ]
            for number, slot in sorted(shown, key=lambda each: each[1].created_ms):
                row = next(
                    (r for r, at in enumerate(free_at) if at <= slot.created_ms), len(free_at)
                )
                free_at[row : row + 1] = [slot.destroyed_ms]
                row_of[number] = row
            height = 1.0 / max(len(free_at), 1)
            for number, slot in shown:
                y = base + row_of[number] * height
                ready_ms = min(slot.created_ms + start_ms, slot.destroyed_ms)
                for begin, end, colour in (
                    (slot.created_ms, ready_ms, "#fbbf24"),
                    (ready_ms, slot.destroyed_ms, "#d1d5db"),
                ):
                    _bar(axes, begin, end, y, height, colour, from_ms, to_ms)
            own = np.flatnonzero((trace.app == app) & (trace.arrival_ms < to_ms))
            for row_index in own.tolist():
                begin = float(trace.arrival_ms[row_index] + result.wait_ms[row_index])
                end = begin + float(trace.duration_ms[row_index])
                number = int(result.slot[row_index])
                if end > from_ms and number in row_of:
                    y = base + row_of[number] * height
                    _bar(axes, begin, end, y, height, "#059669", from_ms, to_ms)
            seen = own[trace.arrival_ms[own] >= from_ms]
            late = result.wait_ms[seen] > 1.0
            for rows, colour in ((seen[~late], "#111827"), (seen[late], "#d1242f")):
                at_min = (trace.arrival_ms[rows] - from_ms) / 60_000.0
                axes.plot(at_min, np.full(len(rows), base + 1.15), "|", color=colour, markersize=7)
            axes.text(
                -0.005,
                base + 0.5,
                policy,
                ha="right",
                va="center",
                fontsize=9,
                parse_math=False,
                transform=axes.get_yaxis_transform(),
            )
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False)
        axes.set_xlim(0.0, (to_ms - from_ms) / 60_000.0)
        axes.set_xlabel("minutes")
        return _svg(figure)


def _bar(
    axes: Axes,
    begin_ms: float,
    end_ms: float,
    y: float,
    height: float,
    colour: str,
    from_ms: float,
    to_ms: float,
) -> None:
    begin, end = max(begin_ms, from_ms), min(end_ms, to_ms)
    if end > begin:
        axes.broken_barh(
            [((begin - from_ms) / 60_000.0, (end - begin) / 60_000.0)],
            (y, 0.92 * height),
            color=colour,
            linewidth=0.6 if colour == "#059669" else 0.0,
        )


def _named(measured: Sequence[Measured]) -> list[Measured]:
    """Those worth a label where a sweep has put a hundred points on the plane."""
    swept = len(measured) > 20
    keep = ("fixed:60", "fixed:300", "fixed:600", "fixed:1800")
    return [
        each
        for each in measured
        if each.setting.family != CLAIRVOYANT
        and (
            not swept
            or each.setting.policy in keep
            or (each.setting.policy == LEARNED and each.setting.price is None)
        )
    ]


def _style(name: str) -> AbstractContextManager[None]:
    # A salt of its own for each picture: its ids must not meet another's in one page.
    return mpl.rc_context(_STYLE | {"svg.hashsalt": name})


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _legend(axes: Axes, **how: Any) -> None:
    for text in axes.legend(frameon=False, **how).get_texts():
        text.set_parse_math(False)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
