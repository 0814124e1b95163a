"""An app deployed anew with other memory or runtime, over real gRPC."""

from __future__ import annotations

import asyncio

import pytest

from tests.service.running import META, assign, done, served, until
from warmscaler.models.learned.policy import Learned
from warmscaler.models.policy import Policy
from warmscaler.models.published.fixed import Fixed
from warmscaler.models.registry import make_policy
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.simulator.platform import Fault, Misuse, Request

LARGER = pb.Meta(key="app", runtime="go", timeout_in_secs=60, memory_in_mb=256)
NEWER = pb.Meta(key="app", runtime="go2", timeout_in_secs=60, memory_in_mb=128)


@pytest.mark.parametrize("policy", [Fixed(300.0), make_policy("reference"), Learned()])
@pytest.mark.parametrize("newer", [LARGER, NEWER])
def test_what_is_warm_of_the_old_one_serves_nobody(policy: Policy, newer: pb.Meta) -> None:
    inits: list[tuple[str, str]] = []

    def seen(request: Request) -> Fault | None:
        if isinstance(request, pb.InitRequest):
            inits.append((request.instance_id, request.meta_data.runtime))
        return None

    async def run() -> None:
        async with served(policy) as here:
            here.platform.faults = seen
            stub, slots = here.stub, here.platform.slots
            busy = (await stub.Assign(assign("old-1"))).assigment
            idle = (await stub.Assign(assign("old-2"))).assigment
            await stub.Idle(done(idle))
            memory_of: dict[str, int] = {}
            for number in range(50):
                mine = (await stub.Assign(assign(str(number), newer))).assigment
                assert mine.instance_id not in (busy.instance_id, idle.instance_id)
                # A caller that has not heard of it yet is served as well.
                old = (await stub.Assign(assign(f"late-{number}"))).assigment
                for each in (mine, old):
                    await stub.Idle(done(each))
                    memory_of |= {
                        slot.instance_id: slot.memory_mb
                        for slot in slots.values()
                        if slot.instance_id == each.instance_id
                    }
            assert set(memory_of.values()) == {newer.memory_in_mb}
            assert dict(inits)[mine.instance_id] == newer.runtime
            assert len(memory_of) <= 4  # warm again from then on
            await stub.Idle(done(busy))
            await until(
                lambda: (
                    not any(
                        slot.destroyed_s is None
                        for slot in slots.values()
                        if slot.instance_id in (busy.instance_id, idle.instance_id)
                    )
                )
            )
            assert here.platform.misuse == Misuse()

    asyncio.run(run())


def test_what_is_on_its_way_starts_as_what_it_was_made_for() -> None:
    """A request of the new one comes while a slot is made for the old one."""
    inits: dict[str, pb.Meta] = {}

    def seen(request: Request) -> Fault | None:
        if isinstance(request, pb.InitRequest):
            inits[request.instance_id] = request.meta_data
        return None

    async def run() -> None:
        async with served(Fixed(300.0), create_ms=100.0) as here:
            here.platform.faults = seen
            first = here.stub.Assign(assign("old"))
            await until(lambda: bool(here.server.driver.scheduler.instances))
            second = (await here.stub.Assign(assign("new", NEWER))).assigment
            third = (await first).assigment
            assert inits[third.instance_id].runtime == META.runtime
            assert inits[second.instance_id].runtime == NEWER.runtime
            for each in (second, third):
                await here.stub.Idle(done(each))

    asyncio.run(run())
