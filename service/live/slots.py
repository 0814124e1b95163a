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
    Effect,
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
        self._platform = platform
        self._now_ms = now_ms
        self._told = told
        self._ledger = ledger
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = inf
        self._tasks: set[asyncio.Task[None]] = set()
        self._cancellable: dict[str, asyncio.Task[None]] = {}
        """The Init or DestroySlot of each slot, by its name."""
        self._closed = False

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
            if not self._do(effect):
                task = asyncio.get_running_loop().create_task(self._see_through(effect))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                if isinstance(effect, CallInit | CallDestroy):
                    self._cancellable[effect.name] = task
        if self.lives.next_wake_ms < self._timer_ms:
            self._arm()

    def _do(self, effect: Effect) -> bool:
        """Whether it is done; if not it must be waited for."""
        match effect:
            case TellCreated(instance_id):
                self._told.slot_created(instance_id)
            case TellReady(instance_id):
                self._told.instance_ready(instance_id)
            case TellFailed():
                self._told.start_failed(effect)
            case TellDestroyed(instance_id):
                self._told.slot_destroyed(instance_id)
            case Erase(name):
                if self._ledger is not None:
                    self._ledger.gone(name)
            case Leaving(name):
                if self._ledger is not None:
                    self._ledger.leaving(name)
            case Cancel(name):
                if (task := self._cancellable.pop(name, None)) is not None:
                    task.cancel()
            case Report(text, odd):
                log.warning("%s", text)
                if odd:
                    self.odd[odd] += 1
            case _:
                return False
        return True

    async def _see_through(self, effect: Effect | None) -> None:
        """One thing that takes time, and what follows it: another such thing in the same task."""
        while effect is not None:
            effects = await self._await(effect)
            if isinstance(effect, CallInit | CallDestroy):
                self._cancellable.pop(effect.name, None)
            effect = None
            if effects and isinstance(effects[-1], CallCreate | WriteCreated | WriteIntent):
                effect = effects.pop()
            self.carry_out(effects)

    async def _await(self, effect: Effect) -> Effects:
        lives, now_ms, name = self.lives, self._now_ms, getattr(effect, "name", "")
        try:
            match effect:
                case WriteIntent(_, instance_id, app):
                    if self._ledger is not None:
                        await self._ledger.intend(name, instance_id, *app)
                    return lives.written(now_ms(), name)
                case WriteCreated(_, slot_id):
                    if self._ledger is not None:
                        await self._ledger.created(name, slot_id)
                    return lives.written(now_ms(), name)
                case CallCreate(_, memory_mb):
                    made = await self._answer(self._platform.create_slot(name, memory_mb))
                    if isinstance(made, PlatformError):
                        return lives.create_failed(now_ms(), name, made)
                    return lives.made(now_ms(), name, made)
                case CallInit(_, slot_id, instance_id, app):
                    meta = pb.Meta(
                        key=app.key,
                        runtime=app.runtime,
                        timeout_in_secs=app.timeout_s,
                        memory_in_mb=app.memory_mb,
                    )
                    failed = await self._answer(
                        self._platform.init(instance_id, slot_id, instance_id, meta)
                    )
                    if isinstance(failed, PlatformError):
                        return lives.init_failed(now_ms(), name, failed)
                    return lives.initialised(now_ms(), name)
                case CallDestroy(_, slot_id, reason, turn):
                    failed = await self._answer(self._platform.destroy_slot(name, slot_id, reason))
                    if isinstance(failed, PlatformError):
                        return lives.destroy_failed(now_ms(), name, failed, turn)
                    return lives.destroyed(now_ms(), name)
        except LedgerError as error:
            return lives.not_written(now_ms(), name, str(error))
        raise AssertionError(f"nobody does {effect}")

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

    def _ring(self) -> None:
        late_ms = self._now_ms() - self._timer_ms
        if late_ms > STALL_MS:
            self.stalls += 1
            log.warning("this process stood still for %.1f s or more", late_ms / 1000.0)
        self._timer = None
        self._timer_ms = inf
        self.carry_out(self.lives.wake(self._now_ms()))
