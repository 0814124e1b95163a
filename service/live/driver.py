"""The live driver: runs the scheduler on a real clock and carries its actions out on a platform.

Everything here happens on one asyncio loop, so that a stimulus and its actions are never torn
apart. A warm Assign and an Idle never suspend.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Self

from warmscaler.models.policy import Instance
from warmscaler.service.live.carrying import Carrying
from warmscaler.service.live.slots import Platform
from warmscaler.service.live.waiting import Refused, Throttled, Waiting
from warmscaler.service.observer import Observer, Served
from warmscaler.service.persistence.ledger import Ledger, request_mark
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.scheduler.actions import Actions, Assign, CreateSlot, Refuse
from warmscaler.service.scheduler.scheduler import Scheduler
from warmscaler.service.slots.times import StartLimits

__all__ = ["Driver", "Named", "Refused", "Throttled", "UnknownApp", "UnknownInstance", "log"]

log = logging.getLogger("scaler")

LAST_DESTROY_S = 2.0
"""For so long the slots still in use at the end of a drain are tried to be given back, and all that
CreateSlots without an answer may have made."""
STALL_S = 1.0
"""A timer that rings so late says that this process stood still: what it waited for may be there."""

_SHORT_NAME = 128


class UnknownApp(Exception):
    """An Idle for an app never seen."""


class UnknownInstance(Exception):
    """An Idle for an instance that never was."""


@dataclass(frozen=True, slots=True)
class Named:
    """An app as a request names it."""

    key: str
    memory_mb: int
    runtime: str
    meta: pb.Meta

    @classmethod
    def of(cls, meta: pb.Meta) -> Self | None:
        """None where it is too long to be kept for many."""
        if len(meta.key) > _SHORT_NAME or len(meta.runtime) > _SHORT_NAME:
            return None
        brief = _brief(meta, _SHORT_NAME)
        return cls(meta.key, meta.memory_in_mb, meta.runtime, brief)


class Driver(Carrying):
    """Assign and idle for the server, on top of a scheduler and a platform."""

    def __init__(
        self,
        scheduler: Scheduler,
        platform: Platform,
        clock_ms: Callable[[], float] | None = None,
        observers: Sequence[Observer] = (),
        *,
        ledger: Ledger | None = None,
        random: Random | None = None,
        limits: StartLimits | None = None,
        reclaim_s: float | None = None,
    ) -> None:
        """`random` is for the jitter of retries. For `reclaim_s` see `Leases`."""
        limits = limits or StartLimits()
        super().__init__(
            *(scheduler, platform, clock_ms, observers),
            ledger=ledger,
            random=random or Random(0),  # noqa: S311
            limits=limits,
            reclaim_s=reclaim_s,
        )
        self._max_wait_s = limits.wait_s
        self._tokens = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Requests that have no instance yet."""
        return len(self._waiting)

    # For the server

    async def assign(
        self,
        request_id: str,
        meta: pb.Meta,
        time_left_s: Callable[[], float | None] = lambda: None,
    ) -> str:
        """`request` for who can wait. If the caller goes away (cancellation), it leaves."""
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def answered(answer: str | Refused) -> None:
            if isinstance(answer, str):
                future.set_result(answer)
            elif not future.done():
                future.set_exception(answer)

        asked = self.request(request_id, meta, answered, time_left_s)
        if isinstance(asked, str):
            return asked
        try:
            return await future
        except asyncio.CancelledError:
            asked.leave()
            raise

    def warm(self, request_id: str, app: Named) -> Served | None:
        """`request` for an app with an idle instance, whose request has it at once, or for one that
        may not wait, which raises Throttled: where many are refused, that must cost little. None where
        it is anything else, and then nothing has happened: `request` is to be asked."""
        scheduler = self.scheduler
        pool = scheduler.pools.get(app.key)
        if pool is None or not (pool.idle or scheduler.is_full_for(pool)):
            return None
        if pool.memory_mb != app.memory_mb or pool.runtime != app.runtime:
            return None
        if len(request_id) > scheduler.limits.key_length:
            return None
        now_ms = self._now_ms()
        self._tokens = token = self._tokens + 1
        actions = scheduler.arrival(now_ms, token, app.key, app.memory_mb, app.runtime)
        if type(first := actions[0]) is Refuse:
            for observer in self._observers:
                observer.waits(now_ms, pool, 0, first=app.key not in self._metas)
            raise self._throttled(now_ms, app.meta, first.reason)
        return self._served(now_ms, request_id, app.meta, actions)

    def _served(self, now_ms: float, request_id: str, meta: pb.Meta, actions: Actions) -> Served:
        """The first action gives a request that just came its instance."""
        instance: Instance = actions[0].instance  # type: ignore[union-attr]
        served = Served(request_id, meta, instance, now_ms, now_ms, False)
        self.serving[instance.id] = served
        self.slots.taken(instance.id, request_id)
        for observer in self._observers:
            observer.assigned(served)
        if len(actions) > 1:
            self._carry_out(actions[1:])
        if self.scheduler.next_wake_ms < self._timer_ms:
            self._arm()
        return served

    def request(
        self,
        request_id: str,
        meta: pb.Meta,
        answered: Callable[[str | Refused], None],
        time_left_s: Callable[[], float | None] = lambda: None,
    ) -> str | Waiting:
        """Returns the id of the instance that the request has until its idle; or, where it must
        wait for one, what waits: `answered` is then called once, later, unless its caller leaves.

        `time_left_s` says how long its caller still waits, None if for ever. Raises Refused.
        """
        key = meta.key
        now_ms = self._now_ms()
        longest = self.scheduler.limits.key_length
        if len(request_id) > longest or len(key) > longest or len(meta.runtime) > longest:
            reason = f"the request's id, or the app's key or runtime, is longer than {longest}"
            raise self._throttled(now_ms, _brief(meta, longest), reason)
        self._tokens += 1
        token = self._tokens
        actions = self.scheduler.arrival(now_ms, token, key, meta.memory_in_mb, meta.runtime)
        if actions and type(first := actions[0]) is Assign and first.request == token:
            return self._served(now_ms, request_id, meta, actions).instance.id
        pool = self.scheduler.pools.get(key)
        if pool is not None:  # else it was refused at the door
            starts = sum(isinstance(action, CreateSlot) for action in actions)
            unknown = key not in self._metas
            for observer in self._observers:
                observer.waits(now_ms, pool, starts, first=unknown)
        if len(actions) == 1 and isinstance(first := actions[0], Refuse) and first.overload:
            raise self._throttled(now_ms, meta, first.reason)
        self._metas[key] = meta = _brief(meta, longest)
        left_s = time_left_s()
        patient_s = self._max_wait_s if left_s is None else min(left_s, self._max_wait_s)
        waiting = Waiting(self, request_id, meta, token, now_ms, now_ms + 1000.0 * patient_s)
        self._waiting[token] = waiting
        self._carry_out(actions)
        answer = waiting.answer
        if isinstance(answer, Refused):
            raise answer
        if answer is not None:
            return answer
        waiting.answered = answered
        waiting.enough = asyncio.get_running_loop().call_later(
            self._max_wait_s, self._waited_enough, waiting
        )
        return waiting

    def _throttled(self, now_ms: float, meta: pb.Meta, reason: str) -> Throttled:
        """A request may not even wait."""
        for observer in self._observers:
            observer.refused(now_ms, meta, now_ms, reason, overload=True)
        return Throttled(reason)

    def serve(self, waiting: Waiting, instance: Instance) -> None:
        """A request that waited has this instance."""
        del self._waiting[waiting.token]
        queued = instance.wait is not None and instance.wait.queued
        served = Served(
            request_id=waiting.request_id,
            meta=waiting.meta,
            instance=instance,
            arrival_ms=waiting.arrival_ms,
            assigned_ms=self._now_ms(),
            cold=True,
            queued=queued,
        )
        self.serving[instance.id] = served
        self.slots.taken(instance.id, waiting.request_id)
        for observer in self._observers:
            waiting.context.run(observer.assigned, served)
        waiting.settle(instance.id)

    def refuse(self, waiting: Waiting, refused: Refused) -> None:
        """A request that waited gets none."""
        del self._waiting[waiting.token]
        overload = isinstance(refused, Throttled)
        for observer in self._observers:
            waiting.context.run(
                partial(observer.refused, overload=overload),
                *(self._now_ms(), waiting.meta, waiting.arrival_ms, str(refused)),
            )
        waiting.settle(refused)

    def gone(self, waiting: Waiting) -> None:
        """The caller of a request that waits, or that has its answer just now, is gone."""
        now_ms = self._now_ms()
        if self._waiting.pop(waiting.token, None) is not None:
            waiting.settle(None)
            self._stimulate(self.scheduler.request_gone(now_ms, waiting.meta.key, waiting.token))
            for observer in self._observers:
                waiting.context.run(observer.gone, now_ms, waiting.meta, waiting.arrival_ms)
        else:
            waiting.context.run(self.unread, waiting.request_id, str(waiting.answer))

    def unread(self, request_id: str, instance_id: str) -> None:
        """The caller of a request was gone before it heard which instance it had."""
        served = self.serving.get(instance_id)
        if served is None or served.request_id != request_id:
            return
        del self.serving[instance_id]
        self._unused(served.instance)
        for observer in self._observers:
            observer.gone(self._now_ms(), served.meta, served.arrival_ms)

    def idle(self, assignment: pb.Assignment, result: pb.Result) -> None:
        """The request is done. A second idle changes nothing. Raises UnknownApp, UnknownInstance."""
        instance_id = assignment.instance_id
        served = self.serving.get(instance_id)
        if served is None or (served.request_id != assignment.request_id and assignment.request_id):
            # Not busy, or busy with a later request: an Idle that came twice must not free it.
            if self._leases.inherited.get(instance_id) == request_mark(assignment.request_id):
                self._leases.end(instance_id, need_destroy=result.need_destroy)
                return
            if self._gone.get(instance_id) == assignment.meta_key:
                return
            if assignment.meta_key not in self.scheduler.pools:
                raise UnknownApp(assignment.meta_key)
            if instance_id not in self.scheduler.instances:
                raise UnknownInstance(instance_id)
            return
        self.done(served, result)

    def done(self, served: Served, result: pb.Result) -> None:
        """The request that has an instance is done."""
        instance_id = served.instance.id
        del self.serving[instance_id]
        now_ms = self._now_ms()
        actions = self.scheduler.idle(now_ms, instance_id, need_destroy=result.need_destroy)
        if not actions:
            self.slots.freed(instance_id)
        if self._learning is not None:
            self._learning.changed(served.meta.key)
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
        for waiting in list(self._waiting.values()):
            self.refuse(waiting, Refused("the scaler is shutting down"))
        # An Idle that comes now changes nothing: the slot is given back here.
        self.serving.clear()
        self._leases.clear()
        left = await self.slots.shut_down(LAST_DESTROY_S)
        if left:
            ledger = self._ledger is not None
            then = "the next run takes them up" if ledger else "without a ledger nobody will"
            log.error("%d slots not given back: %s", left, then)
        self._leases.close()
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.sleep(0)  # one that was saving has given back what it had left
        if self._learning is not None:
            await self._learning.save()

    def _waited_enough(self, waiting: Waiting) -> None:
        late_s = (self._now_ms() - waiting.arrival_ms) / 1000.0 - self._max_wait_s
        if late_s > STALL_S and not waiting.looked:
            waiting.looked = True
            loop = asyncio.get_running_loop()
            waiting.enough = loop.call_later(STALL_S, self._waited_enough, waiting)
            return
        actions = self.scheduler.request_gone(self._now_ms(), waiting.meta.key, waiting.token)
        self.refuse(waiting, Throttled(f"no instance came free in {self._max_wait_s:g} s"))
        self._stimulate(actions)

    # Callers that never come back, and an earlier run

    def sweep(self) -> None:
        """Destroys instances whose Idle is overdue, from now on every so often."""
        self._leases.sweep()

    def recover(self) -> None:
        """Takes up what the ledger's earlier run left; see `Leases`. Raises LedgerError."""
        if self._ledger is None or self._learning is None:
            return
        self._learning.recall()
        task = asyncio.get_running_loop().create_task(self._learning.keep())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        for meta, actions in self._leases.recover(self._ledger):
            self._metas[meta.key] = meta
            self._stimulate(actions)


def _brief(meta: pb.Meta, longest: int) -> pb.Meta:
    """What we know of an app, to keep: a message holds on to all that its caller packed into it."""
    return pb.Meta(
        key=meta.key[:longest],
        runtime=meta.runtime[:longest],
        timeout_in_secs=meta.timeout_in_secs,
        memory_in_mb=meta.memory_in_mb,
    )
