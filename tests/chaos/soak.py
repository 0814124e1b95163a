"""`make soak`: an hour of steady load; memory and latency must stay what they are."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import uvloop

from tests.bench.table import step
from tests.chaos.__main__ import Check, show
from tests.chaos.overload import CALLERS, WARM_UP_S, Caller, Here, under_load
from warmscaler.cli.console import progress

SHARE = 0.7
CAPACITY_S = 30.0
"""For so long a rate must be held to count as capacity."""
HELD_P99_MS = 50.0
"""A rate with a higher p99 is not held."""
STEP = 0.05
"""How much less is tried next, of what CALLERS do."""
ANEW_S = 120.0
SAMPLE_S = 10.0
DEADLINE_MS = 5_000
DESTROY_EVERY = 50
"""One request in so many ends its instance."""
GROWTH = 0.02
SLOWER = 1.3
LOST = 0.001


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
    """What it holds where requests come one by one, whatever becomes of those before."""
    closed: float | None
    """What it does where so many callers wait for each other's turn."""
    samples: list[Sample] = field(default_factory=list)
    warm_ms: list[np.ndarray] = field(default_factory=list)
    """Of each sample, how long each warm Assign took."""
    live_slots: int = -1
    anew_p99_ms: float = 0.0
    """Of a scaler started after it: what of a change is the machine's."""

    def sixths(self) -> list[slice]:
        """Where the samples of each sixth of the run are: the ten minutes of an hour."""
        whole_s = self.samples[-1].at_s
        ends = [
            sum(each.at_s <= part * whole_s / 6.0 for each in self.samples) for part in range(7)
        ]
        return [slice(*ends[part : part + 2]) for part in range(6)]

    def p99_ms(self) -> list[float]:
        """Of all the warm Assigns of each sixth."""
        return [
            float(np.quantile(np.concatenate(self.warm_ms[sixth]), 0.99)) for sixth in self.sixths()
        ]

    def medians(self, name: str) -> list[float]:
        """Of a field of Sample, for each sixth."""
        return [median(getattr(s, name) for s in self.samples[sixth]) for sixth in self.sixths()]


@asynccontextmanager
async def apart(folder: Path) -> AsyncIterator[Here]:
    """A scaler under load; its caller and its platform, this process, are held to one core of all.

    Else the kernel puts them beside the scaler's event loop for a while and takes them away again, by
    chance, and a p99 shows just that. Those of a platform are other machines. For Linux.
    """
    async with under_load(folder, deadline_ms=DEADLINE_MS, destroy_every=DESTROY_EVERY) as here:
        cores = os.sched_getaffinity(0)
        hold(here, {max(cores)})
        await here.caller.closed(CALLERS, WARM_UP_S)  # the event loop leaves that core
        try:
            yield here
        finally:
            hold(here, cores)


def hold(here: Here, cores: set[int]) -> None:
    """All threads of the caller and the platform."""
    for pid in (here.caller.pid, os.getpid()):
        for thread in psutil.Process(pid).threads():
            os.sched_setaffinity(thread.id, cores)


async def capacity(caller: Caller, held_s: float) -> tuple[float, float]:
    """The highest rate of requests held for `held_s`, all but LOST accepted and with a p99 of
    HELD_P99_MS; and that of CALLERS which call again when they are answered, where it begins.

    The second is more than a scaler holds: such callers come in step with it, and wait when it does.
    """
    closed = (await caller.closed(CALLERS, held_s)).rate
    share = 1.0
    while share > STEP:
        seen = await caller.open(share * closed, held_s)
        await caller.closed(1, 0.1)  # all that is under way ends
        held = seen.sent - seen.outcomes["accepted"] <= LOST * seen.sent
        if held and seen.warm_ms(0.99) <= HELD_P99_MS:
            return share * closed, closed
        share -= STEP
    raise RuntimeError("no rate is held")


async def soak(
    folder: Path, *, duration_s: float, rate: float | None, on_sample: Callable[[Sample], None]
) -> Soaked:
    """`rate` None is SHARE of what it can do, measured first."""
    (folder / "anew").mkdir()
    async with apart(folder) as here:
        held = closed = None
        if rate is None:
            step("what it can do")
            held, closed = await capacity(here.caller, min(CAPACITY_S, duration_s / 20.0))
            rate = SHARE * held
        soaked = Soaked(rate, held, closed)
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
                soaked.warm_ms.append(1_000.0 * np.asarray(seen.warm_s))
                on_sample(sample)
                show_progress(at_s)
        await asyncio.sleep(1.0)
    soaked.live_slots = here.platform.live_slots
    step("a scaler started anew")
    async with apart(folder / "anew") as here:
        anew = await here.caller.open(rate, min(ANEW_S, duration_s / 6.0))
        soaked.anew_p99_ms = anew.warm_ms(0.99)
    return soaked


def checks(soaked: Soaked) -> list[Check]:
    """What must hold. A backlog takes memory while it stands; growth is what stays of it."""
    first, *later = soaked.sixths()
    samples = soaked.samples
    begin_mb = median(each.resident_mb for each in samples[first][-6:])
    end_mb = max(soaked.medians("resident_mb")[1:])
    peak_mb = max(each.resident_mb for sixth in later for each in samples[sixth])
    growth = end_mb / begin_mb - 1.0
    p99_ms = soaked.p99_ms()
    lost = sum(each.sent - each.accepted for each in samples)
    sent = sum(each.sent for each in samples)
    return [
        Check(
            "resident memory, the highest median of a later sixth against the end of the first",
            f"< +{GROWTH:.0%}",
            f"{growth:+.1%} ({begin_mb:.1f} to {end_mb:.1f} MB, for a moment {peak_mb:.1f})",
            growth < GROWTH,
        ),
        Check(
            "p99 of all warm Assigns of the last sixth against the first",
            f"≤ {SLOWER:g} times",
            f"{p99_ms[-1] / p99_ms[0]:.2f} ({p99_ms[0]:.1f} to {p99_ms[-1]:.1f} ms)",
            p99_ms[-1] <= SLOWER * p99_ms[0],
        ),
        Check(
            "requests not accepted",
            f"≤ {LOST:.1%} of {sent:,}",
            f"{lost:,}",
            lost <= LOST * sent,
        ),
        Check("slots left after SIGTERM", "0", str(soaked.live_slots), soaked.live_slots == 0),
    ]


def listed(figures: list[float]) -> str:
    """One for each sixth."""
    return ", ".join(f"{figure:.1f}" for figure in figures)


def main() -> int:
    """Exit code 0 where all holds."""
    parser = argparse.ArgumentParser(prog="make soak")
    parser.add_argument("--duration", type=float, default=3_600.0, help="seconds")
    parser.add_argument("--rate", type=float, help="requests a second; else 70 %% of capacity")
    parser.add_argument("--samples", type=Path, help="a file for every sample, JSON a line")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.samples is not None:
        options.samples.write_text("")

    def keep(sample: Sample) -> None:
        if options.samples is not None:
            with options.samples.open("a") as file:
                file.write(json.dumps(asdict(sample)) + "\n")

    # The platform's account grows by each slot; looking through all of it would hold the platform.
    gc.disable()
    with tempfile.TemporaryDirectory() as folder:
        soaked = uvloop.run(
            soak(Path(folder), duration_s=options.duration, rate=options.rate, on_sample=keep)
        )
    measured = "not measured"
    if soaked.capacity is not None:
        measured = f"{soaked.capacity:,.0f} held; {CALLERS} callers in step do {soaked.closed:,.0f}"
    notes: dict[str, object] = {
        "capacity, requests a second": measured,
        "rate, requests a second": f"{soaked.rate:,.0f}",
        "by sixths: p99 of all, ms": listed(soaked.p99_ms()),
        "p99 of a scaler started anew, right after, ms": f"{soaked.anew_p99_ms:.1f}",
        "p99 of 10 s, ms (medians)": listed(soaked.medians("warm_p99_ms")),
        "resident, MB (medians)": listed(soaked.medians("resident_mb")),
        "taken by the host's other guests, % (medians)": listed(soaked.medians("stolen_percent")),
        "cores": f"{os.cpu_count()}; platform and caller are held to one, the scaler may use them all",
    }
    return show(f"soak, {options.duration:g} s", checks(soaked), notes, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
