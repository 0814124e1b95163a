"""KEDA's loop over apps with recurring rises: whose replicas are there before the load?"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import grpc.aio

from tests.keda.played import Scaled
from tests.keda.published import Client, scaled_object
from tests.keda.rises import Rise, backfill, drawn
from tests.keda.serving import trigger
from tests.keda.world import exporter, prometheus
from tests.service.running import Process, scaler
from warmscaler.service.address import DIRECT

HISTORY_DAYS = 3
SETTLES_S = 60.0
"""So long before the first rise all is looked at."""


@dataclass
class Ahead:
    """What came of it."""

    rises: int = 0
    ahead: int = 0
    """Rises before which enough replicas were asked for a start-up time or more earlier."""
    asked_s: list[float] = field(default_factory=list)
    """How long before the latest right time enough were asked for; below 0 is too late."""
    over: float = 0.0
    """Replicas asked for an hour of the whole time, above those in use."""
    errors: int = 0


async def run(
    folder: Path, count: int, window_s: float, *, acts_s: float, interval_s: float, seed: int = 1
) -> Ahead:
    """`acts_s` is KEDA's pollingInterval and the HPA's period; `interval_s` that of our looks."""
    start_s = time.time()
    first_s = start_s + SETTLES_S + 20.0 + count * 0.2
    rises = drawn(count, first_s, first_s + window_s, seed)
    with exporter() as service:
        service.in_flight |= {rise.app: partial(_now, rise) for rise in rises}
        backfill(rises, folder / "p" / "data", start_s - 30.0, HISTORY_DAYS)
        with prometheus(folder / "p", service.port) as measured:
            options = ("--prometheus", measured.url, "--interval", interval_s, "--history", "4d")
            with scaler(*options, subcommand="keda") as process:
                address = await asyncio.to_thread(_listening, process)
                async with grpc.aio.insecure_channel(address, [DIRECT]) as channel:
                    return await _play(Client(channel), rises, acts_s, first_s + window_s)


def _now(rise: Rise) -> float:
    return rise.value(time.time())


def _listening(process: Process) -> str:
    return process.address


async def _play(client: Client, rises: list[Rise], acts_s: float, until_s: float) -> Ahead:
    seen = Ahead(rises=len(rises))

    async def one(number: int, rise: Rise) -> None:
        metadata = trigger(
            rise.app,
            containerConcurrency=str(rise.concurrency),
            startSeconds=f"{rise.start_s:g}",
            price="0.001",
        )
        scaled = Scaled(client, scaled_object(rise.app, metadata), replicas=1)
        at_s, needed = rise.of_day(0)[0], rise.needed()
        enough_s: float | None = None
        await asyncio.sleep(acts_s * number / len(rises))  # KEDA does not ask for all at once
        while (now_s := time.time()) < at_s:
            await scaled.poll()
            await scaled.hpa()
            used = rise.value(now_s) / rise.concurrency
            seen.over += max(0.0, scaled.replicas - used) * acts_s / 3_600.0
            if scaled.replicas < needed:
                enough_s = None
            elif enough_s is None:
                enough_s = now_s
            await asyncio.sleep(max(0.0, min(acts_s, at_s - time.time() + 0.01)))
        latest_s = at_s - rise.start_s
        seen.ahead += enough_s is not None and enough_s <= latest_s
        seen.asked_s.append(float("-inf") if enough_s is None else latest_s - enough_s)
        seen.errors += len(scaled.errors)

    await asyncio.gather(*(one(number, rise) for number, rise in enumerate(rises)))
    return seen
