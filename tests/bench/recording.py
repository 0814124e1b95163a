"""`make bench-recording`: throughput of one server with recording on against one with it off.

Both servers are processes of their own, behind the same caller, who keeps one of them as busy as it
can be. They take short turns, so that what else the machine does hits both; each of the two is first
every other time.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc.aio
import uvloop

from tests.bench.service_cost import APPS, BackgroundServer
from tests.bench.table import Row, show, step
from warmscaler.data.read import read_trace
from warmscaler.models.registry import make_policy
from warmscaler.service.front.memory import settle_memory
from warmscaler.service.front.server import ScalerServer
from warmscaler.service.persistence.recording import Recorder
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.proto import scaler_pb2_grpc
from warmscaler.simulator.platform import SimulatedPlatform

CALLERS = 128
PAIRS = 3_000
ROUNDS = 40
SEGMENT_ROWS = 40_000
"""So that segments are closed meanwhile too; the recorder's own are larger."""
TARGET_PERCENT = 97.0
POLICY = "fixed:300"


async def _serve(pipe: Connection, folder: str | None) -> None:
    platform = SimulatedPlatform({f"app-{n}": 0.0 for n in range(APPS)}, create_ms=0.0)
    await platform.start()
    recorder = None if folder is None else Recorder(Path(folder), segment_rows=SEGMENT_ROWS)
    server = ScalerServer(
        make_policy(POLICY),
        f"127.0.0.1:{platform.port}",
        "127.0.0.1:0",
        observers=() if recorder is None else (recorder,),
    )
    settle_memory()
    await server.start()
    if recorder is not None:
        recorder.start()
    pipe.send(server.port)
    await asyncio.to_thread(pipe.recv)
    await server.stop(1.0)
    await platform.stop()
    if recorder is not None:
        recorder.close()


def _server(folder: str | None, pipe: Connection) -> None:
    uvloop.run(_serve(pipe, folder))


async def _pairs(stub: Any, pairs: int) -> None:
    async def caller(number: int) -> None:
        meta = pb.Meta(key=f"app-{number % APPS}", runtime="python3", memory_in_mb=128)
        for turn in range(pairs // CALLERS):
            request = pb.AssignRequest(request_id=f"{number}-{turn}", meta_data=meta)
            reply = await stub.Assign(request)
            result = pb.Result(status_code=200, duration_in_ms=20)
            await stub.Idle(pb.IdleRequest(assigment=reply.assigment, result=result))

    await asyncio.gather(*(caller(number) for number in range(CALLERS)))


async def _measure(
    servers: dict[str, BackgroundServer], rounds: int, pairs: int
) -> dict[str, list[tuple[float, float]]]:
    """By server and round: pairs a second, and the server's CPU in µs a pair."""
    channels = {
        name: grpc.aio.insecure_channel(f"127.0.0.1:{each.port}") for name, each in servers.items()
    }
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
    for turn in range(rounds + 1):
        step(f"round {turn} of {rounds}")
        for name in sorted(servers, reverse=turn % 2 == 0):
            server = servers[name]
            stub = scaler_pb2_grpc.ScalerStub(channels[name])  # type: ignore[no-untyped-call]
            before_s, began_s = server.cpu_s(), time.perf_counter()
            await _pairs(stub, pairs)
            took_s = time.perf_counter() - began_s
            if turn:  # the first round warms up
                seen[name].append((pairs / took_s, (server.cpu_s() - before_s) / pairs * 1e6))
    for channel in channels.values():
        await channel.close(None)
    return seen


def run(rounds: int, pairs: int, folder: Path) -> list[Row]:
    """The table."""
    pairs = pairs // CALLERS * CALLERS
    log = folder / "log"
    servers = {
        "off": BackgroundServer(partial(_server, None)),
        "on": BackgroundServer(partial(_server, str(log))),
    }
    try:
        seen = uvloop.run(_measure(servers, rounds, pairs))
    finally:
        for server in servers.values():
            server.stop()
    recorded = len(read_trace(log))
    shares = [100.0 * on[0] / off[0] for on, off in zip(seen["on"], seen["off"], strict=True)]
    of: Callable[[str, int], float] = lambda name, part: statistics.median(  # noqa: E731
        each[part] for each in seen[name]
    )
    return [
        Row(
            f"throughput with recording, of that without (median of {rounds} pairs of rounds)",
            statistics.median(shares),
            "%",
            TARGET_PERCENT,
            at_most=False,
        ),
        Row(f"  pairs of Assign and Idle a second (off: {of('off', 0):,.0f})", of("on", 0), "/s"),
        Row(f"  the server's CPU a pair (off: {of('off', 1):.0f})", of("on", 1), "µs"),
        Row("pairs made and not in the recording", (rounds + 1) * pairs - recorded, "", 0.0),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-recording")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="in a round")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        show(run(given.rounds, given.pairs, Path(folder)), "make bench-recording")


if __name__ == "__main__":
    main()
