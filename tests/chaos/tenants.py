"""Three tenants in trouble: what they do must cost nobody else anything."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import Any

import grpc
import grpc.aio

from tests.chaos.callers import ASSIGN_S, DIRECT_CHANNEL
from tests.chaos.platform import ChaosPlatform, Dice
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.proto.scaler_pb2_grpc import ScalerStub
from warmscaler.simulator.platform import Fault, Request

BAD = pb.Meta(key="bad", runtime="go", timeout_in_secs=5, memory_in_mb=8_192)
"""No host has room for it, and two callers ask all the time."""
SLOW = pb.Meta(key="slow", runtime="go", timeout_in_secs=5, memory_in_mb=4_096)
"""Its CreateSlots take longer than its callers wait."""
CLINGING = pb.Meta(key="clinging", runtime="go", timeout_in_secs=5, memory_in_mb=2_048)
"""DestroySlots of its slots hang."""
SLOW_S = (15.0, 40.0)
HANGS_S = 30.0
CLINGING_EVERY_S = 1.0
SLOW_PATIENCE_S = 10.0


class Tenants:
    """Their callers, and what goes wrong for them on the platform."""

    def __init__(self, target: str, dice: Dice, seed: int, pace: float) -> None:
        """All that is slow is so much slower, or faster."""
        self._pace = pace
        self._random = Random(seed)
        self._dice = dice
        self._channel = grpc.aio.insecure_channel(target, options=DIRECT_CHANNEL)
        self._stub: Any = ScalerStub(self._channel)  # type: ignore[no-untyped-call]
        self.answers: Counter[str] = Counter()
        self._tasks: list[asyncio.Task[None]] = []

    def of(self, platform: ChaosPlatform) -> None:
        """This platform troubles them."""

        def faults(request: Request) -> Fault | None:
            if self._dice.on:
                if isinstance(request, pb.DestroySlotRequest):
                    slot = platform.slots.get(request.id)
                    if slot is not None and slot.meta_key == CLINGING.key:
                        return Fault(delay_s=HANGS_S * self._pace)
                elif isinstance(request, pb.CreateSlotRequest):
                    memory_mb = request.resource_config.memory_in_megabytes
                    if memory_mb == SLOW.memory_in_mb:
                        return Fault(delay_s=self._random.uniform(*SLOW_S) * self._pace)
            return self._dice(request)

        platform.faults = faults
        platform.refuses = lambda request: (
            self._dice.on and request.resource_config.memory_in_megabytes == BAD.memory_in_mb
        )

    def start(self) -> None:
        """They call until `stop`."""
        for number in range(2):
            self._tasks.append(asyncio.create_task(self._call(f"bad{number}", BAD, ASSIGN_S)))
            self._tasks.append(
                asyncio.create_task(self._call(f"slow{number}", SLOW, SLOW_PATIENCE_S * self._pace))
            )
        self._tasks.append(asyncio.create_task(self._call("clinging", CLINGING, ASSIGN_S)))

    async def stop(self) -> None:
        """No more calls."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._channel.close(None)

    async def _call(self, name: str, meta: pb.Meta, timeout_s: float) -> None:
        number = 0
        while True:
            number += 1
            try:
                request = pb.AssignRequest(request_id=f"{name}-{number}", meta_data=meta)
                reply = await self._stub.Assign(request, timeout=timeout_s)
                self.answers[f"{meta.key}: {pb.Status.Name(reply.status)}"] += 1
                if meta is CLINGING:
                    await asyncio.sleep(CLINGING_EVERY_S)
                if reply.status == pb.Ok:
                    result = pb.Result(status_code=200, need_destroy=True)
                    idle = pb.IdleRequest(assigment=reply.assigment, result=result)
                    await self._stub.Idle(idle, timeout=ASSIGN_S)
            except grpc.aio.AioRpcError as error:
                self.answers[f"{meta.key}: {error.code().name}"] += 1
                if meta is not BAD or error.code() is grpc.StatusCode.UNAVAILABLE:  # it is down
                    await asyncio.sleep(0.1)
