"""Labels beside points, placed so that none lies on another, on a point, or outside the axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.transforms import Bbox

from warmscaler.training.reporting.drawing import Drawing

_PLACES = (
    *((1, 1), (1, -1), (-1, 1), (-1, -1)),
    *((0, 1), (0, -1), (1, 0), (-1, 0)),
)
"""Sides of the point to try, the best first: right above, right below, ..."""
_REACH_PT = (5.0, 11.0)
_MARK_PX = 4.0


@dataclass(frozen=True, slots=True)
class Label:
    """A text for the point at `x`, `y`, in the axes' own units."""

    text: str
    x: float
    y: float
    colour: str
    bold: bool = False


def place(
    drawing: Drawing, labels: Sequence[Label], lines: Sequence[Sequence[tuple[float, float]]]
) -> int:
    """Draws those of `labels` for which there is room, the first first; returns how many.

    `lines` are all that is drawn, each as its points in the axes' units. The axes must have their
    final limits.
    """
    axes = drawing.axes
    drawing.figure.draw_without_rendering()
    renderer: Any = drawing.figure._get_renderer()  # type: ignore[attr-defined]
    frame = axes.get_window_extent(renderer)
    marks = np.concatenate(
        [_along(axes.transData.transform(np.array(line, dtype=np.float64))) for line in lines]
    )
    taken: list[Bbox] = []
    placed = 0
    for label in labels:
        text = axes.annotate(
            label.text,
            (label.x, label.y),
            xytext=(0.0, 0.0),
            textcoords="offset points",
            fontsize=8.5,
            color=label.colour,
            weight="bold" if label.bold else "normal",
        )
        for reach, (right, up) in ((reach, side) for reach in _REACH_PT for side in _PLACES):
            text.set_horizontalalignment(("right", "center", "left")[right + 1])
            text.set_verticalalignment(("top", "center", "bottom")[up + 1])
            text.set_position((reach * right, reach * up))
            box = text.get_window_extent(renderer)
            if _is_free(box, frame, marks, taken):
                taken.append(box)
                placed += 1
                break
        else:
            text.remove()
    return placed


def _along(corners: Any) -> Any:
    """Points on a line through `corners`, in pixels, close enough for no label to slip between."""
    steps = [np.hypot(*(b - a)) / _MARK_PX for a, b in pairwise(corners)]
    parts = [
        a + (b - a) * np.linspace(0.0, 1.0, 2 + int(count))[:, None]
        for (a, b), count in zip(pairwise(corners), steps, strict=True)
    ]
    return np.concatenate([corners, *parts])


def _is_free(box: Bbox, frame: Bbox, marks: Any, taken: Sequence[Bbox]) -> bool:
    inside = box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y0 >= frame.y0 and box.y1 <= frame.y1
    if not inside or any(box.overlaps(other) for other in taken):
        return False
    near = (
        (marks[:, 0] > box.x0 - _MARK_PX)
        & (marks[:, 0] < box.x1 + _MARK_PX)
        & (marks[:, 1] > box.y0 - _MARK_PX)
        & (marks[:, 1] < box.y1 + _MARK_PX)
    )
    return not near.any()
