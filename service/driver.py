"""The live driver: runs the scheduler on a real clock and carries its actions out on a platform.

Everything here happens on one asyncio loop, so that a stimulus and its actions are never torn
apart. A warm Assign and an Idle never suspend.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from math import inf
from typing import Any, Protocol

from models.policy import Instance, State
from service.observer import Observer, Served
from service.platform_client import PlatformError
from service.proto import scaler_pb2 as pb
from service.scheduler import (
    Actions,
    Assign,
    CreateSlot,
    DestroySlot,
    InitInstance,
    Refuse,
    Scheduler,
)

log = logging.getLogger("scaler")

REMEMBERED_INSTANCES = 10_000
"""How many instances that are gone stay known, so that a second Idle for one is told apart from
an Idle for one that never was."""
RETRY_FIRST_S = 0.1
RETRY_LAST_S = 5.0


class Platform(Protocol):
    """What the driver asks of a platform; each raises PlatformError."""

    async def create_slot(self, request_id: str, memory_mb: int) -> str: ...
    async def init(
        self, request_id: str, slot_id: str, instance_id: str, meta: pb.Meta
    ) -> None: ...
    async def destroy_slot(self, request_id: str, slot_id: str, reason: str) -> None: ...


class Refused(Exception):
    """A request that gets no instance; its text is the reason."""


class UnknownApp(Exception):
    """An Idle for an app never seen."""


class UnknownInstance(Exception):
    """An Idle for an instance that never was."""


class WallClock:
    """Milliseconds since the epoch, that never go back."""

    def __init__(self) -> None:
        self._offset_ms = time.time() * 1000.0 - time.monotonic() * 1000.0

    def __call__(self) -> float:
        return self._offset_ms + time.monotonic() * 1000.0


class Driver:
    """Assign and idle for the server, on top of a scheduler and a platform."""

    def __init__(
        self,
        scheduler: Scheduler,
        platform: Platform,
        clock_ms: Callable[[], float] | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.scheduler = scheduler
        self._observers = tuple(observers)
        self._platform = platform
        self._now_ms = clock_ms or WallClock()
        self._metas: dict[str, pb.Meta] = {}
        self._slots: dict[str, str] = {}
        self._serving: dict[str, Served] = {}
        """By busy instance."""
        self._waiting: dict[int, asyncio.Future[Instance]] = {}
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._tokens = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = inf

    @property
    def now_ms(self) -> Callable[[], float]:
        """The clock of every time here."""
        return self._now_ms

    @property
    def waiting(self) -> int:
        """Requests that have no instance yet."""
        return len(self._waiting)

    # For the server

    async def assign(self, request_id: str, meta: pb.Meta) -> str:
        """Returns the id of the instance that the request has until its idle.

        Raises Refused. If the caller goes away (cancellation), the start goes on for the next.
        """
        key = meta.key
        self._tokens += 1
        token = self._tokens
        now_ms = self._now_ms()
        actions = self.scheduler.arrival(now_ms, token, key, meta.memory_in_mb, meta.runtime)
        if actions and type(first := actions[0]) is Assign and first.request == token:
            instance_id = first.instance.id
            served = Served(request_id, meta, first.instance, now_ms, now_ms, False)
            self._serving[instance_id] = served
            for observer in self._observers:
                observer.assigned(served)
            if len(actions) > 1:
                self._carry_out(actions[1:])
            if self.scheduler.next_wake_ms < self._timer_ms:
                self._arm()
            return instance_id
        pool = self.scheduler.pools.get(key)
        if pool is not None:  # else it was refused at the door
            starts = sum(isinstance(action, CreateSlot) for action in actions)
            unknown = key not in self._metas
            for observer in self._observers:
                observer.waits(now_ms, pool, starts, first=unknown)
        self._metas[key] = meta
        future: asyncio.Future[Instance] = asyncio.get_running_loop().create_future()
        self._waiting[token] = future
        self._carry_out(actions)
        try:
            instance = await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._stimulate(self.scheduler.idle(self._now_ms(), future.result().id))
            else:
                self._stimulate(self.scheduler.request_gone(self._now_ms(), key, token))
            for observer in self._observers:
                observer.gone(self._now_ms(), meta, now_ms)
            raise
        except Refused as refused:
            for observer in self._observers:
                observer.refused(self._now_ms(), meta, now_ms, str(refused))
            raise
        finally:
            self._waiting.pop(token, None)
        served = Served(request_id, meta, instance, now_ms, self._now_ms(), True)
        self._serving[instance.id] = served
        for observer in self._observers:
            observer.assigned(served)
        return instance.id

    def idle(self, assignment: pb.Assignment, result: pb.Result) -> None:
        """The request is done. A second idle changes nothing. Raises UnknownApp, UnknownInstance."""
        instance_id = assignment.instance_id
        served = self._serving.get(instance_id)
        if served is None or (served.request_id != assignment.request_id and assignment.request_id):
            # Not busy, or busy with a later request: an Idle that came twice must not free it.
            if assignment.meta_key not in self.scheduler.pools:
                raise UnknownApp(assignment.meta_key)
            if instance_id not in self.scheduler.instances and instance_id not in self._gone:
                raise UnknownInstance(instance_id)
            return
        del self._serving[instance_id]
        now_ms = self._now_ms()
        actions = self.scheduler.idle(now_ms, instance_id, need_destroy=result.need_destroy)
        for observer in self._observers:
            observer.completed(now_ms, served, result)
        if actions:
            self._carry_out(actions)
        if self.scheduler.next_wake_ms < self._timer_ms:
            self._arm()

    async def drain(self, grace_s: float) -> None:
        """No new work; waits for running requests up to `grace_s`, then gives every slot back."""
        self._stimulate(self.scheduler.drain(self._now_ms()))
        deadline = time.monotonic() + grace_s
        while self.scheduler.instances and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        for instance in list(self.scheduler.instances.values()):
            slot_id = self._slots.get(instance.id)
            if slot_id is not None and instance.state is not State.DESTROYING:
                try:
                    await self._platform.destroy_slot(instance.id, slot_id, "shutting down")
                except PlatformError as error:
                    log.error("slot=%s not given back: %s", slot_id, error)
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()

    # Actions

    def _stimulate(self, actions: Actions) -> None:
        self._carry_out(actions)
        if self.scheduler.next_wake_ms < self._timer_ms:
            self._arm()

    def _carry_out(self, actions: Actions) -> None:
        for action in actions:
            if isinstance(action, Assign):
                self._answer(action)
            elif isinstance(action, CreateSlot):
                self._spawn(self._start(action.instance))
            elif isinstance(action, DestroySlot):
                for observer in self._observers:
                    observer.slot_released(self._now_ms(), action.instance, action.reason)
                self._spawn(self._destroy(action.instance, action.reason))
            elif isinstance(action, Refuse):
                future = self._waiting.get(action.request)  # type: ignore[call-overload]
                if future is not None and not future.done():
                    future.set_exception(Refused(action.reason))
        if self.scheduler.next_wake_ms < self._timer_ms:
            self._arm()

    def _answer(self, action: Assign) -> None:
        future = self._waiting.get(action.request)  # type: ignore[call-overload]
        if future is not None and not future.done():
            future.set_result(action.instance)
        else:  # its caller went away in this very turn of the loop: the next one has it
            self._stimulate(self.scheduler.idle(self._now_ms(), action.instance.id))

    async def _start(self, instance: Instance) -> None:
        meta = self._metas[instance.pool.key]
        try:
            slot_id = await self._platform.create_slot(instance.id, instance.memory_mb)
        except PlatformError as error:
            log.warning("instance=%s not started: %s", instance.id, error)
            self._failed(instance, str(error), slot_exists=False)
            return
        self._slots[instance.id] = slot_id
        now_ms = self._now_ms()
        for observer in self._observers:
            observer.slot_created(now_ms, instance)
        actions = self.scheduler.slot_created(now_ms, instance.id)
        if not any(isinstance(action, InitInstance) for action in actions):
            self._stimulate(actions)
            return
        try:
            await self._platform.init(instance.id, slot_id, instance.id, meta)
        except PlatformError as error:
            log.warning("instance=%s not started: %s", instance.id, error)
            self._failed(instance, str(error), slot_exists=True)
            return
        now_ms = self._now_ms()
        for observer in self._observers:
            observer.instance_ready(now_ms, instance)
        self._stimulate(self.scheduler.instance_ready(now_ms, instance.id))

    def _failed(self, instance: Instance, reason: str, *, slot_exists: bool) -> None:
        now_ms = self._now_ms()
        for observer in self._observers:
            observer.start_failed(now_ms, instance, reason)
        self._stimulate(
            self.scheduler.start_failed(now_ms, instance.id, reason, slot_exists=slot_exists)
        )

    async def _destroy(self, instance: Instance, reason: str) -> None:
        """Tries until the platform has the slot back: a slot given up is money lost."""
        slot_id = self._slots[instance.id]
        pause_s = RETRY_FIRST_S
        while True:
            try:
                await self._platform.destroy_slot(instance.id, slot_id, reason)
                break
            except PlatformError as error:
                log.warning("slot=%s not given back, trying again: %s", slot_id, error)
            await asyncio.sleep(pause_s)
            pause_s = min(2.0 * pause_s, RETRY_LAST_S)
        self._slots.pop(instance.id, None)
        self._serving.pop(instance.id, None)
        self._gone[instance.id] = None
        if len(self._gone) > REMEMBERED_INSTANCES:
            self._gone.popitem(last=False)
        now_ms = self._now_ms()
        for observer in self._observers:
            observer.slot_destroyed(now_ms, instance)
        self._stimulate(self.scheduler.slot_destroyed(now_ms, instance.id))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Time

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ms = self.scheduler.next_wake_ms
        delay_s = max(0.0, (self._timer_ms - self._now_ms()) / 1000.0)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._timer_ms = inf
        actions = self.scheduler.wake(self._now_ms())
        self._carry_out(actions)
        if self.scheduler.next_wake_ms < self._timer_ms:
            self._arm()
