"""The live replay against the real service: what it counts, and that it agrees with the virtual."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from urllib.request import urlopen

import grpc
import grpc.aio
import numpy as np
import pytest

from tests.simulator.page import FIELDS
from tests.traces import trace_of
from warmscaler.data.trace import Trace
from warmscaler.models.published.fixed import Fixed
from warmscaler.service.front.server import ScalerServer
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.proto import scaler_pb2_grpc
from warmscaler.simulator.live import LiveResult, ScalerUnreachable, connect, play
from warmscaler.simulator.platform import Context, Fault, Misuse, Request, SimulatedPlatform
from warmscaler.simulator.replay import replay
from warmscaler.simulator.statistics import StatisticsPage


def bursts(init_ms: int = 200) -> Trace:
    """Three seconds of two apps: pairs and lone requests, gaps on both sides of half a second."""
    rows = [(at + extra, 0, 60) for at in (0, 700, 900, 2_200) for extra in (0, 20)]
    rows += [(at, 1, 250) for at in (100, 450, 1_500, 2_900)]
    return trace_of(rows, memory_mb=[256, 512], init_ms=init_ms)


def play_live(
    trace: Trace, *, keep_s: float = 0.8, faults: object = None
) -> tuple[LiveResult, SimulatedPlatform, dict[str, object]]:
    platform = SimulatedPlatform({app.key: app.init_ms for app in trace.apps}, create_ms=100.0)
    if faults is not None:
        platform.faults = faults  # type: ignore[assignment]
    result = LiveResult(trace)

    async def run() -> dict[str, object]:
        await platform.start()
        server = ScalerServer(Fixed(keep_s), f"127.0.0.1:{platform.port}", "127.0.0.1:0")
        await server.start()
        channel = await connect(f"127.0.0.1:{server.port}")
        await play(trace, channel, result, ready=platform.ready)
        statistics = result.statistics(trace.name, platform.slot_gb_s(), platform.live_slots)
        await channel.close(None)
        await server.stop(2.0)
        await platform.stop()
        return statistics

    return result, platform, asyncio.run(run())


def test_live_agrees_with_virtual() -> None:
    trace = bursts()
    virtual = replay(trace, Fixed(0.8), create_ms=100.0)
    live, platform, statistics = play_live(trace)
    assert live.errors == {}
    assert live.finished == len(trace)
    assert live.cold.tolist() == virtual.cold.tolist()
    assert len(platform.slots) == len(virtual.slots)
    assert np.all(live.wait_ms >= virtual.wait_ms - 5.0)
    assert platform.misuse == Misuse()
    assert platform.live_slots == 0
    assert set(statistics) == FIELDS
    assert statistics["invocationExecutionTimeInSecs"] == pytest.approx(1.48)
    assert statistics["invocationExecutionTimeInGBs"] == pytest.approx(0.48 / 4 + 1.0 / 2)
    assert statistics["invocationScheduleTimeInSecs"] == pytest.approx(live.wait_ms.sum() / 1e3)


def test_without_the_platform_cold_is_an_instance_never_seen() -> None:
    class OneInstance(scaler_pb2_grpc.ScalerServicer):
        async def Assign(  # noqa: N802 - the wire's name
            self, request: pb.AssignRequest, context: Context
        ) -> pb.AssignReply:
            return pb.AssignReply(assigment=pb.Assignment(instance_id="the-one"))

        async def Idle(  # noqa: N802
            self, request: pb.IdleRequest, context: Context
        ) -> pb.IdleReply:
            return pb.IdleReply()

    live = play_against(OneInstance(), trace_of([(0, 0, 1), (100, 0, 300), (200, 0, 1)]))
    assert live.cold.tolist() == [True, False, False]
    assert live.finished == 2
    assert live.errors == {"Assign gave an instance that serves another request": 1}


def test_a_status_that_is_not_ok_is_a_failure() -> None:
    class Throttling(scaler_pb2_grpc.ScalerServicer):
        async def Assign(  # noqa: N802
            self, request: pb.AssignRequest, context: Context
        ) -> pb.AssignReply:
            return pb.AssignReply(status=pb.Throttle, error_message="full")

    live = play_against(Throttling(), trace_of([(0, 0, 1)]))
    assert (live.finished, live.failed) == (0, 1)
    assert live.errors == {"Assign answered status 1: full": 1}


def play_against(servicer: scaler_pb2_grpc.ScalerServicer, trace: Trace) -> LiveResult:
    result = LiveResult(trace)

    async def run() -> None:
        server = grpc.aio.server()
        scaler_pb2_grpc.add_ScalerServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        channel = await connect(f"127.0.0.1:{port}")
        await play(trace, channel, result)
        await channel.close(None)
        await server.stop(None)

    asyncio.run(run())
    return result


def test_broken_instances_and_a_failing_platform() -> None:
    trace = trace_of([(0, 0, 10), (600, 0, 10), (1_200, 0, 10)], init_ms=50)
    trace = replace(trace, status_code=np.array([500, 200, 200]))
    created = []

    def faults(request: Request) -> Fault | None:
        if isinstance(request, pb.CreateSlotRequest):
            created.append(request)
        second = isinstance(request, pb.InitRequest) and len(created) == 2
        return Fault(grpc.StatusCode.INVALID_ARGUMENT) if second else None

    live, platform, statistics = play_live(trace, faults=faults)
    assert live.cold.tolist() == [True, False, True]  # the second one never got an instance
    assert (live.finished, live.failed) == (2, 1)
    assert statistics["successRate"] == pytest.approx(2 / 3)
    assert len(platform.slots) == 3
    assert platform.live_slots == 0  # the slot of the failed start was given back


def test_no_scaler_there() -> None:
    with pytest.raises(ScalerUnreachable, match="no scaler answers"):
        asyncio.run(connect("127.0.0.1:1", timeout_s=0.2))


def test_the_statistics_page() -> None:
    page = StatisticsPage(lambda: LiveResult(bursts()).statistics("set", 0.0, 3), port=0)
    with urlopen(f"http://127.0.0.1:{page.port}/", timeout=5.0) as reply:
        assert reply.headers["Content-Type"] == "application/json"
        served = json.load(reply)
    assert set(served) == FIELDS
    assert served["totalLiveSlotCount"] == 3
    with pytest.raises(OSError, match="in use"):
        StatisticsPage(dict, port=page.port)
    page.close()
    with pytest.raises(OSError, match="refused"):
        urlopen(f"http://127.0.0.1:{page.port}/", timeout=5.0)
