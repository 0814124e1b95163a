"""What each client meets: `scaler serve` as it is run, and a simulated platform behind it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.service.running import PATIENCE_S, Process, get, scaler
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.simulator.platform import SimulatedPlatform

START_MS = 1_500.0
"""Of an app whose name begins with `slow`."""
DRAIN_S = 20.0
"""More than anything that is in flight needs: a drain that takes so long waits for a lost answer."""


@dataclass
class Stage:
    """A scaler that runs, alone with one client."""

    platform: SimulatedPlatform
    process: Process
    address: str

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.address.rpartition(":")[2])

    async def metric(self, name: str, **labels: str) -> float:
        """One sample of its metrics page."""
        _, text = await asyncio.to_thread(get, f"{self.process.page}/metrics")
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return float(sample.value)
        raise AssertionError(f"no metric {name}")

    async def until(self, value: float, name: str, **labels: str) -> None:
        """Until a sample has this value. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_S):
            while await self.metric(name, **labels) != value:  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(0.01)

    async def until_waiting(self, count: int) -> None:
        """Until so many requests wait. Raises TimeoutError."""
        await self.until(count, "scaler_waiting_requests")

    def connections(self, port: int | None = None) -> set[int]:
        """The callers' ports of the open connections to the scaler, or to `port`."""
        here = port or self.port
        return {
            each.raddr.port
            for each in psutil.net_connections("tcp")
            if each.status == psutil.CONN_ESTABLISHED
            and each.laddr
            and each.raddr
            and each.laddr.port == here
        }

    async def end(self) -> int:
        """SIGTERM. Returns its exit code."""
        return await asyncio.to_thread(self.process.terminate)


def meta(app: str) -> pb.Meta:
    """An app of the platform's."""
    return pb.Meta(key=app, runtime="go", timeout_in_secs=60, memory_in_mb=128)


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """Instances are kept for ten minutes."""
    init_ms = {"fast": 1.0} | {f"slow-{number}": START_MS for number in range(8)}
    platform = SimulatedPlatform(init_ms, create_ms=1.0)
    await platform.start()
    options = ("--platform", f"127.0.0.1:{platform.port}", "--policy", "fixed:600")
    serving = ("--metrics-port", "0", "--drain", DRAIN_S)
    with scaler(*options, *serving) as process:
        address = await asyncio.to_thread(lambda: process.address)
        yield Stage(platform, process, address)
    await platform.stop()


def refused(address: str) -> bool:
    """Whether nobody listens there."""
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0
