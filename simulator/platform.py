"""The simulated platform as a real gRPC server, with an account of every slot it ever gave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from warmscaler.service.front.tls import ServerTls
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.proto import scaler_pb2_grpc
from warmscaler.simulator.figures import MB_PER_GB
from warmscaler.simulator.replay import CREATE_MS

Context = grpc.aio.ServicerContext[Any, Any]
Request = pb.CreateSlotRequest | pb.InitRequest | pb.DestroySlotRequest


@dataclass(frozen=True, slots=True)
class Fault:
    """How one call goes wrong: it takes longer, and fails if `code` is given.

    With `after`, the call does its work and then fails: a reply that is lost on its way.
    """

    code: grpc.StatusCode | None = None
    delay_s: float = 0.0
    after: bool = False


Faults = Callable[[Request], Fault | None]
"""Looks at a call and says how it goes wrong, or None where it does not."""


@dataclass(slots=True)
class PlatformSlot:
    """A slot's life, on the monotonic clock in seconds; `destroyed_s` is None while it lives."""

    memory_mb: int
    called_s: float
    """When CreateSlot was called: from then on it costs."""
    destroyed_s: float | None = None
    meta_key: str = ""
    """The app started in it; empty before Init."""
    instance_id: str = ""


@dataclass(slots=True)
class Misuse:
    """Calls that a correct scaler never makes."""

    unknown_slots: int = 0
    """Init or DestroySlot of a slot that never was."""
    destroyed_twice: int = 0
    init_of_destroyed: int = 0
    init_twice: int = 0


@dataclass(slots=True, eq=False)
class SimulatedPlatform(scaler_pb2_grpc.PlatformServicer):
    """CreateSlot takes `create_ms`, Init what `init_ms` says of the app; both divided by `speed`.

    Errors are gRPC's: NotFound for a slot that is not there (never was, or destroyed already),
    FailedPrecondition for a second Init, InvalidArgument for an unknown app or no memory.
    """

    init_ms: Mapping[str, float]
    create_ms: float = CREATE_MS
    speed: float = 1.0
    faults: Faults = lambda _: None
    port: int = 0
    """Where it listens, after `start`."""
    slots: dict[str, PlatformSlot] = field(default_factory=dict)
    """Every slot ever made, by its id."""
    ready: dict[str, set[str]] = field(default_factory=dict)
    """Instances that run, by app: Init has ended, DestroySlot was not called."""
    misuse: Misuse = field(default_factory=Misuse)
    _server: grpc.aio.Server | None = None

    async def start(self, address: str = "127.0.0.1:0", tls: ServerTls | None = None) -> None:
        """Listens, in the clear without `tls`. Raises OSError where it cannot, TlsError."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        scaler_pb2_grpc.add_PlatformServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        try:
            self.port = (
                self._server.add_insecure_port(address)
                if tls is None
                else self._server.add_secure_port(address, tls.credentials())
            )
        except RuntimeError:
            self.port = 0
        if not self.port:
            raise OSError(f"{address}: cannot listen there; is the port in use?")
        await self._server.start()

    async def stop(self) -> None:
        """Answers no more."""
        if self._server is not None:
            await self._server.stop(0.5)

    @property
    def live_slots(self) -> int:
        """Slots given and not yet taken back."""
        return sum(slot.destroyed_s is None for slot in list(self.slots.values()))

    def slot_gb_s(self) -> float:
        """GB·s of every slot until now, at the trace's pace (real time times `speed`)."""
        now_s = time.monotonic()
        mb_s = 0.0
        # A list, because the statistics page asks from a thread of its own.
        for slot in list(self.slots.values()):
            end_s = now_s if slot.destroyed_s is None else slot.destroyed_s
            mb_s += slot.memory_mb * (end_s - slot.called_s)
        return mb_s / MB_PER_GB * self.speed

    async def CreateSlot(
        self, request: pb.CreateSlotRequest, context: Context
    ) -> pb.CreateSlotReply:
        """A new slot of the wanted memory."""
        memory_mb = request.resource_config.memory_in_megabytes
        if not memory_mb:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "memory_in_megabytes is zero")
        called_s = time.monotonic()
        create_time = _epoch_ms()
        fault = await self._before(request, context)
        create_s = self.create_ms / 1000.0 / self.speed
        await asyncio.sleep(create_s)
        slot_id = f"slot-{len(self.slots) + 1}"
        self.slots[slot_id] = PlatformSlot(memory_mb, called_s)
        await _after(fault, context)
        return pb.CreateSlotReply(
            slot=pb.Slot(
                id=slot_id,
                resource_config=request.resource_config,
                create_time=create_time,
                create_duration_in_ms=round(create_s * 1000.0),
            )
        )

    async def Init(self, request: pb.InitRequest, context: Context) -> pb.InitReply:
        """Starts the app in a slot."""
        slot = await self._live_slot(request.slot_id, context)
        key = request.meta_data.key
        if key not in self.init_ms:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"there is no app {key!r}")
        if slot.instance_id:
            self.misuse.init_twice += 1
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, f"{slot.instance_id} is in the slot already"
            )
        create_time = _epoch_ms()
        fault = await self._before(request, context)
        slot.meta_key, slot.instance_id = key, request.instance_id
        init_s = self.init_ms[key] / 1000.0 / self.speed
        await asyncio.sleep(init_s)
        if slot.destroyed_s is not None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "the slot was destroyed meanwhile")
        self.ready.setdefault(key, set()).add(request.instance_id)
        await _after(fault, context)
        return pb.InitReply(create_time=create_time, init_duration_in_ms=round(init_s * 1000.0))

    async def DestroySlot(
        self, request: pb.DestroySlotRequest, context: Context
    ) -> pb.DestroySlotReply:
        """Takes a slot back, with what runs in it."""
        called_s = time.monotonic()
        slot = await self._live_slot(request.id, context, to_destroy=True)
        fault = await self._before(request, context)
        if slot.destroyed_s is None:  # a fault may have let a second call overtake
            slot.destroyed_s = called_s
            self.ready.get(slot.meta_key, set()).discard(slot.instance_id)
        await _after(fault, context)
        return pb.DestroySlotReply()

    async def _live_slot(
        self, slot_id: str, context: Context, *, to_destroy: bool = False
    ) -> PlatformSlot:
        slot = self.slots.get(slot_id)
        if slot is not None and slot.destroyed_s is None:
            return slot
        if slot is None:
            self.misuse.unknown_slots += 1
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no slot {slot_id!r}")
        elif to_destroy:
            self.misuse.destroyed_twice += 1
        else:
            self.misuse.init_of_destroyed += 1
        await context.abort(grpc.StatusCode.NOT_FOUND, f"slot {slot_id!r} is destroyed")
        raise AssertionError("abort raises")

    async def _before(self, request: Request, context: Context) -> Fault | None:
        fault = self.faults(request)
        if fault is not None:
            await asyncio.sleep(fault.delay_s)
            if not fault.after:
                await _after(fault, context)
        return fault


async def _after(fault: Fault | None, context: Context) -> None:
    if fault is not None and fault.code is not None:
        await context.abort(fault.code, "the simulated platform was told to fail")


def _epoch_ms() -> int:
    return int(time.time() * 1000.0)
