"""The simulated platform as a real gRPC server, with an account of every slot it ever gave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from service.proto import scaler_pb2 as pb
from service.proto import scaler_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]
MB_PER_GB = 1024.0


@dataclass(slots=True)
class PlatformSlot:
    """A slot's life, on the monotonic clock in seconds; `destroyed_s` is None while it lives."""

    memory_mb: int
    called_s: float
    destroyed_s: float | None = None
    meta_key: str = ""


class SimulatedPlatform(scaler_pb2_grpc.PlatformServicer):
    """CreateSlot takes `create_ms`, Init what `init_ms` says of the app; both divided by `speed`."""

    def __init__(
        self, init_ms: Mapping[str, float], *, create_ms: float = 300.0, speed: float = 1.0
    ) -> None:
        self._init_ms = init_ms
        self._create_s = create_ms / 1000.0 / speed
        self._speed = speed
        self.slots: dict[str, PlatformSlot] = {}
        self._server: grpc.aio.Server | None = None
        self.port = 0

    async def start(self, address: str = "127.0.0.1:0") -> None:
        """Listens; raises OSError where it cannot."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        scaler_pb2_grpc.add_PlatformServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError:
            raise OSError(f"{address}: cannot listen there; is the port in use?") from None
        await self._server.start()

    async def stop(self) -> None:
        """Answers no more."""
        if self._server is not None:
            await self._server.stop(0.5)

    @property
    def live_slots(self) -> int:
        """Slots given and not yet taken back."""
        return sum(slot.destroyed_s is None for slot in self.slots.values())

    def slot_gb_s(self) -> float:
        """GB·s of every slot until now, at the trace's pace (real time times `speed`)."""
        now_s = time.monotonic()
        return sum(
            slot.memory_mb
            / MB_PER_GB
            * self._speed
            * ((now_s if slot.destroyed_s is None else slot.destroyed_s) - slot.called_s)
            for slot in self.slots.values()
        )

    async def CreateSlot(
        self, request: pb.CreateSlotRequest, context: Context
    ) -> pb.CreateSlotReply:
        """A new slot of the wanted memory."""
        memory_mb = request.resource_config.memory_in_megabytes
        if not memory_mb:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "memory_in_megabytes is zero")
        called_s = time.monotonic()
        create_time = int(time.time() * 1000.0)
        await asyncio.sleep(self._create_s)
        slot_id = f"slot-{len(self.slots) + 1}"
        self.slots[slot_id] = PlatformSlot(memory_mb, called_s)
        return pb.CreateSlotReply(
            slot=pb.Slot(
                id=slot_id,
                resource_config=request.resource_config,
                create_time=create_time,
                create_duration_in_ms=round(self._create_s * 1000.0),
            )
        )

    async def Init(self, request: pb.InitRequest, context: Context) -> pb.InitReply:
        """Starts the app in a slot."""
        slot = self.slots.get(request.slot_id)
        if slot is None or slot.destroyed_s is not None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such slot")
        assert slot is not None  # noqa: S101 - abort() raises
        key = request.meta_data.key
        if key not in self._init_ms:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "there is no such app")
        slot.meta_key = key
        create_time = int(time.time() * 1000.0)
        init_s = self._init_ms[key] / 1000.0 / self._speed
        await asyncio.sleep(init_s)
        return pb.InitReply(create_time=create_time, init_duration_in_ms=round(init_s * 1000.0))

    async def DestroySlot(
        self, request: pb.DestroySlotRequest, context: Context
    ) -> pb.DestroySlotReply:
        """Takes a slot back."""
        slot = self.slots.get(request.id)
        if slot is None or slot.destroyed_s is not None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such slot")
        assert slot is not None  # noqa: S101 - abort() raises
        slot.destroyed_s = time.monotonic()
        return pb.DestroySlotReply()
