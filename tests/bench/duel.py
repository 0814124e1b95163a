"""`make duel`: FeMux's measure on shared traces, every published policy and ours, as Markdown.

python -m tests.bench.duel [TRACE ...] [--write]

`--write` puts the tables into docs/policy.md, between their marks: for the three traces that stand there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.bench.table import step
from tests.bench.tables import ROOT, put
from tests.traces import SHARED
from warmscaler.cli.duel import HEADINGS, cells, verdict
from warmscaler.data.read import read_trace
from warmscaler.training.evaluating.duel import duel
from warmscaler.training.evaluating.evaluate import window

TRACES = ("azure2019-day", "azure2021-day", "contest-set3")
JOBS = 2


def markdown(path: Path) -> str:
    part = window(read_trace(path), 0.5)
    step(f"{part.trace.name}: training and replaying")
    of = duel(part, jobs=JOBS)
    rows = [("policy", *HEADINGS), ("---",) * (len(HEADINGS) + 1), *cells(of)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([f"**{of.trace}**", "", *lines, "", f"{verdict(of)}.", ""])


def main() -> None:
    os.nice(10)
    given = [Path(word) for word in sys.argv[1:] if not word.startswith("--")]
    write = "--write" in sys.argv[1:]
    if write and given:
        sys.exit("--write is for the traces that stand in docs/policy.md: leave out TRACE")
    paths = given or [SHARED / f"{name}.tar.gz" for name in TRACES]
    if missing := [path for path in paths if not path.exists()]:
        sys.exit(f"no trace: {missing[0]} is not there")
    texts = []
    for path in paths:
        texts.append(markdown(path))
        print(texts[-1], flush=True)
    if write:
        put(ROOT / "docs/policy.md", "duel", "\n".join(texts))


if __name__ == "__main__":
    main()
