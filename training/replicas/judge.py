"""Ours against reactive rules at replica level: the figures of `scaler evaluate --replicas`.

At each price every reactive setting is tuned in hindsight: the cheapest one of its rule stands for it.
Ours knows only what lies before, and the measured part as it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from warmscaler.data.trace import Trace
from warmscaler.replicas.experts import NAMES
from warmscaler.replicas.forecast import Forecast
from warmscaler.simulator.replicas.rules import Keda, Knative, Rule, bases, grid
from warmscaler.training.replicas.baselines import (
    Outcome,
    clairvoyant,
    measured,
    replay,
    replay_all,
    seasonal,
)
from warmscaler.training.replicas.load import Load, gb_of, load_of
from warmscaler.training.replicas.ours import Floors, floors_at, learn
from warmscaler.training.replicas.statistical import statistical

PRICES = (0.0003, 0.003, 0.03)
"""Seconds of waiting that a GB·s is worth, unless told."""
OURS = "ours"
GPU_GB = 8.0
PLATFORMS: dict[str, Rule] = {"knative": Knative(), "keda": Keda()}
"""What stands under our floors, by name; lean, for the floors hold what is to be held."""
_REACTION_S = {"knative": 2.0, "keda": 15.0}


@dataclass(frozen=True, slots=True)
class Row:
    """One rule's figures at one price."""

    label: str
    cost_s: float
    """Seconds waited, plus GB·s held beyond use at the price."""
    wait_s: float
    waited_share: float
    """Of the measured requests."""
    waste_gb_s: float
    replica_hours: float
    gpu_hours: float
    """Replica-hours of apps whose replicas are large."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """All rows at one price."""

    price: float
    ours: Row
    best: Row
    """The reactive setting that was cheapest in hindsight."""
    rows: tuple[Row, ...]
    """Every rule as it comes, and tuned in hindsight; then the references."""
    statistical: tuple[Row, ...]
    """Every model and level of statsforecast on its cheapest base, if asked for; the cheapest is
    among `rows`."""
    coverage: float
    """Of our 90 % quantile of the peak."""
    coverage_busy: float
    followed: dict[str, float]
    """Share of looks for which each forecaster was followed."""

    @property
    def ratio(self) -> float:
        """Our cost over that of the best reactive setting."""
        return _over(self.ours, self.best)

    @property
    def statistical_ratio(self) -> float | None:
        """Our cost over that of the cheapest model and level of statsforecast, if asked for."""
        if not self.statistical:
            return None
        return _over(self.ours, min(self.statistical, key=lambda each: each.cost_s))


@dataclass(frozen=True, slots=True)
class Replicas:
    """A trace judged at every price."""

    trace: str
    split: float
    requests: int
    platform: str
    gpu_gb: float
    judged: tuple[Judgement, ...]
    forecast: Forecast | None
    """What was learned before the split, with what each forecaster cost by then."""


def judge(
    trace: Trace,
    prices: Sequence[float] = PRICES,
    *,
    split: float = 0.5,
    platform: str = "knative",
    places: int = 1,
    create_ms: float = 300.0,
    gpu_gb: float = GPU_GB,
    statsforecast: bool = False,
    learning: Callable[[float], None] = lambda _: None,
    replaying: Callable[[float], None] = lambda _: None,
    forecasting: Callable[[float], None] = lambda _: None,
) -> Replicas:
    """Judges at every price, against models of statsforecast too if told to and it is installed.

    `learning`, `replaying` and `forecasting` (by those models) are told a part of 1.
    """
    load = load_of(
        trace, split, places=places, create_ms=create_ms, reaction_s=_REACTION_S[platform]
    )
    learned = learn(load, learning)
    rules = [*PLATFORMS.values(), *grid()]
    steps = len(rules) + len(prices)
    outcomes = replay_all(load, rules, lambda done: replaying(done / steps))
    references = {
        "seasonal": replay(
            load, bases(PLATFORMS[platform])[0], [seasonal(app) for app in load.apps]
        ),
        "clairvoyant": clairvoyant(load),
    }
    models = []
    for label, own in statistical(load, forecasting) if statsforecast else ():
        models.append(
            [
                (f"{label} on {base.label}", replay(load, base, own))
                for base in bases(PLATFORMS[platform])
            ]
        )
    judged, misses = [], {}
    for number, price in enumerate(prices):
        floors = floors_at(load, learned, price, bases(PLATFORMS[platform]))
        misses[price] = floors.misses
        judged.append(_at_price(load, floors, price, rules, outcomes, references, models, gpu_gb))
        replaying((len(rules) + number + 1) / steps)
    requests = sum(int(measured(load, app).sum()) for app in load.apps)
    forecast = None if learned.forecast is None else learned.forecast.judged(misses)
    return Replicas(trace.name, split, requests, platform, gpu_gb, tuple(judged), forecast)


def as_json(found: Replicas) -> dict[str, Any]:
    """For programs."""
    return {
        "trace": found.trace,
        "split": found.split,
        "requests": found.requests,
        "platform": found.platform,
        "gpu_gb": found.gpu_gb,
        "prices": [
            {
                "price": each.price,
                "ratio": each.ratio,
                "best": each.best.label,
                "coverage": each.coverage,
                "coverage_busy": each.coverage_busy,
                "followed": each.followed,
                "rows": [asdict(row) for row in each.rows],
            }
            | (
                {
                    "statsforecast_ratio": each.statistical_ratio,
                    "statsforecast": [asdict(row) for row in each.statistical],
                }
                if each.statistical
                else {}
            )
            for each in found.judged
        ],
    }


def _at_price(
    load: Load,
    floors: Floors,
    price: float,
    rules: Sequence[Rule],
    outcomes: Sequence[Outcome],
    references: dict[str, Outcome],
    models: Sequence[Sequence[tuple[str, Outcome]]],
    gpu_gb: float,
) -> Judgement:
    ours = replay(load, floors.base, floors.floors)

    def row(label: str, outcome: Outcome) -> Row:
        return _row(load, label, outcome, price, gpu_gb)

    rows, tuned = [row(f"{OURS} on {floors.base.label}", ours)], []
    for kind in (Knative, Keda):
        own = [
            (rule, outcome)
            for rule, outcome in zip(rules, outcomes, strict=True)
            if isinstance(rule, kind)
        ]
        rows.append(row(f"{own[0][0].label} (as it comes)", own[0][1]))
        best = min(own, key=lambda each: each[1].cost(price))
        tuned.append(row(f"{best[0].label} (in hindsight)", best[1]))
        rows.append(tuned[-1])
    statistical_rows = tuple(
        row(*min(on_bases, key=lambda each: each[1].cost(price))) for on_bases in models
    )
    if statistical_rows:
        cheapest = min(statistical_rows, key=lambda each: each.cost_s)
        rows.append(replace(cheapest, label=f"{cheapest.label} (in hindsight)"))
    rows += [row(name, outcome) for name, outcome in references.items()]
    total = float(floors.followed.sum())
    return Judgement(
        price,
        rows[0],
        min(tuned, key=lambda each: each.cost_s),
        tuple(rows),
        statistical_rows,
        floors.coverage,
        floors.coverage_busy,
        {
            name: float(looks) / total
            for name, looks in zip(NAMES, floors.followed, strict=True)
            if looks
        },
    )


def _over(ours: Row, other: Row) -> float:
    if other.cost_s > 0.0:
        return ours.cost_s / other.cost_s
    return 1.0 if ours.cost_s <= 0.0 else float("inf")


def _row(load: Load, label: str, outcome: Outcome, price: float, gpu_gb: float) -> Row:
    requests = sum(int(measured(load, app).sum()) for app in load.apps)
    large = np.array([gb_of(app) >= gpu_gb for app in load.apps], dtype=np.bool_)
    return Row(
        label,
        outcome.cost(price),
        float(outcome.wait_s.sum()),
        float(outcome.waited.sum()) / max(requests, 1),
        float(outcome.waste_gb_s.sum()),
        float(outcome.held_s.sum()) / 3_600.0,
        float(outcome.held_s[large].sum()) / 3_600.0,
    )
