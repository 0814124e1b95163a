"""How the report's pictures are made: SVG that stands in a page, in its colours, with tooltips.

No display, no fonts, no files. A picture for a page is drawn twice, wide and narrow, because text in
an SVG shrinks with it; the page shows the one that fits.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from math import ceil, floor, log10
from typing import Any, cast
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from warmscaler.training.evaluating.settings import CLAIRVOYANT, LEARNED

INK = "#1f2328"
DIM = "#6e7781"
GRID = "#e4e7eb"
OURS = "#cf222e"
IDLE = "#c8cdd3"
STARTING = "#f2a900"
SERVING = "#1a7f5a"
BLUE = "#0969da"
LIGHT_BLUE = "#78b4f0"
DARK_GREY = "#57606a"
PINK = "#bf5fa0"
ROSE = "#f0a0a6"
ORANGE = "#bc6a00"
COLOURS = {
    "fixed": DIM,
    "reference": INK,
    "hybrid-histogram": BLUE,
    "greedy-dual": PINK,
    "knative": ORANGE,
    LEARNED: OURS,
    CLAIRVOYANT: SERVING,
}
OTHER = DARK_GREY
THEME = {
    INK: "ink",
    DIM: "dim",
    GRID: "grid",
    OURS: "ours",
    IDLE: "idle",
    STARTING: "starting",
    SERVING: "serving",
    BLUE: "blue",
    LIGHT_BLUE: "light-blue",
    DARK_GREY: "dark-grey",
    PINK: "pink",
    ROSE: "rose",
    ORANGE: "orange",
}
"""The page's custom properties for each colour: light and dark are told apart there."""
NARROW_IN = 4.7
"""Width in inches of what a page of 500 px shows."""
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.parse_math": False,  # a name may hold dollars
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
}
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"


class Drawing:
    """One figure, and what its marks say when they are pointed at."""

    def __init__(self, axes: Axes, *, narrow: bool = False) -> None:
        """What is drawn into `axes`, which may be anybody's."""
        self.axes = axes
        self.narrow = narrow
        self._tips: dict[str, Sequence[str]] = {}

    @classmethod
    def new(cls, width_in: float, height_in: float, *, narrow: bool = False) -> Drawing:
        """With a figure of its own."""
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        return cls(figure.subplots(), narrow=narrow)

    @property
    def figure(self) -> Figure:
        """What its axes lie in."""
        return cast(Figure, self.axes.get_figure(root=True))

    def tip(self, artist: Artist, *texts: str) -> None:
        """What the marks of `artist` say: one for each of its points, or one for all of it."""
        name = f"tip-{len(self._tips)}"
        artist.set_gid(name)
        self._tips[name] = texts

    def legend_below(self, columns: int) -> None:
        """The legend under the axes, where it hides nothing; inside where the figure is not ours."""
        if self.figure.get_layout_engine() is None:
            self.axes.legend(frameon=False, fontsize=9)
            return
        self.figure.legend(
            loc="outside lower center",
            ncols=2 if self.narrow else columns,
            frameon=False,
            fontsize=9,
        )

    def svg(self, *, themed: bool) -> str:
        """The picture; `themed` takes its colours from the page that it stands in."""
        buffer = io.StringIO()
        self.figure.savefig(
            buffer, format="svg", transparent=themed, metadata={"Date": None, "Creator": None}
        )
        text = buffer.getvalue()
        root = ElementTree.fromstring(text[text.index("<svg") :])  # noqa: S314 - made above
        for group in root.iter(f"{{{_SVG}}}g"):
            texts = self._tips.get(group.attrib.get("id", ""))
            if texts is not None:
                del group.attrib["id"]
                _tell(group, texts)
        ElementTree.register_namespace("", _SVG)
        ElementTree.register_namespace("xlink", _XLINK)
        text = ElementTree.tostring(root, encoding="unicode")
        if themed:
            for colour, name in THEME.items():
                text = text.replace(colour, f"var(--{name})")
        return text


def _tell(group: ElementTree.Element, texts: Sequence[str]) -> None:
    """Gives each mark its title; a mark for each text, or the one text for the group."""
    marks = list(group.iter(f"{{{_SVG}}}use"))
    if len(texts) == 1 and len(marks) != 1:
        marks = [group]
    # Where a mark lies outside the axes it is not drawn, and whose text is whose is not known.
    for mark, text in zip(marks, texts, strict=False) if len(marks) == len(texts) else ():
        title = ElementTree.Element(f"{{{_SVG}}}title")
        title.text = text
        mark.insert(0, title)


def style(name: str) -> AbstractContextManager[None]:
    """What every picture has in common; `name` keeps its ids apart from another's in one page."""
    return mpl.rc_context(_STYLE | {"svg.hashsalt": name})


def chart(name: str, about: str, draw: Callable[[bool], Drawing]) -> Markup:
    """The HTML of a picture in both widths. `draw` gets whether it is to be narrow; `about` says to
    those who cannot see it what it shows."""
    parts = []
    for kind in ("wide", "narrow"):
        with style(f"{name}-{kind}"):
            svg = draw(kind == "narrow").svg(themed=True)
        svg = re.sub(r"<svg ", f'<svg role="img" aria-label="{escape(about)}" ', svg, count=1)
        parts.append(f'<div class="{kind}">{svg}</div>')
    return Markup(f'<div class="chart" id="chart-{name}">{"".join(parts)}</div>')  # noqa: S704


def magnitude(axis: Axis, values: Sequence[float]) -> None:
    """A logarithmic scale around `values`. Where some are 0 it has a place for them: below the decade
    of the least of the others it is linear, half a decade high."""
    above = [value for value in values if value > 0.0] or [1.0]
    low, high = min(above), max(above)
    set_scale, set_limits = (
        (axis.axes.set_xscale, axis.axes.set_xlim)
        if axis.axis_name == "x"  # type: ignore[attr-defined]
        else (axis.axes.set_yscale, axis.axes.set_ylim)
    )
    if min(values, default=1.0) <= 0.0:
        decade = 10.0 ** floor(log10(low))
        set_scale("symlog", linthresh=decade, linscale=0.5)
        set_limits(-0.3 * decade, 1.6 * max(high, decade))
        ticks = [0.0, *_ticks(decade, high)]
    else:
        set_scale("log")
        set_limits(low / 1.3, high * 1.3)
        ticks = _ticks(low / 1.3, high * 1.3)
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`: 1, 2, 5 of each decade, or fewer where there are many."""
    first, last = floor(log10(low)), ceil(log10(high))
    each = (1.0, 2.0, 5.0) if log10(high / low) < 2.5 else (1.0,)
    every = max(1, (last - first) // 5)
    ticks = [m * 10.0**power for power in range(first, last + 1, every) for m in each]
    inside = [tick for tick in ticks if low <= tick <= high]
    return inside or [float(f"{(low * high) ** 0.5:.2g}")]


def plain(value: float) -> str:
    """A number, short enough for the ticks of a narrow picture: 0.01, 10, 2,000, 20 k, 3 M."""
    if value >= 1e6:
        return f"{value / 1e6:g} M"
    if value >= 1e4:
        return f"{value / 1e3:g} k"
    return f"{value:,.0f}" if value >= 10.0 else f"{value:g}"
