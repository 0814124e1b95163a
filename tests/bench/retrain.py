"""`make bench-retrain`: `scaler retrain` on two million recorded requests, as a nightly job runs it.

The recording is a generated trace, written through the recorder's own writer in segments of the size
that the recorder closes. The store has a version in service, which is judged as well.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.bench.commands import run
from tests.bench.table import Row, show, step
from tests.training.test_retrain import record
from warmscaler.data.generate import generate
from warmscaler.models.artifact.store import Store
from warmscaler.training.fitting.fit import fit

REQUESTS = 2_000_000
APPS = 400
DAYS = 14.0
SEGMENTS_A_DAY = 96
"""One every 15 minutes, as the recorder closes them."""
TARGET_S = 300.0
TARGET_MB = 2_000.0


def prepare(log: Path, store: Store, requests: int, apps: int) -> int:
    """Records the traffic, and puts a version in service that knows its first tenth. Returns how
    many segments there are."""
    step("recording")
    trace = generate("azure", apps=apps, days=DAYS, requests=requests, seed=3)
    record(trace, log, segments=round(DAYS * SEGMENTS_A_DAY), prefix="20260101")
    early = trace.between(-np.inf, float(trace.arrival_ms[len(trace) // 10]))
    step("the first version")
    version = store.add(fit(early, create_ms=300.0, jobs=2), {"created": ""})
    store.promote(version)
    return len(list(log.iterdir()))


def measure(requests: int, apps: int, jobs: int) -> list[Row]:
    """The table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log, store = folder / "log", Store(str(folder / "store"))
        segments = prepare(log, store, requests, apps)
        step("retraining")
        began_s = time.monotonic()
        given = ("--log", str(log), "--store", store.location, "--jobs", str(jobs), "--json")
        took_s, peak_mb, output = run("retrain", *given)
        step(f"done after {time.monotonic() - began_s:.0f} s")
    result = json.loads(output)
    return [
        Row("scaler retrain, the command whole", took_s, "s", TARGET_S),
        Row("  its peak memory, all processes", peak_mb, "MB", TARGET_MB),
        Row("  requests", float(result["window"]["requests"]), ""),
        Row("  segments", segments, ""),
        Row(f"  outcome: {result['outcome']}", 1.0, ""),
        *(
            Row(f"  cost on what was held out, {name}", figures["cost_s"], "s")
            for name, figures in result["judged"].items()
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-retrain")
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--apps", type=int, default=APPS)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    show(measure(given.requests, given.apps, given.jobs), "make bench-retrain")


if __name__ == "__main__":
    main()
