"""Callers of several scalers behind one address, and a record of what each call came to."""

from __future__ import annotations

import asyncio
import itertools
import time
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc.aio

from warmscaler.service.address import DIRECT
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.proto.scaler_pb2_grpc import ScalerStub

APP, AT = "x-scaler-app", "x-scaler-at"
DEADLINE_S = 30.0
RUNS_S = 0.005


@dataclass(frozen=True, slots=True)
class Failure:
    """A call without an answer."""

    call: str
    app: str
    sent_s: float
    ended_s: float
    code: str
    scaler: int
    """Which one the app, or the instance, was at before it; 0 if it was at none."""


@dataclass
class Load:
    """Closed loops over many apps; what they saw. A scaler is named by its port."""

    apps: int
    callers: int
    at: dict[str, int] = field(default_factory=dict)
    """By app: the scaler that served it last."""
    moves: list[tuple[str, int, int]] = field(default_factory=list)
    """App, from, to."""
    in_use: set[str] = field(default_factory=set)
    twice: list[str] = field(default_factory=list)
    """Instances that served two requests at once."""
    failures: list[Failure] = field(default_factory=list)
    unknown: list[int] = field(default_factory=list)
    """By Idle of an instance that the scaler which heard it does not know: whose it was."""
    answered: int = 0
    ended: bool = False

    async def run(self, address: str) -> None:
        """Until `ended`."""
        turns = itertools.cycle(range(self.apps))
        async with grpc.aio.insecure_channel(address, [DIRECT]) as channel:
            stub: Any = ScalerStub(channel)  # type: ignore[no-untyped-call]
            await asyncio.gather(*(self._call(stub, turns) for _ in range(self.callers)))

    async def _call(self, stub: Any, turns: Iterator[int]) -> None:
        while not self.ended:
            await self._one(stub, f"app-{next(turns)}")

    async def _one(self, stub: Any, app: str) -> None:
        meta = pb.Meta(key=app, runtime="go", timeout_in_secs=60, memory_in_mb=128)
        request = pb.AssignRequest(request_id=f"{app}-{self.answered}", timestamp=1, meta_data=meta)
        sent_s = time.monotonic()
        call = stub.Assign(request, timeout=DEADLINE_S, metadata=((APP, app),))
        try:
            reply = await call
            where = str(dict(await call.initial_metadata())[AT])
        except grpc.aio.AioRpcError as error:
            self._failed("Assign", app, sent_s, error, self.at.get(app, 0))
            return
        self.answered += 1
        if reply.status != pb.Ok:
            name = pb.Status.Name(reply.status)
            self.failures.append(
                Failure("Assign", app, sent_s, time.monotonic(), name, self.at.get(app, 0))
            )
            return
        instance = reply.assigment.instance_id
        scaler = int(b64decode(where).decode().rpartition(":")[2])
        before = self.at.get(app, scaler)
        if before != scaler:
            self.moves.append((app, before, scaler))
        self.at[app] = scaler
        if instance in self.in_use:
            self.twice.append(instance)
        self.in_use.add(instance)
        await asyncio.sleep(RUNS_S)
        self.in_use.discard(instance)  # from the Idle on it may serve the next one
        result = pb.Result(status_code=200, duration_in_ms=5)
        idle = pb.IdleRequest(assigment=reply.assigment, result=result)
        sent_s = time.monotonic()
        try:
            metadata = ((APP, app), (AT, where))
            answer = await stub.Idle(idle, timeout=DEADLINE_S, metadata=metadata)
            if answer.status != pb.Ok:
                self.unknown.append(scaler)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                self.unknown.append(scaler)
            else:
                self._failed("Idle", app, sent_s, error, scaler)

    def _failed(
        self, call: str, app: str, sent_s: float, error: grpc.aio.AioRpcError, scaler: int
    ) -> None:
        code = f"{error.code().name}: {error.details()}"
        self.failures.append(Failure(call, app, sent_s, time.monotonic(), code, scaler))
