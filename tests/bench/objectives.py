"""`make objectives`: what is asked for in words, against what a constant price chosen in hindsight gives.

python -m tests.bench.objectives [TRACE ...] [--json]

Each shared trace, or those named (a path, or a shared trace's name): trained on the first half for each
objective, measured on the second. Hindsight is the best of `PRICES` replayed with the same model. An
objective that no such price meets is left out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tests.bench.table import Row, show, step
from tests.traces import SHARED
from warmscaler.data.read import read_trace
from warmscaler.models.learned.policy import Learned
from warmscaler.models.objectives.words import Kind, Objective, at_price, parse
from warmscaler.models.policy import Policy
from warmscaler.models.published.fixed import Fixed
from warmscaler.simulator.figures import Figures, figures
from warmscaler.simulator.replay import CREATE_MS, replay
from warmscaler.training.evaluating.evaluate import Window, window
from warmscaler.training.fitting.fit import fit
from warmscaler.training.fitting.price import best_price
from warmscaler.training.objective_met import spent_of_allowed

PRICES = (*(1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0), *(3e-5, 3e-4, 3e-3, 3e-2, 3e-1, 3.0))
HELD = tuple(map(parse, ("cold-starts=1%", "wait-p99=1s")))
SCORE, SAFE = parse("score"), parse("safe")
WITHIN = 1.25
"""Held within a quarter of itself."""
MORE_MEMORY = 1.10
BELOW_SCORE = 0.5


class Played:
    """One policy's replay of a window."""

    def __init__(self, part: Window, policy: Policy) -> None:
        self._part = part
        self._result = replay(part.trace, policy, create_ms=CREATE_MS)
        self.figures: Figures = figures(part.trace, self._result, part.split_ms)

    def used(self, objective: Objective) -> float:
        found = spent_of_allowed(objective, self._part.trace, self._result, self._part.split_ms)
        assert found is not None
        return found

    def held_value(self, objective: Objective) -> float:
        """In the objective's own unit, over what is allowed."""
        if objective.kind is Kind.WAIT:
            return self.figures.wait_p99_ms / objective.value
        return self.used(objective)


def measured(path: Path) -> Iterator[Row]:
    part = window(read_trace(path), 0.5)
    name = part.trace.name
    step(f"{name}: fitting")
    model = fit(part.training, create_ms=CREATE_MS, objective=at_price(0.04))
    step(f"{name}: replaying hindsight's prices")
    hindsight = [Played(part, Learned(model, price)) for price in PRICES]

    def asked(objective: Objective) -> Figures:
        return played(objective).figures

    def played(objective: Objective) -> Played:
        step(f"{name}: {objective}")
        found = best_price(part.training, objective, CREATE_MS, 1, None)
        started = replace(model, price_s_per_gb_s=found, objective=objective)
        return Played(part, Learned(started))

    best = max(each.figures.score for each in hindsight)
    yield Row(f"{name}: score, hindsight's best price {best:.2f}", asked(SCORE).score, "",
              best - BELOW_SCORE, at_most=False)  # fmt: skip
    fixed = Played(part, Fixed(300.0)).figures
    safe = asked(SAFE)
    yield Row(f"{name}: default, waiting over fixed 300 s's", safe.wait_s / fixed.wait_s, "", 1.0)
    yield Row("  wasted memory over its", safe.wasted_gb_s / fixed.wasted_gb_s, "", 1.0)
    for objective in HELD:
        meet = [each for each in hindsight if each.held_value(objective) <= 1.0]
        if not meet:
            continue
        ours = played(objective)
        least = min(each.figures.slot_gb_s for each in meet)
        yield Row(f"{name}: {objective}, of it", ours.held_value(objective), "", WITHIN)
        yield Row("  memory over hindsight's", ours.figures.slot_gb_s / least, "", MORE_MEMORY)


def main() -> None:
    os.nice(5)
    given = [word for word in sys.argv[1:] if not word.startswith("--")]
    shared = {path.name.split(".")[0]: path for path in sorted(SHARED.glob("*.tar.gz"))}
    paths = [shared.get(word, Path(word)) for word in given] or list(shared.values())
    if not paths:
        sys.exit(f"no trace: {SHARED} is not there, and none is given")
    show([row for path in paths for row in measured(path)], "make objectives")


if __name__ == "__main__":
    main()
