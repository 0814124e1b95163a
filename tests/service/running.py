"""Real scalers for tests: one in this process, and one as its own process."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import grpc.aio

from warmscaler.models.policy import Policy
from warmscaler.models.published.fixed import Fixed
from warmscaler.service.front.server import ScalerServer
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.proto.scaler_pb2_grpc import ScalerStub
from warmscaler.simulator.platform import SimulatedPlatform

PATIENCE_S = 30.0
META = pb.Meta(key="app", runtime="go", timeout_in_secs=60, memory_in_mb=128)


def assign(request_id: str = "r", meta: pb.Meta = META) -> pb.AssignRequest:
    return pb.AssignRequest(request_id=request_id, timestamp=1, meta_data=meta)


def done(assignment: pb.Assignment, *, need_destroy: bool = False) -> pb.IdleRequest:
    return pb.IdleRequest(
        assigment=assignment, result=pb.Result(status_code=200, need_destroy=need_destroy)
    )


@dataclass
class Served:
    """A scaler in this process, its platform, and a client's stub."""

    server: ScalerServer
    platform: SimulatedPlatform
    stub: Any


@asynccontextmanager
async def served(
    policy: Policy | None = None,
    *,
    init_ms: float = 1.0,
    create_ms: float = 1.0,
    watch: Callable[[ScalerServer], None] = lambda _: None,
    **more: Any,
) -> AsyncIterator[Served]:
    platform = SimulatedPlatform({"app": init_ms, "other": init_ms}, create_ms=create_ms)
    await platform.start()
    server = ScalerServer(
        policy or Fixed(300.0), f"127.0.0.1:{platform.port}", "127.0.0.1:0", **more
    )
    watch(server)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield Served(server, platform, ScalerStub(channel))  # type: ignore[no-untyped-call]
    finally:
        # One that is left running hangs the process when it is collected.
        await server.stop(2.0)
        await platform.stop()
    assert platform.live_slots == 0


async def until(holds: Callable[[], bool]) -> None:
    """Waits for what the other side does."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(0.01)


@dataclass
class Process:
    """A scaler as it is run, on ports of the system's choice."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def until(self, pattern: str) -> re.Match[str]:
        """The first line of its log that matches; fails if it ends without one."""
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            ended = self.process.poll() is not None
            for line in list(self.lines):
                if match := re.search(pattern, line):
                    return match
            assert not ended, self.lines
            time.sleep(0.02)
        raise AssertionError(f"no line {pattern!r} in {self.lines}")

    @property
    def address(self) -> str:
        return "127.0.0.1:" + self.until(r"serving on port (\d+)")[1]

    @property
    def page(self) -> str:
        return "http://127.0.0.1:" + self.until(r"metrics and health on port (\d+)")[1]

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)


@contextmanager
def scaler(
    *arguments: object, subcommand: str = "serve", listens: bool = True
) -> Iterator[Process]:
    command = [
        sys.executable,
        "-m",
        "warmscaler",
        subcommand,
        *(("--port", "0") if listens else ()),
    ]
    command += map(str, arguments)
    process = Process(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
    try:
        yield process
    finally:
        process.process.kill()
        process.process.wait()


def get(url: str) -> tuple[int, str]:
    """Status and body of a page."""
    try:
        with urlopen(url, timeout=PATIENCE_S) as reply:  # noqa: S310 - our own page
            return reply.status, reply.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()
