"""`make overload`: three times what the scaler can do, with callers that do not wait long."""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

import uvloop

from tests.bench.table import step
from tests.chaos.__main__ import Check, show
from tests.chaos.flood import Flood, Seen, connect
from tests.chaos.scenario import Scaler
from warmscaler.simulator.platform import SimulatedPlatform

APPS = 32
CALLERS = 32
TIMES = 3.0
DEADLINE_MS = 200
PENDING_CALLS = 1_000
"""For callers that wait for so short: see --max-pending-calls."""
KEEP_S = 300
CAPACITY_S = 10.0
WARM_UP_S = 2.0
REST_S = 0.5
RESTS = 24
RESTED_SHARE = 0.5
WELL = 4
"""So many REST_S without a fault, one after the other, are recovery: a hiccup after them is another
matter."""
GOODPUT_SHARE = 0.85
WARM_P99_MS = 50.0
RECOVERY_S = 5.0


class Caller:
    """A caller in a process of its own: its CPU is not the scaler's."""

    def __init__(self, port: int, deadline_ms: int, destroy_every: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_call, args=(theirs, port, deadline_ms, destroy_every), daemon=True
        )
        self._process.start()

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process.pid is not None
        return self._process.pid

    async def closed(self, callers: int, duration_s: float) -> Seen:
        """See Flood."""
        return await self._ask("closed", callers, duration_s)

    async def open(self, rate: float, duration_s: float) -> Seen:
        """See Flood."""
        return await self._ask("open", rate, duration_s)

    def close(self) -> None:
        """Ends the process."""
        self._pipe.send(None)
        self._process.join(20.0)

    async def _ask(self, kind: str, load: float, duration_s: float) -> Seen:
        self._pipe.send((kind, load, duration_s))
        answer = await asyncio.to_thread(self._pipe.recv)
        if isinstance(answer, str):
            raise RuntimeError(f"the connection ended: {answer}")
        return cast(Seen, answer)


def _call(pipe: Connection, port: int, deadline_ms: int, destroy_every: int) -> None:
    async def run() -> None:
        flood = await connect(port, APPS, deadline_ms, destroy_every)
        while (asked := await asyncio.to_thread(pipe.recv)) is not None:
            kind, load, duration_s = asked
            seen = await getattr(Flood, kind)(flood, load, duration_s)
            pipe.send(flood.lost or seen)

    uvloop.run(run())


@dataclass(frozen=True, slots=True)
class Here:
    """A scaler in its process, its platform in this one, and a caller in a third."""

    scaler: Scaler
    platform: SimulatedPlatform
    caller: Caller


@asynccontextmanager
async def under_load(
    folder: Path, *more: str, deadline_ms: int = DEADLINE_MS, destroy_every: int = 0
) -> AsyncIterator[Here]:
    """With a ledger and metrics; instances start at once and stay."""
    platform = SimulatedPlatform({f"app-{n}": 0.0 for n in range(APPS)}, create_ms=0.0)
    await platform.start()
    scaler = Scaler(folder, platform.port, *more, policy=f"fixed:{KEEP_S}", reclaim_s=60.0)
    await scaler.start()
    caller = Caller(scaler.port, deadline_ms, destroy_every)
    try:
        await caller.closed(CALLERS, WARM_UP_S)
        yield Here(scaler, platform, caller)
    finally:
        caller.close()
        await scaler.terminate()
        await platform.stop()


@dataclass(frozen=True, slots=True)
class Outcome:
    """Capacity, overload, and what came after."""

    before: Seen
    overload: Seen
    rests: list[bool]
    """Of each REST_S after it, whether it was as it should be."""
    after: Seen
    live_slots: int

    def recovery_s(self) -> float | None:
        """From when on WELL stretches in a row were good. None where there are none."""
        for turn in range(len(self.rests) - WELL + 1):
            if all(self.rests[turn : turn + WELL]):
                return turn * REST_S
        return None


async def overload(folder: Path, *, duration_s: float, capacity_s: float = CAPACITY_S) -> Outcome:
    """Measures, overloads, lets go."""
    async with under_load(folder, "--max-pending-calls", str(PENDING_CALLS)) as here:
        step("what it can do")
        before = await here.caller.closed(CALLERS, capacity_s)
        step(f"{TIMES:g} times that, for {duration_s:g} s")
        over = await here.caller.open(TIMES * before.rate, duration_s)
        step("recovery")
        rests = []
        for _ in range(RESTS):
            rest = await here.caller.open(RESTED_SHARE * before.rate, REST_S)
            refused = sum(rest.outcomes.values()) - rest.outcomes["accepted"]
            rests.append(refused <= 0.01 * rest.sent and rest.warm_ms(0.99) <= WARM_P99_MS)
        after = await here.caller.closed(CALLERS, capacity_s)
    return Outcome(before, over, rests, after, here.platform.live_slots)


def checks(outcome: Outcome) -> list[Check]:
    """The targets."""
    before, over, recovery_s = outcome.before, outcome.overload, outcome.recovery_s()
    share = over.rate / before.rate
    p99_ms = over.warm_ms(0.99)
    return [
        Check(
            "goodput, of capacity", f"≥ {GOODPUT_SHARE:.0%}", f"{share:.0%}", share >= GOODPUT_SHARE
        ),
        Check(
            "p99 of accepted warm Assigns, at the caller",
            f"< {WARM_P99_MS:g} ms",
            f"{p99_ms:.1f} ms",
            0.0 < p99_ms < WARM_P99_MS,
        ),
        Check(
            "recovery",
            f"< {RECOVERY_S:g} s",
            "never" if recovery_s is None else f"{recovery_s:g} s",
            recovery_s is not None and recovery_s < RECOVERY_S,
        ),
        Check("slots left after SIGTERM", "0", str(outcome.live_slots), outcome.live_slots == 0),
    ]


def main() -> int:
    """Exit code 0 where all holds."""
    parser = argparse.ArgumentParser(prog="make overload")
    parser.add_argument("--duration", type=float, default=120.0, help="seconds")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = uvloop.run(overload(Path(folder), duration_s=options.duration))
    before, over, after = outcome.before, outcome.overload, outcome.after
    notes: dict[str, object] = {
        "capacity, requests a second": f"{before.rate:,.0f}; {after.rate:,.0f} after",
        "sent, a second": f"{over.sent / over.took_s:,.0f}, each with {DEADLINE_MS} ms to wait",
        "accepted and done, a second": f"{over.rate:,.0f}",
        "what came of them": dict(over.outcomes),
        f"bad stretches of {REST_S:g} s after it": f"{outcome.rests.count(False)} of {RESTS}",
        "Idles sent again": over.idles_again,
        "p50 of accepted warm Assigns, ms": round(over.warm_ms(0.5), 1),
        "cores": f"{os.cpu_count()}, shared by scaler, platform and caller "
        f"(which took {over.cpu_s / over.took_s:.0%} of one)",
    }
    title = f"overload, {options.duration:g} s"
    return show(title, checks(outcome), notes, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
