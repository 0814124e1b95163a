"""`make ablation`: the learned policy on the shared trace, with one part of it taken away at a time.

Every variant is priced alike, at the price found on the training part, so that one figure compares
them: seconds of waiting, a GB·s counted at the price. (Seen on the measured part, and shown, not
tuned on: what is kept was chosen on the training part.)
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nan
from typing import Any
from unittest.mock import patch

import joblib
import numpy as np
from rich.console import Console
from rich.table import Table

from tests.bench.table import TRACE, step
from warmscaler.data.read import read_trace
from warmscaler.data.trace import Trace
from warmscaler.models.learned import ahead, crowd, level, plan, policy
from warmscaler.models.learned import app as learned
from warmscaler.models.learned.habits import MAX_LEVELS, MEMORY_GAPS, Model
from warmscaler.models.learned.plan import Plan
from warmscaler.models.learned.policy import Learned
from warmscaler.models.objectives.words import OWN_PRICE
from warmscaler.models.policy import Pool
from warmscaler.simulator.figures import Figures, figures
from warmscaler.simulator.replay import CREATE_MS, replay
from warmscaler.training.evaluating.evaluate import train, window


@dataclass(frozen=True, slots=True)
class Variant:
    """What is taken away: (where, name, value) of what stands in its place."""

    name: str
    without: tuple[tuple[Any, str, Any], ...] = ()
    knows_apps: bool = True


def _start_by_its_own_plan(self: Any, now_ms: float, pool: Pool, level: int, last: int) -> None:
    self._start_again(now_ms, pool, last)


_due = ahead.Ahead.due


def _without_those_alone(self: ahead.Ahead, now_ms: float, *, here: int, in_use: int) -> ahead.Due:
    return _due(self, now_ms, here=here, in_use=in_use)._replace(alone=[])


def variants() -> list[Variant]:
    return [
        Variant("as it is"),
        Variant("nothing pre-warmed", ((Plan, "prewarm_ms", lambda self, age_ms: inf),)),
        Variant(
            "no clocks: only the time since the last use",
            ((learned, "PERIODS_MS", (0.0,)), (level, "PERIODS_MS", (0.0,))),
        ),
        Variant("a start for every request that waits", ((learned, "WORTH_GAPS", 1e9),)),
        Variant("a start only for what it saves the request", ((learned, "WORTH_GAPS", 0.0),)),
        Variant(
            "a miss keeps only its own request waiting",
            ((crowd, "SMOOTHING", 0.0), (crowd, "BEFORE", inf)),
        ),
        Variant(
            "a level pre-warmed over any number of empty ones",
            ((ahead, "FILLED_BELOW", MAX_LEVELS),),
        ),
        Variant(
            "a level due before those below it is not pre-warmed",
            ((ahead.Ahead, "due", _without_those_alone),),
        ),
        Variant("rare idle times that agree are no timer", ((plan, "AGREE", nan),)),
        Variant(
            "a level released takes the instance of the one above",
            ((learned.LearnedApp, "_move_down", _start_by_its_own_plan),),
        ),
        Variant("no population behind thin data", ((policy, "PRIOR_WEIGHT", 1e-6),)),
        Variant(
            "old idle times weigh as much as new ones",
            ((level, "_WEIGHTS", np.ones(2 * MEMORY_GAPS)),),
        ),
        Variant("nothing known of any app before it is seen", (), knows_apps=False),
    ]


def measure(name: str, trace: Trace, model: Model, split_ms: float) -> Figures:
    """Replays one variant, by its name: a worker makes it for itself."""
    variant = next(each for each in variants() if each.name == name)
    if not variant.knows_apps:
        model = Model(model.price_s_per_gb_s, model.prior_ms, model.start_ms)
    undo: list[Callable[[], object]] = []
    for where, what, value in variant.without:
        patched = patch.object(where, what, value)
        patched.start()
        undo.append(patched.stop)
    try:
        result = replay(trace, Learned(model), create_ms=CREATE_MS)
    finally:
        for stop in undo:
            stop()
    return figures(trace, result, split_ms)


def main() -> None:
    trace = read_trace(TRACE)
    part = window(trace, 0.5)
    step("training")
    model = train(part, create_ms=CREATE_MS, jobs=2, objective=OWN_PRICE)
    step("replaying each variant")
    names = [each.name for each in variants()]
    done = joblib.Parallel(n_jobs=2)(
        joblib.delayed(measure)(name, trace, model, part.split_ms) for name in names
    )
    price = model.price_s_per_gb_s
    costs = [price * each.wasted_gb_s + each.wait_s for each in done]
    table = Table(title=f"ablation, {price:.3g} s per GB·s", title_justify="left")
    for heading in ("without", "score", "wasted GB·s", "waiting, s", "cost, s", "more"):
        table.add_column(heading, justify="left" if heading == "without" else "right")
    for name, each, cost in zip(names, done, costs, strict=True):
        table.add_row(
            name,
            f"{each.score:.2f}",
            f"{each.wasted_gb_s:,.0f}",
            f"{each.wait_s:,.0f}",
            f"{cost:,.0f}",
            f"{cost / costs[0] - 1.0:+.1%}",
        )
    Console(width=None if sys.stdout.isatty() else 110).print(table)


if __name__ == "__main__":
    main()
