"""Nobody pays for a neighbour's trouble, nor is what the platform says believed blindly; over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.service.running import Served, assign, done, served, until
from warmscaler.models.published.fixed import Fixed
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.slots import breaker, lives
from warmscaler.service.slots.answers import PlatformError
from warmscaler.service.slots.breaker import BreakerState
from warmscaler.service.slots.times import StartLimits
from warmscaler.simulator.platform import Fault, Misuse, Request, SimulatedPlatform

BAD = pb.Meta(key="app", runtime="go", timeout_in_secs=60, memory_in_mb=8_192)
GOOD = pb.Meta(key="other", runtime="go", timeout_in_secs=60, memory_in_mb=128)
COLD_STARTS = 40


def of_the_bad(fault: Fault) -> Callable[[Request], Fault | None]:
    """Every CreateSlot of the bad app's size goes wrong like that."""

    def faults(call: Request) -> Fault | None:
        bad = (
            isinstance(call, pb.CreateSlotRequest)
            and call.resource_config.memory_in_megabytes == BAD.memory_in_mb
        )
        return fault if bad else None

    return faults


async def at_once(here: Served, count: int = COLD_STARTS) -> None:
    """All together; fails where one is not served."""
    names = (f"good{number}" for number in range(count))
    calls = [here.stub.Assign(assign(name, GOOD), timeout=20.0) for name in names]
    for reply in await asyncio.gather(*calls):
        assert reply.status == pb.Ok


async def cold_starts(here: Served, count: int = COLD_STARTS) -> None:
    """One after the other, each on a new instance; fails where one is not served."""
    for number in range(count):
        reply = await here.stub.Assign(assign(f"good{number}", GOOD), timeout=10.0)
        assert reply.status == pb.Ok
        await here.stub.Idle(done(reply.assigment, need_destroy=True))


async def beside_a_bad_app(here: Served, work: Coroutine[Any, Any, None]) -> None:
    """Two callers ask for it all the time, long before the work and until it is done."""
    failures = 0

    async def call(name: str) -> None:
        nonlocal failures
        while True:
            with pytest.raises(grpc.aio.AioRpcError):
                await here.stub.Assign(assign(name, BAD), timeout=5.0)
            failures += 1

    calling = [asyncio.create_task(call(name)) for name in ("bad1", "bad2")]
    await until(lambda: failures > 3)
    await work
    for task in calling:
        assert not task.done()
        task.cancel()


@pytest.mark.parametrize("code", [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE])
def test_an_app_that_cannot_be_placed_keeps_nobody_else(code: grpc.StatusCode) -> None:
    async def run() -> None:
        async with served() as here:
            here.platform.faults = of_the_bad(Fault(code))
            await beside_a_bad_app(here, cold_starts(here))
            assert here.server.driver.slots.lives.breakers.held_off == 1

    asyncio.run(run())


def test_many_slow_starts_at_once_go_by_one_that_hears_nobody_is_there() -> None:
    async def run() -> None:
        async with served(create_ms=3_000.0) as here:
            here.platform.faults = of_the_bad(Fault(grpc.StatusCode.UNAVAILABLE))
            await beside_a_bad_app(here, at_once(here))

    asyncio.run(run())


def test_an_app_that_hears_throttle_keeps_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    create = SimulatedPlatform.CreateSlot

    async def throttles(self: Any, request: pb.CreateSlotRequest, context: Any) -> Any:
        if request.resource_config.memory_in_megabytes == BAD.memory_in_mb:
            return pb.CreateSlotReply(status=pb.Throttle, error_message="no such host")
        return await create(self, request, context)

    monkeypatch.setattr(SimulatedPlatform, "CreateSlot", throttles)

    async def run() -> None:
        async with served() as here:
            await beside_a_bad_app(here, cold_starts(here))
            assert here.server.driver.slots.breaker.state is BreakerState.CLOSED

    asyncio.run(run())


def test_an_app_whose_starts_hang_keeps_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lives, "LOOK_MS", 10.0)

    async def run() -> None:
        async with served(start_limits=StartLimits(slow_create_s=0.1)) as here:
            hangs = Fault(grpc.StatusCode.RESOURCE_EXHAUSTED, delay_s=1.0)
            here.platform.faults = of_the_bad(hangs)
            bad = [
                asyncio.ensure_future(here.stub.Assign(assign(f"bad{n}", BAD))) for n in range(6)
            ]
            await until(lambda: here.server.driver.slots.lives.breakers.held_off == 1)
            await cold_starts(here)
            assert here.server.driver.slots.breaker.state is BreakerState.CLOSED
            for each in bad:
                each.cancel()
            await until(lambda: here.server.driver.waiting == 0)

    asyncio.run(run())


@pytest.mark.parametrize("memory_mb", [1 << 62, (1 << 63) - 2, (1 << 64) - 1])
def test_who_asks_for_absurd_memory_takes_nobodys_room(memory_mb: int) -> None:
    async def run() -> None:
        async with served(Fixed(60.0)) as here:
            reply = await here.stub.Assign(assign("warm", GOOD))
            await here.stub.Idle(done(reply.assigment))
            for name in ("one", "two"):
                absurd = pb.Meta(key=name, memory_in_mb=memory_mb)
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await here.stub.Assign(assign(name, absurd), timeout=5.0)
                assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert len(here.platform.slots) == 1
            await cold_starts(here, 2)

    asyncio.run(run())


def test_time_outs_open_the_breaker_only_where_nobody_hears_anything() -> None:
    async def run() -> None:
        async with served() as here:
            breakers = here.server.driver.slots.lives.breakers
            late = PlatformError("late", retry=True, timed_out=True)
            for _ in range(2 * breaker.THRESHOLD):
                breakers.failed(10.0, "one app", late, 0.0)
            assert breakers.platform.state is BreakerState.CLOSED
            breakers.answered(20.0)
            for number in range(2 * breaker.THRESHOLD):
                breakers.failed(30.0, f"app {number}", late, 10.0)  # sent before it answered
            assert breakers.platform.state is BreakerState.CLOSED
            for number in range(breaker.THRESHOLD):
                breakers.failed(40.0, f"app {number % 2}", late, 25.0)
            assert breakers.platform.state is not BreakerState.CLOSED
            assert breakers.wait_ms(41.0, "app 0")[0] > 0.0
            for number in range(2 * breaker.PROBES):  # who had no part in it is not held off
                assert breakers.wait_ms(41.0, f"another {number}")[0] == 0.0
            breakers.created(50.0, "another 1")
            assert breakers.wait_ms(51.0, "app 0")[0] == 0.0

    asyncio.run(run())


def test_slots_that_cannot_be_destroyed_delay_nobody_elses() -> None:
    bad = 200

    async def run() -> None:
        hanging, asked = asyncio.Event(), 0
        async with served(Fixed(0.1)) as here:
            destroy = here.server._platform.destroy_slot
            slots = here.platform.slots

            async def hangs(request_id: str, slot_id: str, reason: str) -> None:
                nonlocal asked
                if slots[slot_id].memory_mb == BAD.memory_in_mb:
                    asked += 1
                    await hanging.wait()
                await destroy(request_id, slot_id, reason)

            here.server._platform.destroy_slot = hangs  # type: ignore[method-assign]
            replies = await asyncio.gather(
                *(here.stub.Assign(assign(f"bad{number}", BAD)) for number in range(bad))
            )
            good = await here.stub.Assign(assign("good", GOOD))
            for reply in replies:
                await here.stub.Idle(done(reply.assigment))
            await until(lambda: asked > 0)
            await here.stub.Idle(done(good.assigment))
            await until(
                lambda: all(
                    slot.destroyed_s is not None
                    for slot in slots.values()
                    if slot.memory_mb == GOOD.memory_in_mb
                )
            )
            assert asked <= bad  # none was tried again by then
            hanging.set()
            await until(lambda: here.platform.live_slots == 0)

    asyncio.run(run())


class Odd(SimulatedPlatform):
    """The next replies of CreateSlot are changed by these."""

    def __init__(self) -> None:
        SimulatedPlatform.__init__(self, {"app": 1.0, "other": 1.0}, create_ms=1.0)
        self.changes: list[Callable[[pb.CreateSlotReply], None]] = []

    async def CreateSlot(self, request: pb.CreateSlotRequest, context: Any) -> pb.CreateSlotReply:  # noqa: N802
        reply = await SimulatedPlatform.CreateSlot(self, request, context)
        if self.changes:
            made = reply.slot.id
            self.changes.pop(0)(reply)
            if reply.slot.id != made:
                del self.slots[made]  # there is none of its own
        return reply


@pytest.mark.parametrize("kind", ["slot_in_use", "less_memory"])
def test_a_slot_that_is_not_what_was_asked_for(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    platform = Odd()
    monkeypatch.setattr("tests.service.running.SimulatedPlatform", lambda *_, **__: platform)

    async def run() -> None:
        async with served() as here:
            first = await here.stub.Assign(assign("r1", GOOD))

            def change(reply: pb.CreateSlotReply) -> None:
                if kind == "slot_in_use":
                    reply.slot.id = "slot-1"
                else:
                    reply.slot.resource_config.memory_in_megabytes = 64

            platform.changes = [change, change]
            second = await here.stub.Assign(assign("r2", GOOD))
            assert second.assigment.instance_id != first.assigment.instance_id
            driver = here.server.driver
            slots = {each: driver.slots.lives.instances[each].slot_id for each in driver.serving}
            assert len(set(slots.values())) == 2
            assert driver.slots.odd == {kind: 2}
            await until(lambda: platform.live_slots == 2)
            # Nor is anybody's slot destroyed for it.
            assert all(platform.slots[each].destroyed_s is None for each in slots.values())
            for reply in (first, second):
                await here.stub.Idle(done(reply.assigment, need_destroy=True))
            await until(lambda: platform.live_slots == 0)
            assert platform.misuse == Misuse()

    asyncio.run(run())
    said = "in use already" if kind == "slot_in_use" else "given back: 64 MB instead of 128"
    assert caplog.text.count(said) == 2


def test_a_late_slot_that_is_somebody_elses_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lives, "LOOK_MS", 10.0)
    platform = Odd()
    monkeypatch.setattr("tests.service.running.SimulatedPlatform", lambda *_, **__: platform)

    async def run() -> None:
        async with served(start_limits=StartLimits(slow_create_s=0.2)) as here:
            slow = [Fault(delay_s=0.6), None]
            platform.faults = lambda call: (
                slow.pop(0) if isinstance(call, pb.CreateSlotRequest) and slow else None
            )
            reply = await here.stub.Assign(assign("r1", GOOD), timeout=30.0)  # of the second call
            [mine] = platform.slots

            def change(late: pb.CreateSlotReply) -> None:
                late.slot.id = mine

            platform.changes = [change]
            await until(lambda: not platform.changes)
            await until(lambda: here.server.driver.slots.odd["slot_in_use"] == 1)
            await until(lambda: len(here.server.driver.slots.lives.lives) == 1)
            assert platform.slots[mine].destroyed_s is None
            await here.stub.Idle(done(reply.assigment))

    asyncio.run(run())
