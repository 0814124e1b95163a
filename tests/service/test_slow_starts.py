"""Starts that take long, and a scaler that stood still meanwhile: nothing is thrown away for it."""

from __future__ import annotations

import asyncio
import os
import signal

import grpc
import grpc.aio
import numpy as np
import pytest

from tests.service.running import META, assign, done, scaler, served, until
from tests.simulator.test_live_agrees import play_live
from tests.traces import trace_of
from warmscaler.models.published.fixed import Fixed
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.proto.scaler_pb2_grpc import ScalerStub
from warmscaler.service.slots import lives
from warmscaler.service.slots.times import StartLimits
from warmscaler.simulator.platform import Fault, Misuse, Request, SimulatedPlatform
from warmscaler.simulator.replay import replay

SPEED = 100.0
"""A start of minutes takes seconds here, and so do the limits."""
CREATE_MS = 40_000.0 / SPEED
INIT_MS = 130_000.0 / SPEED


def test_live_and_virtual_agree_where_a_start_takes_minutes() -> None:
    """At the limits' defaults, all of it faster."""
    limits = StartLimits()
    arguments = ["--policy", f"fixed:{300.0 / SPEED:g}"]
    for option, limit_s in (
        ("--slow-create", limits.slow_create_s),
        ("--init-limit", limits.init_s),
        ("--max-wait", limits.wait_s),
    ):
        arguments += [option, f"{limit_s / SPEED:g}"]
    arrival_ms = [0, 10, 20, 2_200, 2_300, 2_600]
    trace = trace_of([(each, 0, 100) for each in arrival_ms], init_ms=round(INIT_MS))
    live, slots = asyncio.run(play_live(trace, CREATE_MS, arguments))
    virtual = replay(trace, Fixed(300.0 / SPEED), create_ms=CREATE_MS)
    assert live.errors == {}
    assert live.finished == len(arrival_ms)
    assert live.cold.sum() == virtual.cold.sum()
    assert slots == len(virtual.slots)
    assert np.median(np.abs(live.wait_ms - virtual.wait_ms)) < 60.0


def test_the_slow_create_that_answers_first_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lives, "LOOK_MS", 10.0)

    async def run() -> None:
        limits = StartLimits(slow_create_s=0.15)
        async with served(create_ms=400.0, start_limits=limits) as here:
            reply = await here.stub.Assign(assign(), timeout=30.0)
            [first, *others] = here.platform.slots.values()
            assert first.instance_id == reply.assigment.instance_id
            assert others or len(here.server.driver.slots.lives.lives) > 1
            await until(lambda: here.platform.live_slots == 1)  # the others are given back
            await until(lambda: len(here.server.driver.slots.lives.lives) == 1)
            assert first.destroyed_s is None
            assert here.platform.misuse == Misuse()
            await here.stub.Idle(done(reply.assigment))

    asyncio.run(run())


@pytest.mark.parametrize("call", [pb.CreateSlotRequest, pb.InitRequest])
def test_a_slow_start_whose_request_is_gone_serves_the_next(call: type) -> None:
    async def run() -> None:
        async with served() as here:
            here.platform.faults = lambda each: Fault(delay_s=0.5) if type(each) is call else None
            with pytest.raises(grpc.aio.AioRpcError, match="DEADLINE_EXCEEDED"):
                await here.stub.Assign(assign("r1"), timeout=0.2)
            await until(lambda: here.server.driver.waiting == 0)
            await until(lambda: bool(list(here.server.driver.scheduler.idle_instances())))
            reply = await here.stub.Assign(assign("r2"), timeout=30.0)
            assert len(here.platform.slots) == 1
            await here.stub.Idle(done(reply.assigment))

    asyncio.run(run())


def test_an_init_beyond_its_limit_is_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lives, "LOOK_MS", 10.0)

    async def run() -> None:
        async with served(start_limits=StartLimits(init_s=0.2)) as here:
            slow = [Fault(delay_s=2.0)]
            here.platform.faults = lambda call: (
                slow.pop() if slow and isinstance(call, pb.InitRequest) else None
            )
            reply = await here.stub.Assign(assign(), timeout=30.0)
            first, second = here.platform.slots.values()
            await until(lambda: first.destroyed_s is not None)
            assert second.instance_id == reply.assigment.instance_id
            await here.stub.Idle(done(reply.assigment))

    asyncio.run(run())


def test_a_scaler_that_stood_still_finds_the_answers_in_its_sockets() -> None:
    requests, limit_s = 6, 1.0

    async def run() -> None:
        platform = SimulatedPlatform({"app": 1.0}, create_ms=1.0)
        begun = 0

        def slow(each: Request) -> Fault | None:
            nonlocal begun
            begun += isinstance(each, pb.InitRequest)
            return Fault(delay_s=0.5) if isinstance(each, pb.InitRequest) else None

        platform.faults = slow
        await platform.start()
        with scaler(
            *("--platform", f"127.0.0.1:{platform.port}", "--policy", "fixed:300"),
            *("--slow-create", limit_s, "--init-limit", limit_s),
        ) as process:
            pid = process.process.pid
            async with grpc.aio.insecure_channel(
                await asyncio.to_thread(lambda: process.address)
            ) as to:
                stub = ScalerStub(to)  # type: ignore[no-untyped-call]
                waiting = [
                    asyncio.ensure_future(stub.Assign(assign(f"r{n}", META), timeout=60.0))
                    for n in range(requests)
                ]
                await until(lambda: begun == requests)
                os.kill(pid, signal.SIGSTOP)
                await asyncio.sleep(limit_s + 1.2)
                os.kill(pid, signal.SIGCONT)
                replies = await asyncio.gather(*waiting)
                assert len({reply.assigment.instance_id for reply in replies}) == requests
                assert len(platform.slots) == platform.live_slots == requests
                await asyncio.to_thread(process.until, "stood still")
                for reply in replies:
                    await stub.Idle(done(reply.assigment))
            assert await asyncio.to_thread(process.terminate) == 0
        assert platform.live_slots == 0
        await platform.stop()

    asyncio.run(run())
