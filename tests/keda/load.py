"""`make keda-load`: many ScaledObjects, each asked for by KEDA and by the HPA every 15 s."""

from __future__ import annotations

import argparse
import asyncio
import math
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import psutil

from tests.bench.table import Row, show, step
from tests.keda.published import Client, scaled_object
from tests.keda.serving import trigger
from tests.keda.world import Exporter, exporter, prometheus
from tests.service.running import scaler
from warmscaler.service.address import DIRECT
from warmscaler.service.keda.servicer import METRIC

PERIOD_S = 15.0


@dataclass
class Loaded:
    """What came of it."""

    calls: int = 0
    failed: int = 0
    wrong: int = 0
    """Answers that were right for no look of the last minute."""
    metric_s: list[float] = field(default_factory=list)
    """How long each GetMetrics took its caller."""
    spec_s: list[float] = field(default_factory=list)
    """The same of GetMetricSpec, which is a constant: what the machine and the wire take."""
    cpu: float = 0.0
    """Cores."""
    memory_mb: float = 0.0


async def run(folder: Path, count: int, measured_s: float) -> Loaded:
    """`measured_s` from when every app has been looked at."""
    seen = Loaded()
    with exporter() as service:
        for number in range(count):
            service.in_flight[f"app-{number}"] = _level(number)
        with prometheus(folder / "p", service.port, scrape_s=5.0) as server:
            options = ("--prometheus", server.url, "--interval", PERIOD_S)
            with scaler(*options, subcommand="keda") as process:
                address = await asyncio.to_thread(lambda: process.address)
                watched = psutil.Process(process.process.pid)
                async with grpc.aio.insecure_channel(address, [DIRECT]) as channel:
                    client = Client(channel)
                    refs = [scaled_object(f"app-{n}", _metadata(n)) for n in range(count)]
                    await _known(client, refs)
                    before, begun_s = watched.cpu_times(), time.monotonic()
                    end_s = begun_s + measured_s
                    await asyncio.gather(
                        *(_ask(seen, client, refs, n, end_s, service) for n in range(count))
                    )
                    after, took_s = watched.cpu_times(), time.monotonic() - begun_s
                    cpu_s = after.user + after.system - before.user - before.system
                    seen.cpu = cpu_s / took_s
                    seen.memory_mb = watched.memory_info().rss / 2.0**20
    return seen


def _level(number: int) -> float:
    return float(number % 50)


def _metadata(number: int) -> dict[str, str]:
    return trigger(f"app-{number}", containerConcurrency="4", startSeconds="20")


async def _known(client: Client, refs: list[Any]) -> None:
    """Every one has been looked at."""
    gate = asyncio.Semaphore(32)

    async def one(ref: Any) -> None:
        async with gate:
            async with asyncio.timeout(600.0):
                while True:
                    try:
                        await client.metric(ref, METRIC)
                        return
                    except grpc.aio.AioRpcError:
                        await asyncio.sleep(0.5)

    await asyncio.gather(*(one(ref) for ref in refs))


async def _ask(
    seen: Loaded, client: Client, refs: list[Any], number: int, end_s: float, service: Exporter
) -> None:
    """As KEDA's loop and the HPA do, both in every period."""
    ref = refs[number]
    await asyncio.sleep(PERIOD_S * number / len(refs))
    while time.monotonic() < end_s:
        for _ in ("KEDA", "HPA"):
            try:
                sent_s = time.perf_counter()
                await client.spec(ref)
                seen.spec_s.append(time.perf_counter() - sent_s)
                sent_s = time.perf_counter()
                metric = await client.metric(ref, METRIC)
                seen.metric_s.append(time.perf_counter() - sent_s)
                active = await client.is_active(ref)
                wanted = math.ceil(_level(number) / 4.0)
                seen.wrong += metric < wanted or active != (metric > 0)
            except grpc.aio.AioRpcError:
                seen.failed += 1
            seen.calls += 3
            await asyncio.sleep(PERIOD_S / 2.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--duration", type=float, default=120.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    step(f"{options.count:,} ScaledObjects for {options.duration:g} s")
    with tempfile.TemporaryDirectory() as folder:
        seen = asyncio.run(run(Path(folder), options.count, options.duration))
    took, bare = sorted(seen.metric_s), sorted(seen.spec_s)
    rows = [
        Row("calls", seen.calls, ""),
        Row("calls that failed", seen.failed, "", 0),
        Row("answers below what is in use", seen.wrong, "", 0),
        Row("CPU of scaler keda", seen.cpu, "cores", 0.5),
        Row("memory of scaler keda", seen.memory_mb, "MB", 500),
        Row("GetMetrics, median", 1_000.0 * took[len(took) // 2], "ms"),
        Row("GetMetricSpec, a constant, p99", 1_000.0 * bare[len(bare) * 99 // 100], "ms"),
        Row("GetMetrics, p99", 1_000.0 * took[len(took) * 99 // 100], "ms", 20),
    ]
    show(rows, f"{options.count:,} ScaledObjects at {PERIOD_S:g} s")


if __name__ == "__main__":
    main()
