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

from training.evaluate import Measured
from training.settings import BASELINE, CLAIRVOYANT, LEARNED

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
                    fontsize=8,
                    color=COLOURS.get(each.setting.family, "#444444"),
                )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("wasted memory, GB·s")
        axes.set_ylabel("waiting, s")
        axes.legend(frameon=False, fontsize=9)
        return _svg(figure)


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
        axes.legend(frameon=False, fontsize=8)
        return _svg(figure)


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


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
