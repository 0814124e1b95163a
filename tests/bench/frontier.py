"""`make frontier`: every shared trace, and any given, through `scaler evaluate --frontier`.

python -m tests.bench.frontier [TRACE ...] [--json]
"""

from __future__ import annotations

import json
import os
import sys
from itertools import chain
from pathlib import Path

from rich.console import Console

from tests.bench.table import Row, show, step
from tests.traces import SHARED
from warmscaler.cli.frontier import table_of
from warmscaler.data.read import read_trace
from warmscaler.models.objectives.words import SCORE
from warmscaler.simulator.replay import CREATE_MS
from warmscaler.training.evaluating.evaluate import train, window
from warmscaler.training.evaluating.frontier import (
    PRICES,
    Frontier,
    as_json,
    frontier,
    geometric_mean,
)

JOBS = 2
WORST = 1.02
GEOMETRIC_MEAN = 0.75
SLOW_STARTS = ("llm2023-hour", "contest-set1-5h")
"""Where starts are long against executions: each has a target of its own."""


def measured(path: Path) -> Frontier:
    part = window(read_trace(path), 0.5)
    step(f"{part.trace.name}: training")
    model = train(part, create_ms=CREATE_MS, jobs=JOBS, objective=SCORE)
    step(f"{part.trace.name}: replaying")
    return frontier(part, model, create_ms=CREATE_MS, jobs=JOBS)


def rows(frontiers: list[Frontier]) -> list[Row]:
    ratios = list(chain.from_iterable(each.ratios for each in frontiers))
    found = [
        Row("cost over the best of the others, worst", max(ratios), "", WORST),
        Row("  geometric mean", geometric_mean(ratios), "", GEOMETRIC_MEAN),
    ]
    for each in frontiers:
        if each.trace in SLOW_STARTS:
            found.append(
                Row(f"  geometric mean, {each.trace}", each.geometric_mean, "", GEOMETRIC_MEAN)
            )
    return [
        *found,
        Row(
            "traces not monotone in the price", sum(not each.monotone for each in frontiers), "", 0
        ),
    ]


def main() -> None:
    # As many processes as there are cores, for an hour: whoever works here comes first.
    os.nice(10)
    given = [Path(word) for word in sys.argv[1:] if not word.startswith("--")]
    frontiers = [measured(path) for path in [*sorted(SHARED.glob("*.tar.gz")), *given]]
    if not frontiers:
        sys.exit(f"no trace: {SHARED} is not there, and none is given")
    if "--json" in sys.argv[1:]:
        ratios = {each.trace: as_json(each) for each in frontiers}
        print(json.dumps({"prices_s_per_gb_s": PRICES, "traces": ratios}))
        return
    Console(width=None if sys.stdout.isatty() else 200).print(table_of(frontiers))
    show(rows(frontiers), "make frontier")


if __name__ == "__main__":
    main()
