"""What the scheduler wants is carried out, and what came of it is told: half of the driver.

Everything here happens on one asyncio loop, so that a stimulus and its actions are never torn apart.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from math import inf
from random import Random

from warmscaler.models.policy import Instance, State
from warmscaler.service.live.leases import Leases
from warmscaler.service.live.slots import Platform, Slots
from warmscaler.service.live.waiting import Refused, Throttled, Waiting
from warmscaler.service.observer import Observer, Served
from warmscaler.service.persistence.learning import Learning
from warmscaler.service.persistence.ledger import Ledger
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
from warmscaler.service.slots.effects import App, TellFailed
from warmscaler.service.slots.times import StartLimits

log = logging.getLogger("scaler")

REMEMBERED_INSTANCES = 10_000
"""How many instances that are gone stay known, so that a second Idle for one is told apart from
an Idle for one that never was."""


def wall_clock() -> Callable[[], float]:
    """Milliseconds since the epoch, that never go back."""
    offset_ms, monotonic = time.time() * 1000.0 - time.monotonic() * 1000.0, time.monotonic

    def now_ms() -> float:
        return offset_ms + monotonic() * 1000.0

    return now_ms


class Carrying(ABC):
    """Between a scheduler, the slots' lives, and the requests that wait."""

    def __init__(
        self,
        scheduler: Scheduler,
        platform: Platform,
        clock_ms: Callable[[], float] | None,
        observers: Sequence[Observer],
        *,
        ledger: Ledger | None,
        random: Random,
        limits: StartLimits,
        reclaim_s: float | None,
    ) -> None:
        self.scheduler = scheduler
        self._observers = tuple(observers)
        self._now_ms = clock_ms or wall_clock()
        self._ledger = ledger
        self._learning = None if ledger is None else Learning(scheduler, ledger, self._now_ms)
        self.slots = Slots(
            platform, self._now_ms, random, self, self._wanted_until_ms, limits, ledger
        )
        self._leases = Leases(self, reclaim_s)
        self._metas: dict[str, pb.Meta] = {}
        self.serving: dict[str, Served] = {}
        """By busy instance."""
        self._waiting: dict[int, Waiting] = {}
        self._gone: OrderedDict[str, str] = OrderedDict()
        """Instances that were, and their app."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = inf

    @property
    def now_ms(self) -> Callable[[], float]:
        """The clock of every time here."""
        return self._now_ms

    @abstractmethod
    def serve(self, waiting: Waiting, instance: Instance) -> None:
        """A request that waited has this instance."""

    @abstractmethod
    def refuse(self, waiting: Waiting, refused: Refused) -> None:
        """A request that waited gets none."""

    # Actions

    def _stimulate(self, actions: Actions) -> None:
        self._carry_out(actions)
        if self.scheduler.next_wake_ms < self._timer_ms:
            self._arm()

    def _carry_out(self, actions: Actions, failures: int = 0, pause_ms: float = 0.0) -> None:
        """`failures` in a row came before, and a start is to wait for `pause_ms`."""
        for action in actions:
            if isinstance(action, Assign):
                self._answer(action)
            elif isinstance(action, CreateSlot):
                instance = action.instance
                meta = self._metas[instance.pool.key]
                app = App(meta.key, instance.pool.runtime, meta.timeout_in_secs, instance.memory_mb)
                self.slots.start(instance.id, app, failures, pause_ms)
            elif isinstance(action, InitInstance):
                self.slots.init(action.instance.id)
            elif isinstance(action, DestroySlot):
                for observer in self._observers:
                    observer.slot_released(self._now_ms(), action.instance, action.reason)
                self.slots.destroy(action.instance.id, action.reason)
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
        if not actions:
            self.slots.freed(instance.id)
        self._stimulate(actions)

    def _wanted_until_ms(self, instance_id: str) -> float:
        """Until when a request waits for this start, at the longest; 0 where none does."""
        instance = self.scheduler.instances.get(instance_id)
        if instance is None:
            return 0.0
        pool, request = instance.pool, instance.request
        requests = pool.waiting if request is None else (request,)
        wait = self._waiting
        return max((wait[each].deadline_ms for each in requests if each in wait), default=0.0)

    # What the slots' lives tell

    def slot_created(self, instance_id: str) -> None:
        """The platform made the slot of this instance."""
        now_ms = self._now_ms()
        for observer in self._observers:
            observer.slot_created(now_ms, self.scheduler.instances[instance_id])
        self._stimulate(self.scheduler.slot_created(now_ms, instance_id))

    def instance_ready(self, instance_id: str) -> None:
        """The app runs in its slot."""
        now_ms = self._now_ms()
        instance = self.scheduler.instances[instance_id]
        for observer in self._observers:
            observer.instance_ready(now_ms, instance)
        actions = self.scheduler.instance_ready(now_ms, instance_id)
        if instance.state is State.IDLE:
            self.slots.freed(instance_id)
        self._stimulate(actions)

    def start_failed(self, failed: TellFailed) -> None:
        """CreateSlot or Init of this instance came to nothing."""
        log.warning("instance=%s not started: %s", failed.instance_id, failed.error)
        now_ms = self._now_ms()
        reason = str(failed.error)
        for observer in self._observers:
            observer.start_failed(now_ms, self.scheduler.instances[failed.instance_id], reason)
        again_ms = failed.again_ms
        actions = self.scheduler.start_failed(
            *(now_ms, failed.instance_id, reason),
            slot_exists=failed.slot_exists,
            retry=again_ms is not None,
        )
        if again_ms is None:
            self._carry_out(actions)
        else:
            self._carry_out(actions, failed.failures, again_ms)

    def slot_destroyed(self, instance_id: str) -> None:
        """The platform took the slot of this instance back."""
        self.serving.pop(instance_id, None)
        self._leases.forget(instance_id)
        instance = self.scheduler.instances.get(instance_id)
        if instance is None:
            return
        self._remember_gone(instance_id, instance.pool.key)
        now_ms = self._now_ms()
        for observer in self._observers:
            observer.slot_destroyed(now_ms, instance)
        self._stimulate(self.scheduler.slot_destroyed(now_ms, instance_id))

    def _remember_gone(self, instance_id: str, key: str) -> None:
        self._gone[instance_id] = key
        if len(self._gone) > REMEMBERED_INSTANCES:
            self._gone.popitem(last=False)

    # For the leases

    def overdue(self, now_ms: float, served: Served) -> None:
        """The Idle of this request will not come."""
        instance_id = served.instance.id
        del self.serving[instance_id]
        for observer in self._observers:
            observer.overdue(now_ms, served)
        self._stimulate(self.scheduler.idle(now_ms, instance_id, need_destroy=True))

    def end_idle(self, instance_id: str, *, need_destroy: bool) -> None:
        """Nobody has this instance any more, without an Idle of a request that this run served."""
        actions = self.scheduler.idle(self._now_ms(), instance_id, need_destroy=need_destroy)
        if not actions:
            self.slots.freed(instance_id)
        self._stimulate(actions)

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
