"""`make loop`: a week whose habits shift on day 4, recorded, retrained every night by the command.

The week is replayed as one service would have lived through it: it begins with the built-in prior,
learns online, and takes over what each night promotes, keeping what it learned. It is compared, on
every day, with one that never takes a new model after day 3 and, after the shift, with one that
begins with a model trained on other days of the new habits.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.table import Row, show, step
from tests.training.test_retrain import flip, record
from warmscaler.data.generate import generate
from warmscaler.data.trace import Trace
from warmscaler.models.artifact.store import Store
from warmscaler.models.learned.policy import Learned
from warmscaler.models.policy import Policy
from warmscaler.service.scheduler.actions import Actions
from warmscaler.service.scheduler.scheduler import Scheduler
from warmscaler.simulator.figures import figures
from warmscaler.simulator.replay import replay
from warmscaler.training.fitting.fit import fit

DAY_MS = 86_400_000
PRICE = 0.04
WITHIN = 0.10


@dataclass(frozen=True, slots=True)
class Size:
    """How large the week is."""

    apps: int = 60
    requests_a_day: int = 12_000
    days: int = 7
    shift: int = 4
    """The first day of the new habits, from 1."""


def traffic(size: Size) -> tuple[Trace, Trace]:
    """The week, and earlier days of its new habits: the same apps, called otherwise."""
    old, new = (
        generate(
            "azure",
            apps=size.apps,
            days=float(size.days),
            requests=size.requests_a_day * size.days,
            seed=seed,
        )
        for seed in (1, 2)
    )
    new = replace(new, apps=old.apps)
    shift_ms = int(old.arrival_ms[0] // DAY_MS * DAY_MS) + (size.shift - 1) * DAY_MS
    before, after = old.between(-inf, shift_ms), new.between(shift_ms, inf)
    arrival_ms, app, duration_ms, status_code = (
        np.concatenate((getattr(before, name), getattr(after, name)))
        for name in ("arrival_ms", "app", "duration_ms", "status_code")
    )
    week = Trace("week", old.apps, arrival_ms, app, duration_ms, status_code)
    return week, new.between(-inf, shift_ms)


class Following(Scheduler):
    """A scheduler that takes over policies at given times, as a follower of the store does."""

    def __init__(self, policy: Policy, later: Sequence[tuple[float, Learned, float]]) -> None:
        super().__init__(policy)
        self._later = list(later)

    def arrival(self, now_ms: float, *request: Any, **more: Any) -> Actions:
        while self._later and now_ms >= self._later[0][0]:
            _, policy, until_ms = self._later.pop(0)
            self.policy = policy
            for pool in self.pools.values():
                policy.adopt(pool, until_ms)
        return super().arrival(now_ms, *request, **more)


def costs_s(
    trace: Trace, first: Learned, later: Sequence[tuple[float, Learned, float]], days_ms: list[int]
) -> list[float]:
    """Waste at the price plus waiting, on each day that begins at `days_ms`."""
    result = replay(trace, first, make_scheduler=lambda policy: Following(policy, later))
    sums = []
    for begin_ms in [*days_ms, days_ms[-1] + DAY_MS]:
        if begin_ms > trace.arrival_ms[-1]:
            sums.append(0.0)
            continue
        found = figures(trace, result, begin_ms)
        sums.append(PRICE * found.wasted_gb_s + found.wait_s)
    return [now - after for now, after in pairwise(sums)]


def scaler(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON object of a command."""
    done = subprocess.run(
        [sys.executable, "-m", "warmscaler", *map(str, arguments), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout or "{}")


def run(size: Size, folder: Path) -> list[Row]:
    """The table."""
    week, elsewhere = traffic(size)
    midnight = int(week.arrival_ms[0] // DAY_MS * DAY_MS)
    days_ms = [midnight + day * DAY_MS for day in range(size.days)]
    log, store = folder / "log", Store(str(folder / "store"))
    command = ("retrain", "--log", log, "--store", store.location, "--price", str(PRICE))
    nights: list[tuple[float, Learned, float]] = []
    outcomes = []
    rows: list[Row] = []
    for day, begin_ms in enumerate(days_ms, start=1):
        step(f"day {day}")
        end_ms = begin_ms + DAY_MS
        record(week.between(begin_ms, end_ms), log, segments=8, prefix=f"202601{day:02d}")
        code, result = scaler(*command)
        if code:
            raise SystemExit(f"night {day}: exit code {code}: {result}")
        outcomes.append(result["outcome"])
        pointer = store.pointer()
        if result["outcome"] == "promoted" and pointer is not None:
            model, manifest = store.read(pointer.version)
            until_ms = float(manifest["trained_on"]["last_arrival_ms"])
            nights.append((float(end_ms), Learned(model, PRICE), until_ms))
    rows += [Row(f"night {n}: {each}", n, "") for n, each in enumerate(outcomes, start=1)]
    rows += corrupted(folder, log, store)
    step("replaying the week")
    loop = costs_s(week, Learned(price=PRICE), nights, days_ms)
    shift_ms = days_ms[size.shift - 1]
    stale = costs_s(
        week, Learned(price=PRICE), [each for each in nights if each[0] <= shift_ms], days_ms
    )
    known = Learned(fit(elsewhere, create_ms=300.0, price=PRICE), PRICE)
    after = week.between(shift_ms, inf)
    best = costs_s(after, known, (), days_ms[size.shift - 1 :])
    for day in range(1, size.days + 1):
        rows.append(Row(f"day {day}: cost of the loop", loop[day - 1], "s"))
        if day >= size.shift:
            rows.append(Row("  no new model since the shift", stale[day - 1], "s"))
            rows.append(Row("  trained on the new habits", best[day - size.shift], "s"))
            over = loop[day - 1] / best[day - size.shift] - 1.0
            target = 100.0 * WITHIN if day >= size.shift + 2 else None
            rows.append(Row("  the loop above that", 100.0 * over, "%", target))
    return rows


def corrupted(folder: Path, log: Path, store: Store) -> list[Row]:
    """Retrains on a damaged copy of the recording: nothing may change."""
    bad = folder / "bad"
    bad.mkdir()
    for file in log.glob("*.parquet"):
        (bad / file.name).write_bytes(file.read_bytes())
    flip(bad)
    before = store.pointer()
    code, _ = scaler("retrain", "--log", bad, "--store", store.location, "--price", str(PRICE))
    promoted = float(store.pointer() != before)
    return [
        Row("retrain on corrupted data: promotions", promoted, "", 0.0),
        Row("  its exit code (2: refused)", code, "", 2.0),
    ]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        show(run(Size(), Path(folder)), "make loop")


if __name__ == "__main__":
    main()
