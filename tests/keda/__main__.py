"""`make keda`: replicas there before recurring rises, by KEDA's loop and a real Prometheus."""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import tempfile
from pathlib import Path
from statistics import median

from tests.bench.table import Row, show, step
from tests.keda.ahead import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--window", type=float, default=240.0, help="seconds of rises")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    step(f"{options.count} apps with three days behind them, {options.window:g} s of rises")
    with tempfile.TemporaryDirectory() as folder:
        work = run(Path(folder), options.count, options.window, acts_s=15.0, interval_s=15.0)
        seen = asyncio.run(work)
    early = [each for each in seen.asked_s if math.isfinite(each)]
    rows = [
        Row("rises that came", seen.rises, ""),
        Row("replicas there before the load", 100.0 * seen.ahead / seen.rises, "%", 90.0, False),
        Row("and with a fifth of room in each", 100.0 * seen.with_room / seen.rises, "%"),
        Row("asked for before the last right time, median", median(early or [0.0]), "s"),
        Row("never asked for in time", seen.rises - len(early), ""),
        Row("replica-hours above what was in use", seen.over, "h"),
        Row("calls that failed", len(seen.errors), "", 0),
    ]
    for error in sorted(set(seen.errors))[:5]:
        print(error, file=sys.stderr)
    show(rows, "KEDA's loop ahead of recurring rises")


if __name__ == "__main__":
    main()
