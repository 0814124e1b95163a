"""The report's pictures of whole policies: the frontier, the apps, the forecasts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from warmscaler.training.evaluating.calibration import Calibration
from warmscaler.training.evaluating.evaluate import Measured
from warmscaler.training.evaluating.settings import BASELINE, CLAIRVOYANT, LEARNED
from warmscaler.training.reporting.drawing import (
    COLOURS,
    DIM,
    NARROW_IN,
    OTHER,
    OURS,
    Drawing,
    magnitude,
    style,
)
from warmscaler.training.reporting.labels import Label, place

MANY = 20
"""More settings than so many come from a sweep, and are not all named."""
_KEPT = ("fixed:60", "fixed:300", "fixed:600", "fixed:1800")


def picture(measured: Sequence[Measured], *, baseline: str = BASELINE) -> str:
    """The frontier as an SVG to stand alone, on white."""
    with style("frontier"):
        return frontier(measured, baseline=baseline, narrow=False).svg(themed=False)


def frontier(measured: Sequence[Measured], *, baseline: str = BASELINE, narrow: bool) -> Drawing:
    """Seconds of waiting against wasted GB·s, both logarithmic: down and left is better.

    Every setting is on it: those without waiting stand at 0.
    """
    drawing = Drawing.new(NARROW_IN if narrow else 9.4, 5.0 if narrow else 5.8, narrow=narrow)
    draw_frontier(drawing, measured, baseline=baseline)
    return drawing


def draw_frontier(
    drawing: Drawing, measured: Sequence[Measured], *, baseline: str = BASELINE
) -> None:
    """Draws the frontier, its legend below."""
    axes = drawing.axes
    points = [_at(each) for each in measured]
    magnitude(axes.xaxis, [x for x, _ in points])
    magnitude(axes.yaxis, [y for _, y in points])
    families: dict[str, list[Measured]] = {}
    for each in measured:
        families.setdefault(each.setting.family, []).append(each)
    lines = []
    for family, members in families.items():
        members = sorted(members, key=_at)
        lines.append([_at(each) for each in members])
        ours = family == LEARNED
        (line,) = axes.plot(
            *zip(*map(_at, members), strict=True),
            marker="D" if family == CLAIRVOYANT else "o",
            markersize=6 if ours or family == CLAIRVOYANT else 4,
            linewidth=2.2 if ours else 1.2,
            color=COLOURS.get(family, OTHER),
            label=family,
            zorder=3 if ours else 2,
            clip_on=False,
        )
        drawing.tip(line, *map(_says, members))
    axes.set_xlabel("wasted memory, GB·s")
    axes.set_ylabel("waiting, s")
    if len(families) > 1:
        drawing.legend_below(4)
    place(drawing, [_label(each, baseline) for each in _named(measured, baseline)], lines)


def _at(each: Measured) -> tuple[float, float]:
    return max(each.figures.wasted_gb_s, 0.0), max(each.figures.wait_s, 0.0)


def _says(each: Measured) -> str:
    of = each.figures
    rate = "" if of.cold_start_rate is None else f"\ncold starts {of.cold_start_rate:.2%}"
    return (
        f"{each.setting.label}\nwaiting {of.wait_s:,.0f} s\nwasted {of.wasted_gb_s:,.0f} GB·s"
        f"{rate}\nscore {of.score:.2f}"
    )


def _label(each: Measured, baseline: str) -> Label:
    family, policy = each.setting.family, each.setting.policy
    text = f"{policy.removeprefix('fixed:')} s" if family == "fixed" else family
    bold = family == LEARNED or policy == baseline
    return Label(text, *_at(each), COLOURS.get(family, OTHER), bold)


def _named(measured: Sequence[Measured], baseline: str) -> list[Measured]:
    """Those worth a label, the most important first; of a sweep's hundred points a few."""

    def weight(each: Measured) -> int:
        setting = each.setting
        if setting.policy == LEARNED and not setting.swept:
            return 0
        if setting.policy == baseline:
            return 1
        if setting.family == CLAIRVOYANT:
            return 2
        if setting.policy in _KEPT or len(measured) <= MANY:
            return 3
        return 4

    return [each for each in sorted(measured, key=weight) if weight(each) < 4]


def draw_distribution(
    values: Mapping[str, npt.NDArray[np.float64]],
    xlabel: str,
    *,
    baseline: str = BASELINE,
    log: bool,
    narrow: bool,
) -> Drawing:
    """For each policy, the share of apps at or below each value; `values` by policy."""
    drawing = Drawing.new(NARROW_IN if narrow else 5.7, 4.6, narrow=narrow)
    axes = drawing.axes
    if log:
        magnitude(axes.xaxis, [value for each in values.values() for value in each.clip(min=0.0)])
    for policy, of_apps in values.items():
        family = policy.partition(":")[0]
        ordered = np.sort(of_apps.clip(min=0.0))
        share = np.arange(len(ordered) + 1) / max(len(ordered), 1)
        ordered = np.concatenate([ordered[:1], ordered])  # up from 0: one app is a line as well
        share = share[: len(ordered)]
        (line,) = axes.step(
            ordered,
            share,
            where="post",
            color=COLOURS.get(family, OTHER),
            linewidth=2.2 if family == LEARNED else 1.2,
            linestyle="-" if family != "fixed" or policy == baseline else ":",
            label=policy,
        )
        drawing.tip(line, policy)
    axes.set_ylim(0.0, 1.02)
    axes.set_xlabel(xlabel)
    axes.set_ylabel("share of the apps at or below")
    drawing.legend_below(3)
    return drawing


def draw_calibration(of: Calibration, *, narrow: bool) -> Drawing:
    """Observed against predicted chance; on the diagonal is right."""
    drawing = Drawing.new(NARROW_IN, 4.2, narrow=narrow)
    axes = drawing.axes
    axes.plot([0.0, 1.0], [0.0, 1.0], color=DIM, linestyle="--", linewidth=1.0)
    axes.plot(of.predicted, of.observed, color=OURS, linewidth=1.2)
    most = max(int(of.forecasts.max(initial=1)), 1)
    for predicted, observed, count in zip(
        of.predicted.tolist(), of.observed.tolist(), of.forecasts.tolist(), strict=True
    ):
        size = (12.0 + 120.0 * count / most) ** 0.5
        (mark,) = axes.plot(
            predicted, observed, marker="o", markersize=size, color=OURS, linestyle="none", zorder=3
        )
        drawing.tip(mark, f"predicted {predicted:.0%}\ncame {observed:.0%}\n{count:,} forecasts")
    axes.set_xlabel("predicted chance of a request in time")
    axes.set_ylabel("share that came")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    return drawing
