"""The simulated platform over real gRPC: its account of slots, its refusals, its faults."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import grpc.aio
import pytest

from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.proto.scaler_pb2_grpc import PlatformStub
from warmscaler.simulator.platform import Fault, Misuse, Request, SimulatedPlatform

META = pb.Meta(key="app", runtime="go", timeout_in_secs=60, memory_in_mb=512)


def run(platform: SimulatedPlatform, work: Callable[[PlatformStub], Awaitable[None]]) -> None:
    async def served() -> None:
        await platform.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{platform.port}") as channel:
            await work(PlatformStub(channel))  # type: ignore[no-untyped-call]
        await platform.stop()

    asyncio.run(served())


def quick(**more: object) -> SimulatedPlatform:
    return SimulatedPlatform({"app": 2.0}, create_ms=1.0, **more)  # type: ignore[arg-type]


def create(memory_mb: int = 512) -> pb.CreateSlotRequest:
    return pb.CreateSlotRequest(resource_config=pb.ResourceConfig(memory_in_megabytes=memory_mb))


async def code_of(call: Awaitable[object]) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    code: grpc.StatusCode = refused.value.code()
    return code


def test_a_slot_costs_from_the_call_that_creates_it_to_the_call_that_destroys_it() -> None:
    platform = SimulatedPlatform({"app": 40.0}, create_ms=60.0, speed=2.0)

    async def work(stub: PlatformStub) -> None:
        made = await stub.CreateSlot(create(2048))
        assert made.slot.create_duration_in_ms == 30
        reply = await stub.Init(
            pb.InitRequest(slot_id=made.slot.id, instance_id="i", meta_data=META)
        )
        assert reply.init_duration_in_ms == 20
        assert platform.ready == {"app": {"i"}}
        assert platform.live_slots == 1
        await stub.DestroySlot(pb.DestroySlotRequest(id=made.slot.id))

    run(platform, work)
    [slot] = platform.slots.values()
    assert slot.destroyed_s is not None
    assert slot.destroyed_s - slot.called_s >= 0.05
    assert platform.slot_gb_s() == pytest.approx(2.0 * 2.0 * (slot.destroyed_s - slot.called_s))
    assert platform.live_slots == 0
    assert platform.ready == {"app": set()}
    assert platform.misuse == Misuse()


def test_what_a_correct_scaler_never_does_is_refused_and_counted() -> None:
    platform = quick()

    async def work(stub: PlatformStub) -> None:
        assert await code_of(stub.CreateSlot(create(0))) is grpc.StatusCode.INVALID_ARGUMENT
        end = pb.DestroySlotRequest(id="nowhere")
        assert await code_of(stub.DestroySlot(end)) is grpc.StatusCode.NOT_FOUND
        start = pb.InitRequest(slot_id="nowhere", instance_id="i", meta_data=META)
        assert await code_of(stub.Init(start)) is grpc.StatusCode.NOT_FOUND
        start.slot_id = end.id = (await stub.CreateSlot(create())).slot.id
        start.meta_data.key = "stranger"
        assert await code_of(stub.Init(start)) is grpc.StatusCode.INVALID_ARGUMENT
        start.meta_data.key = "app"
        await stub.Init(start)
        assert await code_of(stub.Init(start)) is grpc.StatusCode.FAILED_PRECONDITION
        await stub.DestroySlot(end)
        assert await code_of(stub.DestroySlot(end)) is grpc.StatusCode.NOT_FOUND
        assert await code_of(stub.Init(start)) is grpc.StatusCode.NOT_FOUND

    run(platform, work)
    assert platform.misuse == Misuse(
        unknown_slots=2, destroyed_twice=1, init_of_destroyed=1, init_twice=1
    )


def test_a_slot_destroyed_while_its_app_starts() -> None:
    platform = SimulatedPlatform({"app": 200.0}, create_ms=1.0)

    async def work(stub: PlatformStub) -> None:
        made = await stub.CreateSlot(create())
        start = stub.Init(pb.InitRequest(slot_id=made.slot.id, instance_id="i", meta_data=META))
        while not platform.slots[made.slot.id].instance_id:  # noqa: ASYNC110 - the other side's
            await asyncio.sleep(0.001)
        await stub.DestroySlot(pb.DestroySlotRequest(id=made.slot.id))
        assert await code_of(start) is grpc.StatusCode.NOT_FOUND

    run(platform, work)
    assert platform.ready.get("app", set()) == set()


@pytest.mark.parametrize("after", [False, True])
def test_faults_before_and_after_the_work(after: bool) -> None:
    todo = [grpc.StatusCode.UNAVAILABLE, None]

    def faults(request: Request) -> Fault | None:
        code = todo.pop(0) if isinstance(request, pb.CreateSlotRequest) else None
        return None if code is None else Fault(code, delay_s=0.001, after=after)

    platform = quick(faults=faults)

    async def work(stub: PlatformStub) -> None:
        assert await code_of(stub.CreateSlot(create())) is grpc.StatusCode.UNAVAILABLE
        await stub.CreateSlot(create())

    run(platform, work)
    assert platform.live_slots == (2 if after else 1)


def test_a_port_in_use() -> None:
    async def work() -> None:
        first, second = quick(), quick()
        await first.start()
        with pytest.raises(OSError, match="in use"):
            await second.start(f"127.0.0.1:{first.port}")
        await first.stop()

    asyncio.run(work())
