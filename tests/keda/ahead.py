"""KEDA's loop over apps with recurring rises: whose replicas are there before the load?"""

from __future__ import annotations

import asyncio
import math
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
SETTLES_S = 90.0
"""So long before the first rise all is looked at: the past is read, and compiled for, once."""


@dataclass
class Ahead:
    """What came of it."""

    rises: int = 0
    ahead: int = 0
    """Rises before which enough replicas were asked for a start-up time or more earlier."""
    with_room: int = 0
    """The same, with as much room in each as was asked for."""
    asked_s: list[float] = field(default_factory=list)
    """How long before the latest right time enough were asked for; below 0 is too late."""
    over: float = 0.0
    """Replicas asked for an hour of the whole time, above those in use."""
    errors: list[str] = field(default_factory=list)
    """After its first answer."""


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
    seen, known = Ahead(rises=len(rises)), set[str]()

    async def one(number: int, rise: Rise) -> None:
        metadata = trigger(
            rise.app,
            # What was written into the storage has no labels of a scrape.
            query=f'max(in_flight{{app="{rise.app}"}})',
            containerConcurrency=str(rise.concurrency),
            startSeconds=f"{rise.start_s:g}",
            price="0.01",
        )
        scaled = Scaled(client, scaled_object(rise.app, metadata), replicas=1)
        at_s = rise.of_day(0)[0]
        enough_s: dict[int, float] = {}
        await asyncio.sleep(acts_s * number / len(rises))  # KEDA does not ask for all at once
        while (now_s := time.time()) < at_s:
            before = len(scaled.errors)
            await scaled.poll()
            if rise.app not in known:
                if len(scaled.errors) == before:
                    known.add(rise.app)
                scaled.errors.clear()
            await scaled.hpa()
            used = rise.value(now_s) / rise.concurrency
            seen.over += max(0.0, scaled.replicas - math.ceil(used)) * acts_s / 3_600.0
            for wanted in (rise.needed(), rise.planned()):
                if scaled.replicas < wanted:
                    enough_s.pop(wanted, None)
                else:
                    enough_s.setdefault(wanted, now_s)
            await asyncio.sleep(max(0.0, min(acts_s, at_s - time.time() + 0.01)))
        latest_s = at_s - rise.start_s
        seen.ahead += enough_s.get(rise.needed(), at_s) <= latest_s
        seen.with_room += enough_s.get(rise.planned(), at_s) <= latest_s
        seen.asked_s.append(latest_s - enough_s.get(rise.needed(), math.inf))
        seen.errors += scaled.errors

    await asyncio.gather(*(one(number, rise) for number, rise in enumerate(rises)))
    return seen
