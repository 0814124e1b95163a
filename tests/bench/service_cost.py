"""The service's own cost: CPU of the server process for an Assign and its Idle, against a server
whose handlers do nothing, behind the same client and the same gRPC server."""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import grpc.aio
import psutil
import uvloop

from tests.bench.table import Row, step
from warmscaler.models.registry import make_policy
from warmscaler.service.front.server import ScalerServer
from warmscaler.service.front.transport import MAX_MESSAGE_BYTES
from warmscaler.service.observability.health import Health
from warmscaler.service.observability.metrics import Metrics
from warmscaler.service.observer import Observer
from warmscaler.service.persistence.ledger import Ledger
from warmscaler.service.persistence.recording import Recorder
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.proto import scaler_pb2_grpc
from warmscaler.simulator.platform import SimulatedPlatform

CALLERS = (1, 16, 128)
PAIRS = {1: 2_000, 16: 6_000, 128: 8_000}
ROUNDS = 5
APPS = 32
TARGET_RATIO = 1.35


class _DoesNothing(scaler_pb2_grpc.ScalerServicer):
    async def Assign(self, request: pb.AssignRequest, context: Any) -> pb.AssignReply:  # noqa: N802
        return pb.AssignReply(
            assigment=pb.Assignment(
                request_id=request.request_id,
                meta_key=request.meta_data.key,
                instance_id="instance-1",
            )
        )

    async def Idle(self, request: pb.IdleRequest, context: Any) -> pb.IdleReply:  # noqa: N802
        return pb.IdleReply()


async def _serve_nothing(pipe: Connection) -> None:
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ]
    )
    scaler_pb2_grpc.add_ScalerServicer_to_server(_DoesNothing(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    pipe.send(port)
    await asyncio.to_thread(pipe.recv)
    await server.stop(None)


async def serve_scaler(
    pipe: Connection,
    policy: str,
    *,
    with_metrics: bool = False,
    ledger: Ledger | None = None,
    recorder: Recorder | None = None,
) -> None:
    """Until something comes through the pipe; its port goes through it first."""
    platform = SimulatedPlatform({f"app-{n}": 0.0 for n in range(APPS)}, create_ms=0.0)
    await platform.start()
    metrics = Metrics(Health())
    observers: list[Observer] = [metrics] if with_metrics else []
    if recorder is not None:
        recorder.start()
        observers.append(recorder)
    server = ScalerServer(
        make_policy(policy),
        f"127.0.0.1:{platform.port}",
        "127.0.0.1:0",
        observers=observers,
        ledger=ledger,
    )
    metrics.watch(server.driver)
    await server.start()
    pipe.send(server.port)
    await asyncio.to_thread(pipe.recv)
    await server.stop(1.0)
    await platform.stop()
    if recorder is not None:
        recorder.close()
    if ledger is not None:
        ledger.close()


def _nothing(pipe: Connection) -> None:
    uvloop.run(_serve_nothing(pipe))


def _fixed(pipe: Connection) -> None:
    uvloop.run(serve_scaler(pipe, "fixed:300"))


def _with_metrics(pipe: Connection) -> None:
    uvloop.run(serve_scaler(pipe, "fixed:300", with_metrics=True))


class BackgroundServer:
    """A server in a process of its own."""

    def __init__(self, target: Callable[[Connection], None]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=target, args=(theirs,), daemon=True)
        self._process.start()
        self.port: int = self._pipe.recv()
        """Where it serves: the first that it sends."""
        self._usage = psutil.Process(self._process.pid)

    def receive(self) -> Any:
        """The next that it sends."""
        return self._pipe.recv()

    def cpu_s(self) -> float:
        times = self._usage.cpu_times()
        return float(times.user + times.system)

    def stop(self) -> None:
        self._pipe.send(None)
        self._process.join(20.0)


async def _pairs(stub: Any, callers: int, pairs: int) -> None:
    async def caller(number: int) -> None:
        meta = pb.Meta(key=f"app-{number % APPS}", runtime="python3", memory_in_mb=128)
        for turn in range(pairs // callers):
            request_id = f"{number}-{turn}"
            reply = await stub.Assign(pb.AssignRequest(request_id=request_id, meta_data=meta))
            await stub.Idle(
                pb.IdleRequest(assigment=reply.assigment, result=pb.Result(status_code=200))
            )

    await asyncio.gather(*(caller(number) for number in range(callers)))


async def _measure(
    servers: dict[str, BackgroundServer],
) -> dict[int, dict[str, tuple[float, float]]]:
    """Per callers and server: CPU in µs a pair, and pairs a second; medians over rounds.

    The servers take turns within a round, so that what else the machine does hits both.
    """
    channels = {
        name: grpc.aio.insecure_channel(f"127.0.0.1:{each.port}") for name, each in servers.items()
    }
    stubs = {
        name: scaler_pb2_grpc.ScalerStub(channel)  # type: ignore[no-untyped-call]
        for name, channel in channels.items()
    }
    seen: dict[int, dict[str, tuple[float, float]]] = {}
    for callers in CALLERS:
        rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
        for turn in range(ROUNDS + 1):
            for name, server in servers.items():
                before_s, began_s = server.cpu_s(), time.perf_counter()
                await _pairs(stubs[name], callers, PAIRS[callers])
                took_s = time.perf_counter() - began_s
                if turn:  # the first round warms up
                    cost_us = (server.cpu_s() - before_s) / PAIRS[callers] * 1e6
                    rounds[name].append((cost_us, PAIRS[callers] / took_s))
        seen[callers] = {
            name: (statistics.median(c for c, _ in each), statistics.median(r for _, r in each))
            for name, each in rounds.items()
        }
    for channel in channels.values():
        await channel.close(None)
    return seen


def measure() -> list[Row]:
    """CPU ratios for 1, 16 and 128 callers."""
    step("the service's own cost")
    servers = {
        "nothing": BackgroundServer(_nothing),
        "scaler": BackgroundServer(_fixed),
        "metrics": BackgroundServer(_with_metrics),
    }
    try:
        seen = uvloop.run(_measure(servers))
    finally:
        for server in servers.values():
            server.stop()
    rows = []
    for callers, each in seen.items():
        (base_us, base_rate), (own_us, own_rate) = each["nothing"], each["scaler"]
        rows += [
            Row(
                f"CPU of Assign+Idle against handlers that do nothing, {callers} callers",
                own_us / base_us,
                "times",
                TARGET_RATIO,
            ),
            Row(f"  CPU a pair, {callers} callers (nothing: {base_us:.0f} µs)", own_us, "µs"),
            Row(f"  pairs a second, {callers} callers (nothing: {base_rate:,.0f})", own_rate, "/s"),
            Row(
                f"  the same with metrics on, {callers} callers",
                each["metrics"][0] / base_us,
                "times",
                TARGET_RATIO,
            ),
        ]
    return rows
