"""The platform's side of the driver: slots made, started and given back whatever goes wrong.

**What is known of a slot** is written down before it matters: the intent before CreateSlot is sent,
the slot's id before Init is. The platform's interface has no list of slots, so that a slot whose id
never reached us can only be had by asking again: every CreateSlot carries a `request_id` of its own
and is repeated under it, and a platform that takes a repeated one for the same call answers with
the same slot. Of one that does not, such a slot cannot be known to anybody but itself.

**A late answer** is waited for long after a request has stopped waiting: CreateSlot is not
cancelled at the caller's deadline, and a slot that comes too late is given back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from warmscaler.models.policy import Instance
from warmscaler.service.live.breaker import Breaker
from warmscaler.service.live.platform_client import PlatformError
from warmscaler.service.persistence.ledger import Ledger, LedgerError
from warmscaler.service.proto import scaler_pb2 as pb

log = logging.getLogger("scaler")

SLOW_CREATE_S = 30.0
"""After so long a start is tried anew, under a new name; the old call is still listened to."""
RETRY_FIRST_S = 0.1
RETRY_LAST_S = 5.0
MAX_DOUBLINGS = 30
"""Far beyond RETRY_LAST_S, and far from where a float ends: 1,023, an hour of retries."""
DESTROYS_AT_ONCE = 64
DOUBTS = 1_000
"""CreateSlots asked again in the background at once, to be rid of what they may have made."""


class Platform(Protocol):
    """What is asked of a platform; each raises PlatformError."""

    async def create_slot(self, request_id: str, memory_mb: int) -> str: ...
    async def init(
        self, request_id: str, slot_id: str, instance_id: str, meta: pb.Meta
    ) -> None: ...
    async def destroy_slot(self, request_id: str, slot_id: str, reason: str) -> None: ...


class PlatformDown(PlatformError):
    """Not even asked: the breaker is open."""

    def __init__(self, wait_ms: float) -> None:
        super().__init__("the platform is failing: no start is tried now", retry=True)
        self.wait_s = wait_ms / 1000.0


@dataclass(slots=True)
class Slot:
    """A slot, and the CreateSlot that made it."""

    id: str
    request_id: str
    memory_mb: int


class Slots:
    """Every slot by its instance. One event loop."""

    def __init__(
        self,
        platform: Platform,
        now_ms: Callable[[], float],
        random: Random,
        ledger: Ledger | None = None,
        *,
        slow_create_s: float = SLOW_CREATE_S,
    ) -> None:
        """`random` is for jitter only."""
        self.platform = platform
        self.breaker = Breaker(random)
        self.ledger = ledger
        self.by_instance: dict[str, Slot] = {}
        self.doubts: set[str] = set()
        """Requests of CreateSlots that may have made a slot that we do not know."""
        self._now_ms = now_ms
        self._random = random
        self._slow_create_s = slow_create_s
        self._unsure: set[str] = set()
        """Requests of CreateSlots that failed so that they may be done all the same, and may be
        tried again."""
        self._turns: dict[str, int] = {}
        """How many CreateSlots of an instance were given up as too slow."""
        self._destroying = asyncio.Semaphore(DESTROYS_AT_ONCE)
        self._unreached = 0
        """DestroySlots in a row that the platform did not answer, of any slots."""
        self._tasks: set[asyncio.Task[None]] = set()

    def backoff_s(self, failures: int) -> float:
        """The pause after so many failures in a row: doubling, half of it by chance."""
        doublings = min(failures - 1, MAX_DOUBLINGS)
        pause_s = min(RETRY_FIRST_S * 2.0**doublings, RETRY_LAST_S)
        return pause_s * (0.5 + self._random.random() / 2.0)

    async def create(self, instance: Instance, meta: pb.Meta) -> None:
        """Makes the slot of an instance. Raises PlatformError."""
        wait_ms = self.breaker.wait_ms(self._now_ms())
        if wait_ms > 0.0:
            raise PlatformDown(wait_ms)
        turn = self._turns.get(instance.id, 0)
        request_id = f"{instance.id}/{turn}" if turn else instance.id
        await self._intend(request_id, instance, meta)
        asked = self.platform.create_slot(request_id, instance.memory_mb)
        call = asyncio.get_running_loop().create_task(_result(asked))
        try:
            done, _ = await asyncio.wait({call}, timeout=self._slow_create_s)
        except asyncio.CancelledError:
            self._unsure.discard(request_id)
            self._spawn(self._settle(request_id, instance.memory_mb, call))
            raise
        if not done:
            self._unsure.discard(request_id)
            self._turns[instance.id] = turn + 1
            self.breaker.failed(self._now_ms())
            self._spawn(self._settle(request_id, instance.memory_mb, call))
            wait_s = self._slow_create_s
            raise PlatformError(f"CreateSlot did not answer in {wait_s:g} s", retry=True)
        answer = call.result()
        self._note(answer)
        # "Later" says nothing of what an earlier call under this name has made.
        if isinstance(answer, PlatformError) and (
            answer.in_doubt or (answer.retry and request_id in self._unsure)
        ):
            self._unsure.add(request_id)
            raise answer
        self._unsure.discard(request_id)
        if isinstance(answer, PlatformError):
            if self.ledger is not None:
                self.ledger.gone(request_id)
            raise answer
        self._turns.pop(instance.id, None)
        self.by_instance[instance.id] = Slot(answer, request_id, instance.memory_mb)
        if self.ledger is not None:
            try:
                await self.ledger.created(request_id, answer)
            except LedgerError as error:
                log.error("slot=%s is not in the ledger: %s", answer, error)

    def give_up(self, instance: Instance) -> None:
        """CreateSlot of this instance is not tried again. What it may have made is given back."""
        turn = self._turns.pop(instance.id, 0)
        request_id = f"{instance.id}/{turn}" if turn else instance.id
        if self.ledger is not None:
            self.ledger.forget_instance(instance.id)
        if request_id in self._unsure:
            self._unsure.discard(request_id)
            if len(self.doubts) < DOUBTS:
                self._spawn(self._settle(request_id, instance.memory_mb, None))

    async def init(self, instance: Instance, meta: pb.Meta) -> None:
        """Starts the app in the slot. Raises PlatformError."""
        slot = self.by_instance[instance.id]
        try:
            await self.platform.init(instance.id, slot.id, instance.id, meta)
        except PlatformError as error:
            if error.unreachable:
                self.breaker.failed(self._now_ms())
            raise

    async def destroy(self, instance_id: str, reason: str) -> None:
        """Gives a slot back. Tries until the platform has it: a slot given up is money lost."""
        slot = self.by_instance[instance_id]
        if self.ledger is not None:
            self.ledger.leaving(instance_id)
        await self._give_back(slot, reason)
        del self.by_instance[instance_id]
        if self.ledger is not None:
            self.ledger.forget_instance(instance_id)

    def settle(self, request_id: str, memory_mb: int) -> None:
        """An earlier run sent this CreateSlot and saw no answer."""
        self._spawn(self._settle(request_id, memory_mb, None))

    def close(self) -> None:
        """Stops what runs in the background; what is in the ledger the next run takes up."""
        for task in list(self._tasks):
            task.cancel()

    async def _intend(self, request_id: str, instance: Instance, meta: pb.Meta) -> None:
        if self.ledger is not None:
            app = (meta.key, meta.runtime, meta.timeout_in_secs, instance.memory_mb)
            try:
                await self.ledger.intend(request_id, instance.id, *app)
            except LedgerError as error:
                log.error("no slot is made: %s", error)  # our paths are not for callers
                self.breaker.not_made(self._now_ms())
                raise PlatformError("the slot cannot be written to the ledger") from None

    async def _settle(
        self, request_id: str, memory_mb: int, call: asyncio.Task[str | PlatformError] | None
    ) -> None:
        """Gives back what a CreateSlot has made or will make: `call`, or else it is asked again."""
        self.doubts.add(request_id)
        try:
            answer = await call if call is not None else PlatformError("lost", in_doubt=True)
            failures = 0
            while isinstance(answer, PlatformError) and (answer.in_doubt or answer.retry):
                failures += 1
                pause_s = self.backoff_s(failures)
                await asyncio.sleep(pause_s + self.breaker.wait_ms(self._now_ms()) / 1000.0)
                answer = await _result(self.platform.create_slot(request_id, memory_mb))
                self._note(answer)
            if isinstance(answer, str):
                slot = Slot(answer, request_id, memory_mb)
                if self.ledger is not None:
                    try:
                        await self.ledger.created(request_id, answer)
                    except LedgerError as error:  # it costs as much as any other
                        log.error("slot=%s is not in the ledger: %s", answer, error)
                await self._give_back(slot, "it came too late")
            elif self.ledger is not None:
                self.ledger.gone(request_id)
        finally:
            self.doubts.discard(request_id)

    def _note(self, answer: str | PlatformError) -> None:
        """For the breaker. A platform that refuses what makes no sense is well."""
        if isinstance(answer, PlatformError) and answer.retry:
            self.breaker.failed(self._now_ms())
        else:
            self.breaker.succeeded()

    async def _give_back(self, slot: Slot, reason: str) -> None:
        failures = 0
        while True:
            async with self._destroying:
                try:
                    await self.platform.destroy_slot(slot.request_id, slot.id, reason)
                    break
                except PlatformError as error:
                    log.warning("slot=%s not given back, trying again: %s", slot.id, error)
                    failures += 1
                    if error.unreachable:
                        # The permit is kept while it waits, so that not every slot asks a platform
                        # that is down; then it goes round, so that a slot that hangs keeps nobody.
                        self._unreached += 1
                        rounds = self._unreached // DESTROYS_AT_ONCE
                        await asyncio.sleep(self.backoff_s(max(failures, rounds)))
                        continue
            await asyncio.sleep(self.backoff_s(failures))
        self._unreached = 0
        if self.ledger is not None:
            self.ledger.gone(slot.request_id)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _result(call: Coroutine[Any, Any, str]) -> str | PlatformError:
    """An error as a value: nobody may be left to raise it to."""
    try:
        return await call
    except PlatformError as error:
        return error
