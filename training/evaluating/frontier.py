"""The frontier: what `learned` costs at each price against the best setting, in hindsight, of every
other policy.

Cost at a price p (seconds of waiting a GB·s is worth) is `wait_s + p * wasted_gb_s` over the measured
part. The others' replays do not depend on the price: each is done once, and the cheapest is picked
at every price afterwards. Ours is replayed anew at each price, set to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from warmscaler.data.trace import Trace
from warmscaler.models.learned.habits import Model
from warmscaler.simulator.figures import Figures
from warmscaler.training.cluster import share, task
from warmscaler.training.evaluating.evaluate import Window, measure
from warmscaler.training.evaluating.settings import KNOBS, LEARNED, Setting, capacities_gb
from warmscaler.training.workers import parallel

PRICES = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
"""Seconds of waiting a GB·s is worth."""
KEEP_S = (10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 14_400)
RANGE_MINUTES = (5, 20, 60, 120, 240, 480)
STABLE_WINDOW_S = (6, 30, 60, 300, 1_800)
LEAST_CAPACITY = 1.0 / 8.0
"""Greedy-dual's least, as a share of one instance of each app called; then twice as much, and so on."""
SLACK = 0.02
"""By so much may waste rise, or waiting fall, from a price to the next dearer one."""
RatioRow = tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """One price: ours set to it, and the cheapest of the others."""

    price: float
    """Seconds of waiting a GB·s is worth."""
    ours: Figures
    rival: Setting
    rivals: Figures

    @property
    def ratio(self) -> float:
        """Our cost over the rival's: below 1 is ours. 1 where neither costs anything."""
        rival_s = cost_s(self.rivals, self.price)
        own_s = cost_s(self.ours, self.price)
        if rival_s > 0.0:
            return own_s / rival_s
        return 1.0 if own_s <= 0.0 else float("inf")


@dataclass(frozen=True, slots=True)
class Frontier:
    """A trace's points, the cheapest price first."""

    trace: str
    points: tuple[Point, ...]
    trained: Point | None = None
    """At the price found in training, where it was looked for."""

    @property
    def ratios(self) -> tuple[float, ...]:
        return tuple(point.ratio for point in self.points)

    @property
    def geometric_mean(self) -> float:
        return geometric_mean(self.ratios)

    @property
    def waste_rises(self) -> float:
        """The most that waste rises from a price to a dearer one, as a share; 0 is monotone."""
        return _most_rise([point.ours.wasted_gb_s for point in self.points])

    @property
    def waiting_falls(self) -> float:
        """The most that waiting falls from a price to a dearer one, as a share; 0 is monotone."""
        rise = _most_rise([point.ours.wait_s for point in reversed(self.points)])
        return rise / (1.0 + rise)

    @property
    def monotone(self) -> bool:
        return max(self.waste_rises, self.waiting_falls) <= SLACK


def cost_s(figures: Figures, price: float) -> float:
    """Seconds waited and GB·s wasted in one sum, in seconds."""
    return figures.wait_s + price * figures.wasted_gb_s


def geometric_mean(ratios: Sequence[float]) -> float:
    """Of ratios above 0."""
    return float(np.exp(np.mean(np.log(ratios))))


def rivals(trace: Trace) -> list[Setting]:
    """Every setting of every other policy that ours stands against."""
    fleet_gb = sum(trace.apps[app].memory_mb for app in np.unique(trace.app)) / 1024.0
    grids: dict[str, Sequence[float]] = {
        "fixed": KEEP_S,
        "hybrid-histogram": RANGE_MINUTES,
        "knative": STABLE_WINDOW_S,
        "greedy-dual": [
            gb
            for gb in capacities_gb(trace, step=1.0)
            if gb >= LEAST_CAPACITY * fleet_gb * (1.0 - SLACK)  # they are rounded
        ],
    }
    return [
        Setting(f"{family}:{value:g}", KNOBS[family], float(value))
        for family, values in grids.items()
        for value in values
    ]


def measure_all(
    part: Window,
    settings: Sequence[Setting],
    *,
    create_ms: float,
    model: Model | None = None,
    jobs: int = 1,
) -> Iterator[Figures]:
    """The figures of each setting, in order, as they are known."""
    trace, known = share(part), share(model)
    calls = (task(_figures, trace, each, create_ms, known) for each in settings)
    workers = max(min(jobs, len(settings)), 1)
    yield from parallel(workers, return_as="generator")(calls)


def frontier(
    part: Window,
    model: Model,
    *,
    create_ms: float,
    prices: Sequence[float] = PRICES,
    jobs: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> Frontier:
    """Replays the others once, and ours at every price and at the model's own.

    `on_progress` gets the replays done and how many there are.
    """
    others = rivals(part.trace)
    asked = [*sorted(prices), model.price_s_per_gb_s]
    settings = [*others, *(Setting(LEARNED, "price", price, price) for price in asked)]
    done: list[Figures] = []
    for each in measure_all(part, settings, create_ms=create_ms, model=model, jobs=jobs):
        done.append(each)
        if on_progress is not None:
            on_progress(len(done), len(settings))
    known = done[: len(others)]
    points = [
        against(price, ours, others, known)
        for price, ours in zip(asked, done[len(others) :], strict=True)
    ]
    return Frontier(part.trace.name, tuple(points[:-1]), points[-1])


def against(
    price: float, ours: Figures, others: Sequence[Setting], known: Sequence[Figures]
) -> Point:
    """Ours at a price against the cheapest of the others, whose figures are `known`."""
    costs = [cost_s(each, price) for each in known]
    cheapest = costs.index(min(costs))
    return Point(price, ours, others[cheapest], known[cheapest])


def as_json(of: Frontier) -> dict[str, Any]:
    """One trace's object."""

    def told(point: Point) -> dict[str, Any]:
        return {
            "price_s_per_gb_s": point.price,
            "ratio": point.ratio,
            "cost_s": cost_s(point.ours, point.price),
            "wait_s": point.ours.wait_s,
            "wasted_gb_s": point.ours.wasted_gb_s,
            "rival": point.rival.policy,
            "rival_cost_s": cost_s(point.rivals, point.price),
            "rival_wait_s": point.rivals.wait_s,
            "rival_wasted_gb_s": point.rivals.wasted_gb_s,
        }

    return {
        "trace": of.trace,
        "points": [told(point) for point in of.points],
        "trained": None if of.trained is None else told(of.trained),
        "geometric_mean": of.geometric_mean,
        "worst": max(of.ratios),
        "monotone": of.monotone,
        "waste_rises": of.waste_rises,
        "waiting_falls": of.waiting_falls,
    }


def _figures(part: Window, setting: Setting, create_ms: float, model: Model | None) -> Figures:
    return measure(part, setting, create_ms, model).figures


def _most_rise(values: Sequence[float]) -> float:
    """The most that one of them lies above any before it, as a share of that; at least 0."""
    least = np.minimum.accumulate(values)
    return float(
        max(
            ((v - low) / low for v, low in zip(values, least, strict=True) if low > 0.0),
            default=0.0,
        )
    )
