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
from functools import partial
from math import inf
from random import Random
from typing import Any

from warmscaler.models.policy import Instance, State
from warmscaler.service.live.platform_client import PlatformError
from warmscaler.service.live.slots import Platform, PlatformDown, Slot, Slots
from warmscaler.service.live.waiting import Refused, Throttled, Waiting
from warmscaler.service.observer import Observer, Served
from warmscaler.service.persistence.learning import Learning
from warmscaler.service.persistence.ledger import IDLE, LEAVING, STARTING, Ledger, request_mark
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.scheduler.actions import (
    Actions,
    Assign,
    CreateSlot,
    DestroySlot,
    ForgetApp,
    InitInstance,
    Refuse,
)
from warmscaler.service.scheduler.scheduler import Scheduler

log = logging.getLogger("scaler")

REMEMBERED_INSTANCES = 10_000
"""How many instances that are gone stay known, so that a second Idle for one is told apart from
an Idle for one that never was."""
LAST_DESTROY_S = 2.0
"""For so long the slots still in use at the end of a drain are tried to be given back, and all that
CreateSlots without an answer may have made."""
START_ATTEMPTS = 5
"""CreateSlots and Inits for one request, at most."""
PATIENCE_S = 1.0
"""For so long a start waits for the breaker; if it takes longer, the request hears so at once."""
MAX_WAIT_S = 150.0
"""A request that waited for so long is refused, whatever its caller's deadline."""
RECLAIM_S = 300.0
"""An instance that served when an earlier run was killed is kept that long for its Idle, where its
app has no timeout of its own."""
OVERDUE_S = 60.0
"""An Idle that long after the app's timeout is not waited for: its caller is gone."""
SWEEP_S = 10.0


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
        *,
        ledger: Ledger | None = None,
        random: Random | None = None,
        max_wait_s: float = MAX_WAIT_S,
        reclaim_s: float | None = None,
    ) -> None:
        """`random` is for the jitter of retries. `reclaim_s` is after how long in use without an
        Idle an instance is destroyed, instead of its app's timeout and OVERDUE_S."""
        self.scheduler = scheduler
        self._observers = tuple(observers)
        self._now_ms = clock_ms or WallClock()
        self._ledger = ledger
        self._learning = None if ledger is None else Learning(scheduler, ledger, self._now_ms)
        self.slots = Slots(platform, self._now_ms, random or Random(0), ledger)  # noqa: S311
        self._max_wait_s = max_wait_s
        self._reclaim_s = reclaim_s
        self._metas: dict[str, pb.Meta] = {}
        self._serving: dict[str, Served] = {}
        """By busy instance."""
        self._waiting: dict[int, Waiting] = {}
        self._inherited: dict[str, int] = {}
        """Instances that served when an earlier run ended, and the mark of their request."""
        self._gone: OrderedDict[str, str] = OrderedDict()
        """Instances that were, and their app."""
        self._tokens = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._starts: set[asyncio.Task[None]] | None = set()
        """None once a drain has ended them."""
        self._sweeper: asyncio.TimerHandle | None = None
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
            for observer in self._observers:
                observer.refused(now_ms, _brief(meta, longest), now_ms, reason, overload=True)
            raise Throttled(reason)
        self._tokens += 1
        token = self._tokens
        actions = self.scheduler.arrival(now_ms, token, key, meta.memory_in_mb, meta.runtime)
        if actions and type(first := actions[0]) is Assign and first.request == token:
            instance_id = first.instance.id
            served = Served(request_id, meta, first.instance, now_ms, now_ms, False)
            self._serving[instance_id] = served
            if self._ledger is not None:
                self._ledger.busy(instance_id, request_id)
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
        if len(actions) == 1 and isinstance(first := actions[0], Refuse) and first.overload:
            for observer in self._observers:
                observer.refused(now_ms, meta, now_ms, first.reason, overload=True)
            raise Throttled(first.reason)
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

    def serve(self, waiting: Waiting, instance: Instance) -> None:
        """A request that waited has this instance."""
        del self._waiting[waiting.token]
        served = Served(
            waiting.request_id, waiting.meta, instance, waiting.arrival_ms, self._now_ms(), True
        )
        self._serving[instance.id] = served
        if self._ledger is not None:
            self._ledger.busy(instance.id, waiting.request_id)
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
        else:
            served = self._serving.get(str(waiting.answer))
            if served is None or served.request_id != waiting.request_id:
                return
            del self._serving[served.instance.id]
            self._unused(served.instance)
        for observer in self._observers:
            waiting.context.run(observer.gone, now_ms, waiting.meta, waiting.arrival_ms)

    def idle(self, assignment: pb.Assignment, result: pb.Result) -> None:
        """The request is done. A second idle changes nothing. Raises UnknownApp, UnknownInstance."""
        instance_id = assignment.instance_id
        served = self._serving.get(instance_id)
        if served is None or (served.request_id != assignment.request_id and assignment.request_id):
            # Not busy, or busy with a later request: an Idle that came twice must not free it.
            if self._inherited.get(instance_id) == request_mark(assignment.request_id):
                self._end_inherited(instance_id, need_destroy=result.need_destroy)
                return
            if self._gone.get(instance_id) == assignment.meta_key:
                return
            if assignment.meta_key not in self.scheduler.pools:
                raise UnknownApp(assignment.meta_key)
            if instance_id not in self.scheduler.instances:
                raise UnknownInstance(instance_id)
            return
        del self._serving[instance_id]
        now_ms = self._now_ms()
        actions = self.scheduler.idle(now_ms, instance_id, need_destroy=result.need_destroy)
        if self._ledger is not None and not actions:
            self._ledger.idle(instance_id)
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
        await self._end_starts()
        await asyncio.sleep(0)  # whoever was given an instance just now has it
        # An Idle that comes now changes nothing: the slot is given back here.
        self._serving.clear()
        self._inherited.clear()
        in_use = [
            asyncio.ensure_future(self.slots.destroy(instance.id, "shutting down"))
            for instance in self.scheduler.instances.values()
            if instance.state is not State.DESTROYING and instance.id in self.slots.by_instance
        ]
        if in_use:
            _, late = await asyncio.wait(in_use, timeout=LAST_DESTROY_S)
            for task in late:
                task.cancel()
        settled = LAST_DESTROY_S + time.monotonic()
        while self.slots.doubts and time.monotonic() < settled:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        self.slots.close()
        if left := self.slots.by_instance:
            ledger = self._ledger is not None
            then = "the next run takes them up" if ledger else "without a ledger nobody will"
            log.error("%d slots not given back: %s", len(left), then)
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.sleep(0)  # one that was saving has given back what it had left
        if self._learning is not None:
            await self._learning.save()

    async def _end_starts(self) -> None:
        """Requests that still wait are refused, and nothing is started for them any more."""
        for waiting in list(self._waiting.values()):
            self.refuse(waiting, Refused("the scaler is shutting down"))
        starts, self._starts = self._starts, None
        for task in starts or ():
            task.cancel()
        await asyncio.gather(*starts or (), return_exceptions=True)

    # Actions

    def _stimulate(self, actions: Actions) -> None:
        self._carry_out(actions)
        if self.scheduler.next_wake_ms < self._timer_ms:
            self._arm()

    def _carry_out(self, actions: Actions, failures: int = 0, pause_s: float = 0.0) -> None:
        """`failures` in a row came before, and a start is to wait for `pause_s`."""
        for action in actions:
            if isinstance(action, Assign):
                self._answer(action)
            elif isinstance(action, CreateSlot):
                if self._starts is not None:
                    self._spawn(self._start(action.instance, failures, pause_s), self._starts)
            elif isinstance(action, DestroySlot):
                if self._ledger is not None:
                    self._ledger.leaving(action.instance.id)
                for observer in self._observers:
                    observer.slot_released(self._now_ms(), action.instance, action.reason)
                self._spawn(self._destroy(action.instance, action.reason))
            elif isinstance(action, Refuse):
                waiting = self._waiting.get(action.request)  # type: ignore[call-overload]
                if waiting is not None:
                    error = Throttled if action.overload else Refused
                    self.refuse(waiting, error(action.reason))
            elif isinstance(action, ForgetApp):
                self._metas.pop(action.key, None)
                if self._learning is not None:
                    self._learning.forgotten(action.key)
        if self.scheduler.next_wake_ms < self._timer_ms:
            self._arm()

    def _answer(self, action: Assign) -> None:
        waiting = self._waiting.get(action.request)  # type: ignore[call-overload]
        if waiting is not None:
            self.serve(waiting, action.instance)
        else:  # it was given up meanwhile: the next one has it
            self._unused(action.instance)

    def _unused(self, instance: Instance) -> None:
        """It was given to a request that is gone."""
        actions = self.scheduler.idle(self._now_ms(), instance.id)
        if self._ledger is not None and not actions:
            self._ledger.idle(instance.id)
        self._stimulate(actions)

    def _waited_enough(self, waiting: Waiting) -> None:
        actions = self.scheduler.request_gone(self._now_ms(), waiting.meta.key, waiting.token)
        self.refuse(waiting, Throttled(f"no instance came free in {self._max_wait_s:g} s"))
        self._stimulate(actions)

    async def _start(self, instance: Instance, failures: int = 0, pause_s: float = 0.0) -> None:
        """Makes the slot and starts the app in it, again where that fails and somebody waits."""
        meta = self._metas[instance.pool.key]
        while True:
            try:
                if pause_s > 0.0:
                    await asyncio.sleep(pause_s)
                await self.slots.create(instance, meta)
                break
            except asyncio.CancelledError:
                self.slots.give_up(instance)
                raise
            except PlatformError as error:
                failures += 1
                again_s = self._pause_s(instance, error, failures)
                if again_s is None:
                    self.slots.give_up(instance)
                    self._failed(instance, error, slot_exists=False)
                    return
                pause_s = again_s
        now_ms = self._now_ms()
        for observer in self._observers:
            observer.slot_created(now_ms, instance)
        actions = self.scheduler.slot_created(now_ms, instance.id)
        if not any(isinstance(action, InitInstance) for action in actions):
            self._stimulate(actions)
            return
        try:
            await self.slots.init(instance, meta)
        except PlatformError as error:
            failures += 1
            again_s = self._pause_s(instance, error, failures)
            self._failed(instance, error, slot_exists=True, failures=failures, again_s=again_s)
            return
        now_ms = self._now_ms()
        for observer in self._observers:
            observer.instance_ready(now_ms, instance)
        actions = self.scheduler.instance_ready(now_ms, instance.id)
        if self._ledger is not None and instance.state is State.IDLE:
            self._ledger.idle(instance.id)
        self._stimulate(actions)

    def _pause_s(self, instance: Instance, error: PlatformError, failures: int) -> float | None:
        """How long until a start is tried again; None if it is not: it is hopeless, nobody waits
        for it, or who does will have gone by then."""
        if not error.retry or failures >= START_ATTEMPTS:
            return None
        pause_s = self.slots.backoff_s(failures)
        if isinstance(error, PlatformDown):
            if error.wait_s > PATIENCE_S:
                return None
            pause_s += error.wait_s
        pool, request = instance.pool, instance.request
        waiting = pool.waiting if request is None else (request,)
        wait = self._waiting
        latest_ms = max((wait[each].deadline_ms for each in waiting if each in wait), default=0.0)
        return pause_s if self._now_ms() + 1000.0 * pause_s < latest_ms else None

    def _failed(
        self,
        instance: Instance,
        error: PlatformError,
        *,
        slot_exists: bool,
        failures: int = 0,
        again_s: float | None = None,
    ) -> None:
        log.warning("instance=%s not started: %s", instance.id, error)
        now_ms = self._now_ms()
        reason = str(error)
        for observer in self._observers:
            observer.start_failed(now_ms, instance, reason)
        actions = self.scheduler.start_failed(
            now_ms, instance.id, reason, slot_exists=slot_exists, retry=again_s is not None
        )
        self._carry_out(actions, failures, again_s or 0.0)

    async def _destroy(self, instance: Instance, reason: str) -> None:
        await self.slots.destroy(instance.id, reason)
        self._serving.pop(instance.id, None)
        self._inherited.pop(instance.id, None)
        self._remember_gone(instance.id, instance.pool.key)
        now_ms = self._now_ms()
        for observer in self._observers:
            observer.slot_destroyed(now_ms, instance)
        self._stimulate(self.scheduler.slot_destroyed(now_ms, instance.id))

    def _remember_gone(self, instance_id: str, key: str) -> None:
        self._gone[instance_id] = key
        if len(self._gone) > REMEMBERED_INSTANCES:
            self._gone.popitem(last=False)

    # Callers that never come back

    def sweep(self) -> None:
        """Destroys instances whose Idle is overdue, from now on every so often."""
        now_ms = self._now_ms()
        for instance_id, served in list(self._serving.items()):
            lease_s = self._reclaim_s
            if lease_s is None:
                timeout_s = served.meta.timeout_in_secs
                lease_s = timeout_s + OVERDUE_S if timeout_s else inf
            if now_ms - served.assigned_ms > 1000.0 * lease_s:
                del self._serving[instance_id]
                log.warning(
                    "instance=%s in use for over %d s without an Idle", instance_id, lease_s
                )
                for observer in self._observers:
                    observer.overdue(now_ms, served)
                self._stimulate(self.scheduler.idle(now_ms, instance_id, need_destroy=True))
        every_s = SWEEP_S if self._reclaim_s is None else min(SWEEP_S, self._reclaim_s / 2.0)
        self._sweeper = asyncio.get_running_loop().call_later(every_s, self.sweep)

    # An earlier run

    def recover(self) -> None:
        """Takes up what the ledger's earlier run left: idle instances serve again, those that
        served are kept for their Idle for a while, everything else is destroyed. What it learned of
        an app is there when the app is met. Raises LedgerError."""
        if self._ledger is None or self._learning is None:
            return
        self._learning.recall()
        self._spawn(self._learning.keep())
        # Those that may serve first: each has its own name, whatever else was made for it.
        for row in sorted(self._ledger.earlier, key=lambda row: row.mark >= STARTING):
            if row.slot_id is None:
                self.slots.settle(row.request_id, row.memory_mb)
                continue
            instance_id = row.instance_id
            if instance_id in self.slots.by_instance:
                instance_id = f"{row.request_id}/late"  # its start went on under another request
            self.slots.by_instance[instance_id] = Slot(row.slot_id, row.request_id, row.memory_mb)
            self._metas[row.key] = pb.Meta(
                key=row.key,
                runtime=row.runtime,
                timeout_in_secs=row.timeout_s,
                memory_in_mb=row.memory_mb,
            )
            state = {IDLE: State.IDLE, STARTING: State.DESTROYING, LEAVING: State.DESTROYING}.get(
                row.mark, State.BUSY
            )
            if state is State.BUSY:
                self._inherited[instance_id] = row.mark
                wait_s = self._reclaim_s if self._reclaim_s is not None else row.timeout_s
                asyncio.get_running_loop().call_later(
                    wait_s or RECLAIM_S, self._end_inherited, instance_id
                )
            actions = self.scheduler.adopt(
                self._now_ms(), instance_id, row.key, row.memory_mb, row.runtime, state=state
            )
            self._stimulate(actions)

    def _end_inherited(self, instance_id: str, *, need_destroy: bool = True) -> None:
        """Its Idle came; or it never will, and whoever had it is gone."""
        if self._inherited.pop(instance_id, None) is not None:
            now_ms = self._now_ms()
            actions = self.scheduler.idle(now_ms, instance_id, need_destroy=need_destroy)
            if self._ledger is not None and not actions:
                self._ledger.idle(instance_id)
            self._stimulate(actions)

    def _spawn(
        self, work: Coroutine[Any, Any, None], among: set[asyncio.Task[None]] | None = None
    ) -> None:
        tasks = self._tasks if among is None else among
        task = asyncio.get_running_loop().create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

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


def _brief(meta: pb.Meta, longest: int) -> pb.Meta:
    """What we know of an app, to keep: a message holds on to all that its caller packed into it."""
    return pb.Meta(
        key=meta.key[:longest],
        runtime=meta.runtime[:longest],
        timeout_in_secs=meta.timeout_in_secs,
        memory_in_mb=meta.memory_in_mb,
    )
