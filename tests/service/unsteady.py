"""A platform in this process that goes wrong as told, one call at a time."""

from __future__ import annotations

import asyncio
from collections import deque

from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.slots.answers import Made, PlatformError


class Unsteady:
    """Keeps an account of slots. The next faults of each call stand in `faults`, None is none.

    A CreateSlot under a request id seen before answers with the same slot.
    """

    def __init__(self) -> None:
        self.created: list[str] = []
        self.by_request: dict[str, str] = {}
        self.live: set[str] = set()
        self.inits = 0
        self.destroys = 0
        self.faults: dict[str, deque[PlatformError | None]] = {
            "create": deque(),
            "init": deque(),
            "destroy": deque(),
        }
        self.lose_reply = False
        """A CreateSlot that fails made its slot all the same."""
        self.held = 0
        self._holds: dict[str, asyncio.Event] = {}

    def hold(self, call: str) -> None:
        """Such calls do their work and do not answer until `let_go`."""
        self._holds[call] = asyncio.Event()

    def let_go(self) -> None:
        for event in self._holds.values():
            event.set()
        self._holds = {}

    def fail(self, call: str, *faults: PlatformError | None) -> None:
        """The next calls go wrong like that."""
        self.faults[call].extend(faults)

    async def create_slot(self, request_id: str, memory_mb: int) -> Made:
        fault = self._next("create")
        if fault is None or self.lose_reply:
            if request_id not in self.by_request:
                slot_id = f"slot-{len(self.created) + 1}"
                self.created.append(slot_id)
                self.live.add(slot_id)
                self.by_request[request_id] = slot_id
        else:
            raise fault
        await self._held("create")
        if fault is not None:
            raise fault
        return Made(self.by_request[request_id], memory_mb)

    async def init(self, request_id: str, slot_id: str, instance_id: str, meta: pb.Meta) -> None:
        self.inits += 1
        await self._held("init")
        fault = self._next("init")
        if fault is not None:
            raise fault
        assert slot_id in self.live

    async def destroy_slot(self, request_id: str, slot_id: str, reason: str) -> None:
        self.destroys += 1
        await self._held("destroy")
        fault = self._next("destroy")
        if fault is not None:
            raise fault
        self.live.discard(slot_id)

    def _next(self, call: str) -> PlatformError | None:
        faults = self.faults[call]
        return faults.popleft() if faults else None

    async def _held(self, call: str) -> None:
        event = self._holds.get(call)
        if event is not None:
            self.held += 1
            await event.wait()
