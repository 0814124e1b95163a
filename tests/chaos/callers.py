"""Callers of a scaler that goes down and comes back; they keep the books on what they were given."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

import grpc
import grpc.aio

from tests.chaos.platform import TOLD_TO_FAIL
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.proto.scaler_pb2_grpc import ScalerStub

ASSIGN_S = 30.0
IDLE_S = 20.0
"""For so long an Idle is tried again while the scaler is down."""
VANISH_SHARE = 0.02
MEAN_MS = 60.0
MOST_MS = 1_000.0
AFTER_S = 5.5
"""After an outage of the platform the breaker may stay open for so long."""
APPS = 16
DIRECT_CHANNEL = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
]


@dataclass(slots=True)
class Books:
    """What came of every request."""

    answers: Counter[str] = field(default_factory=Counter)
    in_use: dict[str, str] = field(default_factory=dict)
    """Instances by the request that has them now."""
    given_twice: int = 0
    taken_away: int = 0
    """Instances whose slot was destroyed while a request had them."""
    outages: list[tuple[float, float]] = field(default_factory=list)
    """When a request could not be served: the scaler was down, or the platform (monotonic s)."""
    wrong: list[str] = field(default_factory=list)
    """Requests that failed and no fault was injected."""
    waits_s: list[float] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    """Instances that served a request."""
    cold_waits_s: list[float] = field(default_factory=list)
    """What the first request of each instance waited: cold starts that were served."""
    unserved: int = 0
    """Requests that got no instance, no outage being to blame: cold starts, as what is idle serves."""

    def destroyed(self, instance_id: str) -> None:
        """The platform tells of every slot it takes back."""
        self.taken_away += instance_id in self.in_use

    def excused(self, began_s: float, ended_s: float) -> bool:
        """An outage overlaps with this request."""
        return any(began_s <= end and ended_s >= begin for begin, end in self.outages)


class Callers:
    """Requests at random, for as long as asked."""

    def __init__(
        self,
        target: str,
        books: Books,
        seed: int,
        *,
        most_ms: float = MOST_MS,
        name: str = "request",
    ) -> None:
        """`most_ms` is how long a request runs at most; `name` begins every request's id."""
        self._random = Random(seed)
        self._most_ms = most_ms
        self._name = name
        self._books = books
        self._running: set[asyncio.Task[None]] = set()
        self._sent = 0
        self._metas = [
            pb.Meta(key=f"app-{n}", runtime="go", timeout_in_secs=5, memory_in_mb=128)
            for n in range(APPS)
        ]
        self._channel = grpc.aio.insecure_channel(target, options=DIRECT_CHANNEL)
        self._stub: Any = ScalerStub(self._channel)  # type: ignore[no-untyped-call]

    async def ready(self) -> None:
        """Returns when the scaler answers."""
        await asyncio.wait_for(self._channel.channel_ready(), 30.0)

    async def call_for(self, duration_s: float, rate: float) -> None:
        """Poisson arrivals, `rate` a second; returns when the last was sent."""
        end_s = time.monotonic() + duration_s
        due_s = time.monotonic()
        while due_s < end_s:
            due_s += self._random.expovariate(rate)
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            self._sent += 1
            task = asyncio.create_task(self._request(f"{self._name}-{self._sent}"))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def finish(self) -> None:
        """Returns when every request has come to its end."""
        if self._running:
            await asyncio.wait(self._running)
        await self._channel.close(None)

    async def _request(self, request_id: str) -> None:
        random, books = self._random, self._books
        meta = self._metas[int(APPS * random.random() ** 2)]
        began_s = time.monotonic()
        call = self._stub.Assign(
            pb.AssignRequest(request_id=request_id, meta_data=meta), timeout=ASSIGN_S
        )
        vanishes = random.random() < VANISH_SHARE
        if vanishes:
            asyncio.get_running_loop().call_later(random.expovariate(1 / 0.05), call.cancel)
        try:
            reply = await call
        except asyncio.CancelledError:
            books.answers["vanished"] += 1
            return
        except grpc.aio.AioRpcError as error:
            self._failed(f"{error.code().name}: {error.details()}", began_s)
            return
        if reply.status != pb.Ok:
            self._failed(f"{pb.Status.Name(reply.status)}: {reply.error_message}", began_s)
            return
        instance_id = reply.assigment.instance_id
        if vanishes and random.random() < 0.5:
            books.answers["vanished with its instance"] += 1
            return
        books.given_twice += instance_id in books.in_use
        books.in_use[instance_id] = request_id
        books.waits_s.append(time.monotonic() - began_s)
        if instance_id not in books.seen:
            books.seen.add(instance_id)
            books.cold_waits_s.append(time.monotonic() - began_s)
        await asyncio.sleep(min(random.expovariate(1.0 / MEAN_MS), self._most_ms) / 1000.0)
        del books.in_use[instance_id]
        await self._idle(reply.assigment, need_destroy=random.random() < 0.02)

    async def _idle(self, assignment: pb.Assignment, *, need_destroy: bool) -> None:
        request = pb.IdleRequest(
            assigment=assignment, result=pb.Result(status_code=200, need_destroy=need_destroy)
        )
        began_s = time.monotonic()
        while True:
            try:
                reply = await self._stub.Idle(request, timeout=IDLE_S)
                break
            except grpc.aio.AioRpcError as error:
                down = error.code() is grpc.StatusCode.UNAVAILABLE
                if not down or time.monotonic() - began_s > IDLE_S:
                    self._failed(f"Idle: {error.code().name}: {error.details()}", began_s)
                    return
            await asyncio.sleep(0.1)
        if reply.status == pb.Ok:
            self._books.answers["ok"] += 1
        else:
            self._failed(f"Idle: {reply.error_message}", began_s)

    def _failed(self, reason: str, began_s: float) -> None:
        books = self._books
        excused = books.excused(began_s, time.monotonic())
        books.unserved += not excused and "Idle: " not in reason
        if reason.startswith(("DEADLINE_EXCEEDED", "Idle: DEADLINE_EXCEEDED")):
            books.answers["unanswered"] += 1
        elif TOLD_TO_FAIL in reason:
            books.answers["failed by its own fault"] += 1
        elif excused:
            books.answers["failed in an outage"] += 1
        else:
            books.answers["failed without a fault"] += 1
            books.wrong.append(reason)
