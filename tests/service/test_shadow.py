"""Shadow mode: what is planned beside agrees with a replay, and never acts."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Any

import grpc.aio
import numpy as np
import pytest

from tests.service.running import assign, done, get, scaler, served
from tests.traces import trace_of
from warmscaler.data.trace import Trace
from warmscaler.models.learned.habits import Model
from warmscaler.models.policy import Policy
from warmscaler.models.registry import make_policy
from warmscaler.service.observer import Served
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.proto.scaler_pb2_grpc import ScalerStub
from warmscaler.service.scheduler.actions import Assign, DestroySlot
from warmscaler.service.scheduler.scheduler import Scheduler
from warmscaler.service.shadow import Shadow
from warmscaler.simulator.platform import SimulatedPlatform
from warmscaler.simulator.replay import Replay, replay

START_MS = 1_000


class Watched(Scheduler):
    """Tells a shadow what a driver would."""

    def __init__(self, policy: Policy, shadow: Shadow) -> None:
        super().__init__(policy)
        self._shadow = shadow
        self._asked: dict[Hashable, tuple[float, bool]] = {}
        self._serves: dict[str, Served] = {}

    def arrival(
        self, now_ms: float, request: Hashable, key: str, memory_mb: int, runtime: str = ""
    ) -> Any:
        actions = super().arrival(now_ms, request, key, memory_mb, runtime)
        warm = bool(actions) and isinstance(actions[0], Assign) and actions[0].request == request
        self._asked[request] = (now_ms, not warm)
        if not warm:
            self._shadow.waits(now_ms, self.pools[key], 0, first=False)
        return self._told(now_ms, actions)

    def idle(self, now_ms: float, instance_id: str, *, need_destroy: bool = False) -> Any:
        actions = super().idle(now_ms, instance_id, need_destroy=need_destroy)
        result = pb.Result(need_destroy=need_destroy)
        self._shadow.completed(now_ms, self._serves.pop(instance_id), result)
        return self._told(now_ms, actions)

    def instance_ready(self, now_ms: float, instance_id: str) -> Any:
        instance = self.instances[instance_id]
        self._shadow.instance_ready(now_ms, instance)
        return self._told(now_ms, super().instance_ready(now_ms, instance_id))

    def wake(self, now_ms: float) -> Any:
        return self._told(now_ms, super().wake(now_ms))

    def _told(self, now_ms: float, actions: Any) -> Any:
        for action in actions:
            if isinstance(action, Assign):
                arrival_ms, cold = self._asked.pop(action.request)
                meta = pb.Meta(key=action.instance.pool.key)
                told = Served("", meta, action.instance, arrival_ms, now_ms, cold)
                self._serves[action.instance.id] = told
                self._shadow.assigned(told)
            elif isinstance(action, DestroySlot):
                self._shadow.slot_released(now_ms, action.instance, action.reason)
        return actions


def beside(trace: Trace, serves: Policy, plans: Policy) -> tuple[Replay, Shadow]:
    shadow = Shadow(plans)
    result = replay(
        trace, serves, create_ms=300, make_scheduler=lambda policy: Watched(policy, shadow)
    )
    shadow.advance(result.end_ms + 2 * START_MS)
    assert shadow.problem is None
    return result, shadow


def traffic() -> Trace:
    rng = np.random.default_rng(11)
    rows = [(k * 60_000, 0, 400) for k in range(400)]
    rows += [(int(at), 1, 900) for at in np.cumsum(rng.exponential(25_000, 1_000))]
    rows += [
        (int(at) // 1_000 * 1_000, 2, 3_000) for at in np.cumsum(rng.exponential(9_000, 2_700))
    ]
    return trace_of(rows, memory_mb=[128, 256, 512], init_ms=START_MS - 300)


def held_gb_s(trace: Trace, result: Replay) -> float:
    return sum(
        (slot.destroyed_ms - slot.created_ms) * trace.apps[slot.app].memory_mb / 1_024_000.0
        for slot in result.slots
    )


@pytest.mark.parametrize("plans", ["fixed:600", "fixed:20", "learned"])
@pytest.mark.parametrize("serves", ["fixed:60", "learned"])
def test_plans_what_a_replay_of_it_gives(serves: str, plans: str) -> None:
    def policy(name: str) -> Policy:
        return make_policy(name, Model() if name == "learned" else None)

    trace = traffic()
    result, shadow = beside(trace, policy(serves), policy(plans))
    alone = replay(trace, policy(plans), create_ms=300)
    mine, theirs = shadow.serving, shadow.planned
    assert mine.requests == theirs.requests == len(trace)
    assert mine.cold == int(result.cold.sum())
    assert mine.waited_ms == pytest.approx(float(result.wait_ms.sum()))
    # A shadow's request may hold its instance for as long as it waited here, and start-up times
    # are what they were believed to be here.
    assert theirs.cold == pytest.approx(int(alone.cold.sum()), rel=0.1, abs=3)
    assert theirs.waited_ms == pytest.approx(float(alone.wait_ms.sum()), rel=0.15, abs=5_000)
    assert theirs.slot_gb_s(result.end_ms) == pytest.approx(held_gb_s(trace, alone), rel=0.05)


def test_what_fails_in_the_shadow_harms_nobody() -> None:
    class Broken(type(make_policy("fixed:60"))):  # type: ignore[misc]
        def app(self, key: str, memory_mb: int, runtime: str) -> Any:
            raise RuntimeError("no")

    shadow = Shadow(Broken(60.0))

    async def run() -> None:
        async with served(make_policy("fixed:300"), observers=(shadow,)) as world:
            reply = await world.stub.Assign(assign("a"))
            await world.stub.Idle(done(reply.assigment))

    asyncio.run(run())
    assert shadow.problem == "RuntimeError: no"


def test_serve_tells_what_the_shadow_would_have_cost() -> None:
    async def call(address: str) -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            stub: Any = ScalerStub(channel)  # type: ignore[no-untyped-call]
            for number in range(3):
                reply = await stub.Assign(assign(f"r{number}"))
                await stub.Idle(done(reply.assigment))

    async def run() -> tuple[str, str, str]:
        platform = SimulatedPlatform({"app": 1.0}, create_ms=1.0)
        await platform.start()
        where = ("--platform", f"127.0.0.1:{platform.port}", "--metrics-port", 0)
        with scaler("--policy", "fixed:300", "--shadow", "fixed:0.001", *where) as process:
            await call(await asyncio.to_thread(lambda: process.address))
            _, metrics = await asyncio.to_thread(get, f"{process.page}/metrics")
            await asyncio.to_thread(process.terminate)
            line = process.until(r"shadow fixed.*")[0]
        slots = len(platform.slots)
        await platform.stop()
        return metrics, line, str(slots)

    metrics, line, slots = asyncio.run(run())
    assert slots == "1"  # nothing of what was planned was done
    assert 'scaler_shadow_requests_total{policy="serving"} 3.0' in metrics
    assert 'scaler_shadow_cold_starts_total{policy="serving"} 1.0' in metrics
    assert "shadow fixed:0.001 beside fixed:300: 3 requests, 1 -> " in line
