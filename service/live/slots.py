"""The carrier of the slots' lives: does what their effects say, on a platform, a ledger and a clock.

What is decided is decided in `service/slots/`; here are calls, pauses and rows. One event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from math import inf
from random import Random
from typing import Any, Protocol, TypeVar

from warmscaler.service.persistence.ledger import Ledger, LedgerError
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.slots.answers import Made, PlatformError
from warmscaler.service.slots.breaker import Breaker
from warmscaler.service.slots.effects import (
    App,
    CallCreate,
    CallDestroy,
    CallInit,
    Cancel,
    Effects,
    Erase,
    Leaving,
    Report,
    TellCreated,
    TellDestroyed,
    TellFailed,
    TellReady,
    WriteCreated,
    WriteIntent,
)
from warmscaler.service.slots.life import State
from warmscaler.service.slots.lives import STALL_MS, Lives
from warmscaler.service.slots.times import StartLimits

log = logging.getLogger("scaler")
_T = TypeVar("_T")
_CANCELLABLE = (CallInit, CallDestroy)
_FOLLOWS = (CallCreate, WriteCreated, WriteIntent)
"""What goes on in the task of what came before."""


class Platform(Protocol):
    """What is asked of a platform; each raises PlatformError."""

    async def create_slot(self, request_id: str, memory_mb: int) -> Made: ...
    async def init(
        self, request_id: str, slot_id: str, instance_id: str, meta: pb.Meta
    ) -> None: ...
    async def destroy_slot(self, request_id: str, slot_id: str, reason: str) -> None: ...


class Told(Protocol):
    """Who is told what became of an instance's slot."""

    def slot_created(self, instance_id: str) -> None: ...
    def instance_ready(self, instance_id: str) -> None: ...
    def start_failed(self, failed: TellFailed) -> None: ...
    def slot_destroyed(self, instance_id: str) -> None: ...


class Slots:
    """Every slot, from the intent to its end."""

    def __init__(
        self,
        platform: Platform,
        now_ms: Callable[[], float],
        random: Random,
        told: Told,
        wanted_until_ms: Callable[[str], float],
        limits: StartLimits,
        ledger: Ledger | None = None,
    ) -> None:
        """`random` is for jitter only. `wanted_until_ms` says until when a request waits for this
        instance, at the longest; 0 where none does."""
        self.lives = Lives(random.random, wanted_until_ms, limits)
        self.odd: Counter[str] = Counter()
        """What the platform did that it must not, by a word for it."""
        self.stalls = 0
        """How often this process was seen to have stood still."""
        self._stalled_until_ms = -inf
        self._platform = platform
        self._now_ms = now_ms
        self._ledger = ledger
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = inf
        self._tasks: set[asyncio.Task[None]] = set()
        self._cancellable: dict[str, asyncio.Task[None]] = {}
        """The Init or DestroySlot of each slot, by its name."""
        self._closed = False
        self._at_once: dict[type, Callable[[Any], None]] = {
            TellCreated: lambda effect: told.slot_created(effect.instance_id),
            TellReady: lambda effect: told.instance_ready(effect.instance_id),
            TellFailed: told.start_failed,
            TellDestroyed: lambda effect: told.slot_destroyed(effect.instance_id),
            Erase: self._erase,
            Leaving: self._mark_leaving,
            Cancel: self._cancel,
            Report: self._report,
        }
        self._in_time: dict[type, Callable[[Any], Coroutine[Any, Any, Effects]]] = {
            WriteIntent: self._write_intent,
            WriteCreated: self._write_created,
            CallCreate: self._create,
            CallInit: self._init,
            CallDestroy: self._destroy,
        }

    @property
    def breaker(self) -> Breaker:
        """The one before the platform."""
        return self.lives.breakers.platform

    @property
    def doubts(self) -> int:
        """CreateSlots that may have made a slot that we do not know."""
        return sum(
            life.state in (State.UNWANTED, State.UNSENT) for life in self.lives.lives.values()
        )

    # For the driver

    def start(self, instance_id: str, app: App, failures: int = 0, pause_ms: float = 0.0) -> None:
        """Makes a slot for this instance, after a pause; `failures` in a row came before."""
        now_ms = self._now_ms()
        self.carry_out(self.lives.start(now_ms, instance_id, app, failures, pause_ms))

    def init(self, instance_id: str) -> None:
        """Starts the app in its slot."""
        self.carry_out(self.lives.init(self._now_ms(), instance_id))

    def destroy(self, instance_id: str, reason: str) -> None:
        """Gives its slot back. Tries until the platform has it: a slot given up is money lost."""
        self.carry_out(self.lives.destroy(self._now_ms(), instance_id, reason))

    def taken(self, instance_id: str, request_id: str) -> None:
        """This request has the instance."""
        name = self.lives.taken(instance_id)
        if name is not None and self._ledger is not None:
            self._ledger.busy(name, request_id)

    def freed(self, instance_id: str) -> None:
        """No request has it: it is idle."""
        name = self.lives.freed(instance_id)
        if name is not None and self._ledger is not None:
            self._ledger.idle(name)

    def adopt(self, name: str, instance_id: str, app: App, slot_id: str, *, in_use: bool) -> bool:
        """A slot of an earlier run; False where another one has it already."""
        if slot_id in self.lives.by_slot:
            self.carry_out([Erase(name)])
            return False
        self.lives.adopt(name, instance_id, app, slot_id, in_use=in_use)
        return True

    def settle(self, name: str, app: App) -> None:
        """An earlier run sent this CreateSlot and saw no answer."""
        self.carry_out(self.lives.settle(self._now_ms(), name, app))

    async def shut_down(self, patience_s: float) -> int:
        """Starts nothing any more and gives back every slot, for as long as `patience_s`, and once
        more what CreateSlots without an answer make. Returns how many slots are left."""
        loop = asyncio.get_running_loop()
        self.carry_out(self.lives.shut_down(self._now_ms()))
        lives = self.lives.lives
        for waited_for in (lambda life: life.instance_id is not None, lambda _: True):
            end_s = loop.time() + patience_s
            while any(map(waited_for, lives.values())) and loop.time() < end_s:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        left = len(self.lives.by_slot)
        self.close()
        return left

    def close(self) -> None:
        """Stops everything at once; what is in the ledger the next run takes up."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._tasks):
            task.cancel()

    # Effects

    def carry_out(self, effects: Effects) -> None:
        """Does all that need not be waited for, and begins the rest."""
        if self._closed:
            return
        for effect in effects:
            done = self._at_once.get(type(effect))
            if done is not None:
                done(effect)
                continue
            task = asyncio.get_running_loop().create_task(self._see_through(effect))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            if isinstance(effect, _CANCELLABLE):
                self._cancellable[effect.name] = task
        if self.lives.next_wake_ms < self._timer_ms:
            self._arm()

    async def _see_through(self, effect: Any) -> None:
        """One thing that takes time, and what follows it: another such thing in the same task."""
        while effect is not None:
            try:
                effects = await self._in_time[type(effect)](effect)
            except LedgerError as error:
                effects = self.lives.not_written(self._now_ms(), effect.name, str(error))
            if isinstance(effect, _CANCELLABLE):
                self._cancellable.pop(effect.name, None)
            effect = effects.pop() if effects and isinstance(effects[-1], _FOLLOWS) else None
            self.carry_out(effects)

    # What is done at once

    def _erase(self, effect: Erase) -> None:
        if self._ledger is not None:
            self._ledger.gone(effect.name)

    def _mark_leaving(self, effect: Leaving) -> None:
        if self._ledger is not None:
            self._ledger.leaving(effect.name)

    def _cancel(self, effect: Cancel) -> None:
        task = self._cancellable.pop(effect.name, None)
        if task is not None:
            task.cancel()

    def _report(self, effect: Report) -> None:
        log.warning("%s", effect.text)
        if effect.odd:
            self.odd[effect.odd] += 1

    # What takes time

    async def _write_intent(self, effect: WriteIntent) -> Effects:
        if self._ledger is not None:
            await self._ledger.intend(effect.name, effect.instance_id, *effect.app)
        return self.lives.written(self._now_ms(), effect.name)

    async def _write_created(self, effect: WriteCreated) -> Effects:
        if self._ledger is not None:
            await self._ledger.created(effect.name, effect.slot_id)
        return self.lives.written(self._now_ms(), effect.name)

    async def _create(self, effect: CallCreate) -> Effects:
        call = self._platform.create_slot(effect.name, effect.memory_mb)
        made = await self._answer(call)
        if isinstance(made, PlatformError):
            return self.lives.create_failed(self._now_ms(), effect.name, made)
        return self.lives.made(self._now_ms(), effect.name, made)

    async def _init(self, effect: CallInit) -> Effects:
        app, instance_id = effect.app, effect.instance_id
        meta = pb.Meta(
            key=app.key,
            runtime=app.runtime,
            timeout_in_secs=app.timeout_s,
            memory_in_mb=app.memory_mb,
        )
        call = self._platform.init(instance_id, effect.slot_id, instance_id, meta)
        failed = await self._answer(call)
        if isinstance(failed, PlatformError):
            return self.lives.init_failed(self._now_ms(), effect.name, failed)
        return self.lives.initialised(self._now_ms(), effect.name)

    async def _destroy(self, effect: CallDestroy) -> Effects:
        call = self._platform.destroy_slot(effect.name, effect.slot_id, effect.reason)
        failed = await self._answer(call)
        if isinstance(failed, PlatformError):
            turn = effect.turn
            return self.lives.destroy_failed(self._now_ms(), effect.name, failed, turn)
        return self.lives.destroyed(self._now_ms(), effect.name)

    @staticmethod
    async def _answer(call: Coroutine[Any, Any, _T]) -> _T | PlatformError:
        """An error as a value; one that nobody thought of too, or the slot would be lost."""
        try:
            return await call
        except PlatformError as error:
            return error
        except Exception as error:
            log.exception("a call of the platform failed here")
            return PlatformError(f"the call failed: {type(error).__name__}", in_doubt=True)

    # Time

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ms = self.lives.next_wake_ms
        delay_s = max(0.0, (self._timer_ms - self._now_ms()) / 1000.0)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._ring)

    def stood_still(self, for_ms: float) -> None:
        """A timer rang so late. Two that tell of one stall count once."""
        now_ms = self._now_ms()
        if now_ms - for_ms > self._stalled_until_ms:
            self.stalls += 1
            log.warning("this process stood still for %.1f s or more", for_ms / 1000.0)
        self._stalled_until_ms = now_ms

    def _ring(self) -> None:
        late_ms = self._now_ms() - self._timer_ms
        if late_ms > STALL_MS:
            self.stood_still(late_ms)
        self._timer = None
        self._timer_ms = inf
        self.carry_out(self.lives.wake(self._now_ms()))
