"""`make keys`: a caller that makes a new key up for every request; memory must stay what it is."""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import uvloop

from tests.chaos.__main__ import Check, show
from warmscaler.cli.console import progress
from warmscaler.models.learned.policy import Learned
from warmscaler.service.live.driver import Driver
from warmscaler.service.live.waiting import Throttled
from warmscaler.service.observability.health import Health
from warmscaler.service.observability.metrics import Metrics
from warmscaler.service.persistence.ledger import Ledger
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.scheduler.limits import SERVING
from warmscaler.service.scheduler.scheduler import Scheduler
from warmscaler.service.slots.answers import Made

CALLERS = 64
PARTS = 3
GROWTH = 0.05


class Shapeless:
    """A platform that makes slots and forgets them."""

    def __init__(self) -> None:
        self.made = 0
        self.live = 0

    async def create_slot(self, request_id: str, memory_mb: int) -> Made:
        await asyncio.sleep(0)
        self.made += 1
        self.live += 1
        return Made(f"slot-{self.made}")

    async def init(self, request_id: str, slot_id: str, instance_id: str, meta: pb.Meta) -> None:
        await asyncio.sleep(0)

    async def destroy_slot(self, request_id: str, slot_id: str, reason: str) -> None:
        await asyncio.sleep(0)
        self.live -= 1


@dataclass(slots=True)
class Outcome:
    """After each part of the run, and at its end."""

    resident_mb: list[float] = field(default_factory=list)
    objects: list[int] = field(default_factory=list)
    """That Python's collector knows, of those made in the run."""
    file_mb: list[float] = field(default_factory=list)
    """Of the ledger."""
    most_apps: int = 0
    throttled: int = 0
    slots: int = 0
    waiting: int = 0
    ledger_rows: int = 0


async def hostile(folder: Path, *, count: int, apps: int = SERVING.apps) -> Outcome:
    """`count` requests, each of an app of its own, with the learned policy, ledger and metrics."""
    outcome = Outcome()
    platform, metrics = Shapeless(), Metrics(Health(), top_apps=100)
    ledger = Ledger(folder / "ledger")
    scheduler = Scheduler(Learned(), limits=replace(SERVING, apps=apps))
    driver = Driver(scheduler, platform, observers=(metrics,), ledger=ledger)
    metrics.watch(driver)
    driver.recover()
    sent = 0
    gc.collect()
    gc.freeze()  # what was there before: a leak is small beside all that is imported

    async def call(until: int) -> None:
        nonlocal sent
        while sent < until:
            sent += 1
            request_id = f"r{sent}"
            key = f"key {sent:x} " + "made up " * 20
            try:
                instance_id = await driver.assign(request_id, pb.Meta(key=key, memory_in_mb=128))
            except Throttled:
                outcome.throttled += 1
                continue
            mine = pb.Assignment(request_id=request_id, meta_key=key, instance_id=instance_id)
            driver.idle(mine, pb.Result(status_code=200, need_destroy=True))
            outcome.most_apps = max(outcome.most_apps, len(scheduler.pools))
            show_progress(sent)

    with progress("keys", count) as show_progress:
        for part in range(1, PARTS + 1):
            until = count * part // PARTS
            await asyncio.gather(*(call(until) for _ in range(CALLERS)))
            while scheduler.instances:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await ledger.flush()
            list(metrics.collect())
            gc.collect()
            outcome.objects.append(len(gc.get_objects()))
            outcome.resident_mb.append(psutil.Process().memory_info().rss / 2**20)
            outcome.file_mb.append(_size_mb(folder))
    gc.unfreeze()
    await driver.drain(5.0)
    outcome.slots, outcome.waiting = platform.live, scheduler.waiting
    outcome.ledger_rows = ledger.count()
    ledger.close()
    return outcome


def _size_mb(folder: Path) -> float:
    """But for the marks, which are as large from the beginning."""
    return sum(each.stat().st_size for each in folder.iterdir() if each.suffix != ".marks") / 2**20


def checks(outcome: Outcome) -> list[Check]:
    """What must hold; the first third fills what may be filled."""

    def flat(name: str, sizes: list[float], unit: str) -> Check:
        growth = sizes[-1] / sizes[0] - 1.0
        seen = f"{growth:+.1%} ({sizes[0]:,.0f} to {sizes[-1]:,.0f}{unit})"
        return Check(f"{name} after the first third", f"≤ +{GROWTH:.0%}", seen, growth <= GROWTH)

    most = SERVING.apps
    return [
        flat("resident memory", outcome.resident_mb, " MB"),
        flat("objects", list(map(float, outcome.objects)), ""),
        flat("the ledger's files", outcome.file_mb, " MB"),
        Check("apps known", f"≤ {most:,}", f"{outcome.most_apps:,}", outcome.most_apps <= most),
        Check("slots left", "0", str(outcome.slots), outcome.slots == 0),
        Check("slots left in the ledger", "0", str(outcome.ledger_rows), not outcome.ledger_rows),
        Check("requests that wait", "0", str(outcome.waiting), outcome.waiting == 0),
    ]


def main() -> int:
    """Exit code 0 where all holds."""
    parser = argparse.ArgumentParser(prog="make keys")
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = uvloop.run(hostile(Path(folder), count=options.count))
    notes: dict[str, object] = {"throttled": outcome.throttled}
    return show(f"{options.count:,} keys", checks(outcome), notes, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
