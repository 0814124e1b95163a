"""`make soak`: an hour of steady load; memory and latency must stay what they are."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import psutil
import uvloop

from cli.console import progress
from tests.chaos.__main__ import Check, show
from tests.chaos.overload import CALLERS, under_load

SHARE = 0.7
CAPACITY_S = 180.0
"""Minutes, not moments: seventy percent of what a machine does at its best is more than it holds."""
SAMPLE_S = 10.0
DEADLINE_MS = 5_000
DESTROY_EVERY = 50
"""One request in so many ends its instance."""
GROWTH = 0.02
SLOWER = 1.3


@dataclass(frozen=True, slots=True)
class Sample:
    """A stretch of the run."""

    at_s: float
    resident_mb: float
    warm_p99_ms: float
    sent: int
    accepted: int
    stolen_percent: float
    """Of the machine's processor time since the sample before, taken by its host's other guests."""


@dataclass(slots=True)
class Soaked:
    """A run."""

    rate: float
    capacity: float | None
    samples: list[Sample] = field(default_factory=list)
    live_slots: int = -1

    def stretch(self, begin: float, end: float) -> list[Sample]:
        """The samples of a part of the run, both from 0 to 1."""
        whole_s = self.samples[-1].at_s
        return [each for each in self.samples if begin * whole_s < each.at_s <= end * whole_s]


async def soak(folder: Path, *, duration_s: float, rate: float | None) -> Soaked:
    """`rate` None is SHARE of what it can do, measured first."""
    async with under_load(folder, deadline_ms=DEADLINE_MS, destroy_every=DESTROY_EVERY) as here:
        capacity = None
        if rate is None:
            capacity = (await here.caller.closed(CALLERS, min(CAPACITY_S, duration_s / 6.0))).rate
            rate = SHARE * capacity
        soaked = Soaked(rate, capacity)
        psutil.cpu_times_percent()
        process = psutil.Process(here.scaler.pid)
        began_s = time.monotonic()
        with progress("soaking", duration_s) as show_progress:
            while (at_s := time.monotonic() - began_s) < duration_s:
                seen = await here.caller.open(rate, min(SAMPLE_S, duration_s / 12.0))
                sample = Sample(
                    at_s=time.monotonic() - began_s,
                    resident_mb=process.memory_info().rss / 2**20,
                    warm_p99_ms=seen.warm_ms(0.99),
                    sent=seen.sent,
                    accepted=seen.outcomes["accepted"],
                    stolen_percent=getattr(psutil.cpu_times_percent(), "steal", 0.0),
                )
                soaked.samples.append(sample)
                show_progress(at_s)
        await asyncio.sleep(1.0)
    soaked.live_slots = here.platform.live_slots
    return soaked


def checks(soaked: Soaked) -> list[Check]:
    """The first and the last sixth are the ten minutes of an hour."""
    sixth = 1.0 / 6.0
    first, later, last = (
        soaked.stretch(0.0, sixth),
        soaked.stretch(sixth, 1.0),
        soaked.stretch(1.0 - sixth, 1.0),
    )
    resident_mb = first[-1].resident_mb
    most_mb = max(each.resident_mb for each in later)
    growth = most_mb / resident_mb - 1.0
    begin_ms, end_ms = (median(each.warm_p99_ms for each in part) for part in (first, last))
    lost = sum(each.sent - each.accepted for each in soaked.samples)
    sent = sum(each.sent for each in soaked.samples)
    return [
        Check(
            "resident memory after the first sixth of the run",
            f"< +{GROWTH:.0%}",
            f"{growth:+.1%} ({resident_mb:.1f} to at most {most_mb:.1f} MB)",
            growth < GROWTH,
        ),
        Check(
            "p99 of the last sixth against the first (medians of its samples)",
            f"≤ {SLOWER:g} times",
            f"{end_ms / begin_ms:.2f} ({begin_ms:.1f} to {end_ms:.1f} ms)",
            end_ms <= SLOWER * begin_ms,
        ),
        Check(
            "requests not accepted",
            f"≤ 0.1% of {sent:,}",
            f"{lost:,}",
            lost <= 0.001 * sent,
        ),
        Check("slots left after SIGTERM", "0", str(soaked.live_slots), soaked.live_slots == 0),
    ]


def by_sixth(sixths: list[list[Sample]], name: str) -> str:
    """The medians of a field of Sample."""
    return ", ".join(f"{median(getattr(each, name) for each in part):.1f}" for part in sixths)


def main() -> int:
    """Exit code 0 where all holds."""
    parser = argparse.ArgumentParser(prog="make soak")
    parser.add_argument("--duration", type=float, default=3_600.0, help="seconds")
    parser.add_argument("--rate", type=float, help="requests a second; else 70 % of capacity")
    parser.add_argument("--samples", type=Path, help="a file for every sample, JSON a line")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soaked = uvloop.run(soak(Path(folder), duration_s=options.duration, rate=options.rate))
    if options.samples is not None:
        options.samples.write_text("".join(json.dumps(asdict(s)) + "\n" for s in soaked.samples))
    capacity = soaked.capacity
    sixths = [soaked.stretch(part / 6.0, (part + 1) / 6.0) for part in range(6)]
    notes: dict[str, object] = {
        "capacity, requests a second": "not measured" if capacity is None else f"{capacity:,.0f}",
        "rate, requests a second": f"{soaked.rate:,.0f}",
        "by sixths: p99, ms (medians)": by_sixth(sixths, "warm_p99_ms"),
        "resident, MB (medians)": by_sixth(sixths, "resident_mb"),
        "taken by the host's other guests, %": by_sixth(sixths, "stolen_percent"),
        "cores": f"{os.cpu_count()}, shared by scaler, platform and caller",
    }
    return show(f"soak, {options.duration:g} s", checks(soaked), notes, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
