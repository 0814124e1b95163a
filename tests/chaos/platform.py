"""A platform that keeps its account through its own restarts, and goes wrong by the dice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import grpc
import grpc.aio

from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.simulator.platform import Fault, PlatformSlot, Request, SimulatedPlatform

FAIL_SHARE = 0.05
SLOW_SHARE = 0.05
TOLD_TO_FAIL = "told to fail"
CODES = (
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNKNOWN,
)


class Dice:
    """One call in twenty fails, half of those after the work was done; one in twenty is slow."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self.calls = 0
        self.failed = 0
        self.slow = 0
        self.on = True

    def __call__(self, _: Request) -> Fault | None:
        self.calls += 1
        draw = self._random.random()
        if not self.on or draw >= FAIL_SHARE + SLOW_SHARE:
            return None
        if draw < FAIL_SHARE:
            self.failed += 1
            return Fault(self._random.choice(CODES), after=self._random.random() < 0.5)
        self.slow += 1
        return Fault(delay_s=self._random.uniform(0.2, 1.5))


@dataclass(slots=True, eq=False)
class ChaosPlatform(SimulatedPlatform):
    """A CreateSlot under a request id seen before is the same call: it answers with the same slot.

    One that was begun makes its slot whatever becomes of the connection it came over.
    """

    on_destroy: Callable[[str], None] = lambda _: None
    """Gets the instance of every slot that is destroyed."""
    refuses: Callable[[pb.CreateSlotRequest], bool] = lambda _: False
    """Says which CreateSlots find no room."""
    _making: dict[str, asyncio.Task[pb.CreateSlotReply]] = field(default_factory=dict)

    async def CreateSlot(self, request: pb.CreateSlotRequest, context: Any) -> pb.CreateSlotReply:  # noqa: N802
        """A new slot, or the one that this request was given."""
        if self.refuses(request):
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no host has so much memory")
        making = self._making.get(request.request_id)
        if making is None:
            making = asyncio.create_task(self._make(request))
            self._making[request.request_id] = making
        fault = await self._before(request, context)
        reply = await asyncio.shield(making)
        if fault is not None and fault.code is not None:
            await context.abort(fault.code, f"the platform was {TOLD_TO_FAIL}")
        return reply

    async def DestroySlot(self, request: pb.DestroySlotRequest, context: Any) -> Any:  # noqa: N802
        """Takes a slot back, and says whose it was."""
        slot = self.slots.get(request.id)
        if slot is not None and slot.destroyed_s is None and slot.instance_id:
            self.on_destroy(slot.instance_id)
        return await SimulatedPlatform.DestroySlot(self, request, context)

    async def _make(self, request: pb.CreateSlotRequest) -> pb.CreateSlotReply:
        called_s = time.monotonic()
        await asyncio.sleep(self.create_ms / 1000.0)
        slot_id = f"slot-{len(self.slots) + 1}"
        self.slots[slot_id] = PlatformSlot(request.resource_config.memory_in_megabytes, called_s)
        return pb.CreateSlotReply(slot=pb.Slot(id=slot_id, resource_config=request.resource_config))

    async def restart(self, outage_s: float) -> None:
        """Cuts every connection, answers nobody for a while, and comes back as it was."""
        if self._server is not None:
            await self._server.stop(None)
        await asyncio.sleep(outage_s)
        await self.start(f"127.0.0.1:{self.port}")
