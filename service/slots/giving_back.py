"""What nobody wants: CreateSlots asked again to learn what they made, and DestroySlot until the
platform has it.

A first try never waits for others' retries, unless the platform is known to be gone. Retries have
few places, and those that failed least go first: slots that hang keep nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from heapq import heappop, heappush
from math import inf

from warmscaler.service.slots.answers import Made, PlatformError
from warmscaler.service.slots.backoff import backoff_ms
from warmscaler.service.slots.breaker import Breakers, BreakerState
from warmscaler.service.slots.effects import (
    CallCreate,
    CallDestroy,
    Cancel,
    Effect,
    Effects,
    Erase,
    Leaving,
    Report,
    TellDestroyed,
    WriteCreated,
)
from warmscaler.service.slots.life import Life, State
from warmscaler.service.slots.times import Alarms

DOUBTS = 1_000
"""CreateSlots asked again in the background at once, to be rid of what they may have made."""
FIRST_TRIES_AT_ONCE = 1_000
"""Those beyond take the places of retries, before them: a platform can be given too much at once."""
APP_SHARE = 4
"""Of those an app at one size may have so many times as many as are left: what hangs, or cannot be
known, of one leaves places for the others. As APP_SHARE of the scheduler's fleet."""
RETRIES_AT_ONCE = 64
DESTROY_S = 10.0
"""A DestroySlot without an answer for so long is sent again."""


class GivingBack:
    """The half of `Lives` from the wish to be rid of a slot to its end."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self.breakers = Breakers(chance)
        self.lives: dict[str, Life] = {}
        """Every slot that there is or may be, by its CreateSlot."""
        self.instances: dict[str, Life] = {}
        """Those that are an instance's, by the instance, until they are gone."""
        self.by_slot: dict[str, Life] = {}
        """Those whose id is known."""
        self._alarms = Alarms()
        self._chance = chance
        self._lane: list[tuple[int, int, Life]] = []
        """DestroySlots to be tried again; those that failed least first."""
        self._lane_used = 0
        self._first_tries = 0
        """DestroySlots under way that were never tried before."""
        self._first_tries_of: Counter[Hashable] = Counter()
        """The same by app and size."""
        self._lined_up = 0
        self._unreached = 0
        """DestroySlots in a row that the platform did not answer, of any slots."""

    # What CreateSlot made, and whether it is believed

    def _write_created(self, life: Life) -> Effects:
        life.state = State.CREATED
        self._alarms.set(life, inf)
        return [WriteCreated(life.name, life.slot_id)]

    @staticmethod
    def _not_believed(life: Life, slot_id: str) -> Effect:
        text = f"CreateSlot {life.name} answered with slot={slot_id}, which is in use already"
        return Report(text, "slot_in_use")

    # CreateSlots whose slot nobody wants

    def drop_planned(self, now_ms: float, life: Life, _: object) -> Effects:
        life.instance_id = None
        if not life.unsure:
            return self.end(now_ms, life, None)
        app = blamed(life)
        apps = [blamed(each) for each in self.lives.values() if each.state is State.UNWANTED]
        if apps.count(app) >= APP_SHARE * (DOUBTS - len(apps)):
            self._forget(life)  # its row stays for the next run
            return []
        life.state = State.UNWANTED
        life.failures = 1
        self._alarms.set(life, now_ms + backoff_ms(1, self._chance))
        return []

    def drop_intended(self, now_ms: float, life: Life, _: object) -> Effects:
        self.breakers.not_made(blamed(life))
        life.instance_id = None
        life.state = State.UNSENT
        return []

    def drop_asked(self, now_ms: float, life: Life, _: object) -> Effects:
        life.instance_id = None
        life.state = State.UNWANTED
        self._alarms.set(life, inf)
        return []

    def ask_again(self, now_ms: float, life: Life, _: object) -> Effects:
        wait_ms, _why = self.breakers.wait_ms(now_ms, blamed(life))
        if wait_ms > 0.0:
            self._alarms.set(life, now_ms + wait_ms)
            return []
        life.sent_ms = now_ms
        return [CallCreate(life.name, life.app.memory_mb)]

    def have_unwanted(self, now_ms: float, life: Life, made: Made) -> Effects:
        self.breakers.created(now_ms, blamed(life))
        if made.slot_id in self.by_slot:
            return [self._not_believed(life, made.slot_id), *self.end(now_ms, life, None)]
        life.slot_id = made.slot_id
        self.by_slot[made.slot_id] = life
        return self._write_created(life)

    def miss_unwanted(self, now_ms: float, life: Life, error: PlatformError) -> Effects:
        self.breakers.create_failed(now_ms, blamed(life), error, life.sent_ms)
        if not (error.in_doubt or error.retry):
            return self.end(now_ms, life, None)
        life.failures += 1
        self._alarms.set(life, now_ms + backoff_ms(life.failures, self._chance))
        return []

    def end(self, now_ms: float, life: Life, _: object) -> Effects:
        self._forget(life)
        return [Erase(life.name)]

    # DestroySlot

    def give_back(self, now_ms: float, life: Life, reason: object) -> Effects:
        effects: Effects = [Leaving(life.name)]
        if life.calling:
            effects.append(Cancel(life.name))
        life.state = State.DESTROYING
        life.calling = False
        life.failures = 0
        life.reason = str(reason)
        well = self.breakers.platform.state is BreakerState.CLOSED
        app, places = blamed(life), FIRST_TRIES_AT_ONCE - self._first_tries
        if well and self._first_tries_of[app] < APP_SHARE * places:
            life.first_try = True
            self._first_tries += 1
            self._first_tries_of[app] += 1
            return [*effects, *self._call_destroy(now_ms, life)]
        self._line_up(life)
        return effects + self._next_in_lane(now_ms)

    def give_back_again(self, now_ms: float, life: Life, _: object) -> Effects:
        if life.calling:
            text = f"DestroySlot did not answer in {DESTROY_S:g} s"
            late = PlatformError(text, retry=True, timed_out=True)
            return [Cancel(life.name), *self.not_gone(now_ms, life, (late, life.turn))]
        self._leave_lane(life)
        self._line_up(life)
        return self._next_in_lane(now_ms)

    def not_gone(self, now_ms: float, life: Life, what: tuple[PlatformError, int]) -> Effects:
        error, turn = what
        if turn != life.turn or not life.calling:
            return []
        life.calling = False
        self._end_first_try(life)
        life.failures += 1
        pauses = life.failures
        if error.unreachable or error.timed_out:
            self._unreached += 1
            pauses = max(pauses, self._unreached // RETRIES_AT_ONCE)
        if self._unreached < RETRIES_AT_ONCE:
            self._leave_lane(life)
        # else its place is kept while it waits, so that not every slot asks a platform that is down;
        # then it goes round.
        self._alarms.set(life, now_ms + backoff_ms(pauses, self._chance))
        report = Report(f"slot={life.slot_id} not given back, trying again: {error}")
        return [report, *self._next_in_lane(now_ms)]

    def be_gone(self, now_ms: float, life: Life, _: object) -> Effects:
        self._unreached = 0
        self._leave_lane(life)
        self._end_first_try(life)
        self._forget(life)
        effects: Effects = [Erase(life.name)]
        if life.instance_id is not None:
            effects.append(TellDestroyed(life.instance_id))
        return effects + self._next_in_lane(now_ms)

    def _forget(self, life: Life) -> None:
        life.state = State.GONE
        self._alarms.set(life, inf)
        del self.lives[life.name]
        self.by_slot.pop(life.slot_id, None)
        if life.instance_id is not None and self.instances.get(life.instance_id) is life:
            del self.instances[life.instance_id]

    def _call_destroy(self, now_ms: float, life: Life) -> Effects:
        life.calling = True
        life.turn += 1
        life.sent_ms = now_ms
        self._alarms.set(life, now_ms + 1000.0 * DESTROY_S)
        return [CallDestroy(life.name, life.slot_id, life.reason, life.turn)]

    def _line_up(self, life: Life) -> None:
        self._alarms.set(life, inf)
        self._lined_up += 1
        heappush(self._lane, (life.failures, self._lined_up, life))

    def _leave_lane(self, life: Life) -> None:
        self._lane_used -= life.in_lane
        life.in_lane = False

    def _end_first_try(self, life: Life) -> None:
        if life.first_try:
            life.first_try = False
            self._first_tries -= 1
            self._first_tries_of[blamed(life)] -= 1
            if not self._first_tries_of[blamed(life)]:
                del self._first_tries_of[blamed(life)]

    def _next_in_lane(self, now_ms: float) -> Effects:
        effects: Effects = []
        while self._lane and self._lane_used < RETRIES_AT_ONCE:
            _, _, life = heappop(self._lane)
            life.in_lane = True
            self._lane_used += 1
            effects += self._call_destroy(now_ms, life)
        return effects


def blamed(life: Life) -> Hashable:
    """Whom an answer that is not about the platform speaks of: an app, at a size."""
    return life.app.key, life.app.memory_mb
