"""Every slot's life: a state machine without I/O. What happened goes in with its time, effects come out.

It opens no socket, reads no clock, writes no file and draws no number of its own. The carrier
(`service/live/slots.py`) does what the effects say and tells what came of it; the driver tells what
the scheduler wants. `life.TRANSITIONS` is the one table of what follows what.

**What is known of a slot** is written down before it matters: the intent before CreateSlot is sent,
the slot's id before Init is. The platform's interface has no list of slots, so that a slot whose id
never reached us can only be had by asking again: every CreateSlot has a name (`request_id`) of its
own and is repeated under it, and a platform that takes a repeated one for the same call answers
with the same slot. Of one that does not, such a slot cannot be known to anybody but itself.

**A late answer** is waited for long after a request has stopped waiting: CreateSlot is not
cancelled, whichever of a start's calls answers first serves, and what comes after is given back.

**No answer is late before one more look** at what has arrived: a process that stood still finds the
answers in its sockets only after its clock.

**No two lives have one slot**: an answer that names a slot which another life has is not believed.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from warmscaler.service.slots.answers import Made, NotAsked, PlatformError
from warmscaler.service.slots.backoff import backoff_ms
from warmscaler.service.slots.effects import (
    App,
    CallCreate,
    CallInit,
    Cancel,
    Effects,
    Erase,
    Report,
    TellCreated,
    TellFailed,
    TellReady,
    WriteIntent,
)
from warmscaler.service.slots.giving_back import GivingBack, blamed
from warmscaler.service.slots.life import TRANSITIONS, Event, Life, Start, State
from warmscaler.service.slots.times import StartLimits

START_ATTEMPTS = 5
"""CreateSlots and Inits for one request, at most."""
PATIENCE_MS = 1_000.0
"""For so long a start waits for a breaker; if it takes longer, the request hears so at once."""
LOOK_MS = 1_000.0
"""For so long answers that have arrived are looked for once an answer is overdue."""
STALL_MS = 1_000.0
"""An alarm that rings so late says that this process stood still."""
_READY, _IN_USE = State.READY, State.IN_USE


class Lives(GivingBack):
    """All slots. Its public methods are what can happen; each returns what is to be done."""

    def __init__(
        self,
        chance: Callable[[], float],
        wanted_until_ms: Callable[[str], float],
        limits: StartLimits,
    ) -> None:
        """`chance` draws from 0 to 1, for jitter. `wanted_until_ms` says until when a request waits
        for this instance, at the longest; 0 where none does."""
        super().__init__(chance)
        self.limits = limits
        self.starts: dict[str, Start] = {}
        """Instances whose slot is not there yet."""
        self._wanted_until_ms = wanted_until_ms
        self._closing = False

    @property
    def next_wake_ms(self) -> float:
        """When `wake` wants to be called; it may move with anything that happens."""
        return self._alarms.next_ms

    # What the scheduler wants

    def start(
        self, now_ms: float, instance_id: str, app: App, failures: int = 0, pause_ms: float = 0.0
    ) -> Effects:
        """An instance is to be started, after a pause; `failures` in a row came before."""
        if self._closing:
            return []
        start = self.starts[instance_id] = Start(instance_id, app, failures)
        life = self._plan(start)
        if pause_ms > 0.0:
            self._alarms.set(life, now_ms + pause_ms)
            return []
        return self._happens(now_ms, life, Event.DUE)

    def init(self, now_ms: float, instance_id: str) -> Effects:
        """The app is to be started in its slot."""
        return self._to_instance(now_ms, instance_id, Event.INIT)

    def destroy(self, now_ms: float, instance_id: str, reason: str) -> Effects:
        """The slot is to be given back."""
        return self._to_instance(now_ms, instance_id, Event.DESTROY, reason)

    def taken(self, instance_id: str) -> str | None:
        """A request has the instance. Returns the name of its slot.

        Every warm request comes here: what the table says of READY and TAKEN, without a look at it.
        """
        life = self.instances.get(instance_id)
        if life is None or life.state is not _READY:
            return None
        life.state = _IN_USE
        return life.name

    def freed(self, instance_id: str) -> str | None:
        """No request has the instance. Returns the name of its slot."""
        life = self.instances.get(instance_id)
        if life is None or (life.state is not _IN_USE and life.state is not _READY):
            return None
        life.state = _READY
        return life.name

    def shut_down(self, now_ms: float) -> Effects:
        """Nothing is started any more, and every slot is given back, in use or not."""
        self._closing = True
        effects: Effects = []
        for start in self.starts.values():
            for life in start.lives:
                effects += self._happens(now_ms, life, Event.DROP)
        self.starts.clear()
        for life in list(self.instances.values()):
            effects += self._happens(now_ms, life, Event.DESTROY, "shutting down")
        return effects

    # What an earlier run left

    def adopt(self, name: str, instance_id: str, app: App, slot_id: str, *, in_use: bool) -> None:
        """A slot whose app runs, or which the scheduler will have destroyed."""
        life = Life(name, app, instance_id, State.IN_USE if in_use else State.READY, slot_id)
        self.lives[name] = self.instances[instance_id] = self.by_slot[slot_id] = life

    def settle(self, now_ms: float, name: str, app: App) -> Effects:
        """A CreateSlot that was sent and whose answer was not seen."""
        life = self.lives[name] = Life(name, app, None, State.UNWANTED, failures=1)
        self._alarms.set(life, now_ms + backoff_ms(1, self._chance))
        return []

    # What the carrier tells

    def written(self, now_ms: float, name: str) -> Effects:
        """The ledger has what was to be written of this slot."""
        return self._to(now_ms, name, Event.WRITTEN)

    def not_written(self, now_ms: float, name: str, reason: str) -> Effects:
        """It has not, and `reason` is for our own log: our paths are not for callers."""
        return self._to(now_ms, name, Event.NOT_WRITTEN, reason)

    def made(self, now_ms: float, name: str, made: Made) -> Effects:
        """CreateSlot answered."""
        return self._to(now_ms, name, Event.MADE, made)

    def create_failed(self, now_ms: float, name: str, error: PlatformError) -> Effects:
        """CreateSlot failed."""
        return self._to(now_ms, name, Event.NOT_MADE, error)

    def initialised(self, now_ms: float, name: str) -> Effects:
        """Init answered."""
        return self._to(now_ms, name, Event.INITIALISED)

    def init_failed(self, now_ms: float, name: str, error: PlatformError) -> Effects:
        """Init failed."""
        return self._to(now_ms, name, Event.NOT_INITIALISED, error)

    def destroyed(self, now_ms: float, name: str) -> Effects:
        """DestroySlot answered."""
        return self._to(now_ms, name, Event.DESTROYED)

    def destroy_failed(self, now_ms: float, name: str, error: PlatformError, turn: int) -> Effects:
        """The DestroySlot of this turn failed."""
        return self._to(now_ms, name, Event.NOT_DESTROYED, (error, turn))

    def wake(self, now_ms: float) -> Effects:
        """Looks at every slot that wants to be looked at by `now_ms`."""
        effects: Effects = []
        while (due := self._alarms.pop_due(now_ms)) is not None:
            due_ms, life = due
            answer_is_late = life.calling or life.state is State.CREATING
            if answer_is_late and (not life.looked or now_ms - due_ms > STALL_MS):
                life.looked = True
                self._alarms.set(life, now_ms + LOOK_MS)
                continue
            effects += self._happens(now_ms, life, Event.DUE)
        return effects

    # How

    def _to(self, now_ms: float, name: str, event: Event, what: object = None) -> Effects:
        life = self.lives.get(name)
        return [] if life is None else self._happens(now_ms, life, event, what)

    def _to_instance(
        self, now_ms: float, instance_id: str, event: Event, what: object = None
    ) -> Effects:
        life = self.instances.get(instance_id)
        return [] if life is None else self._happens(now_ms, life, event, what)

    def _happens(self, now_ms: float, life: Life, event: Event, what: object = None) -> Effects:
        follows = TRANSITIONS.get((life.state, event))
        if follows is None:
            return []
        life.looked = False
        effects: Effects = getattr(self, follows)(now_ms, life, what)
        return effects

    def _plan(self, start: Start) -> Life:
        name = f"{start.instance_id}/{start.names}" if start.names else start.instance_id
        start.names += 1
        life = self.lives[name] = Life(name, start.app, start.instance_id)
        start.lives.append(life)
        return life

    # From the intent to the slot

    def intend(self, now_ms: float, life: Life, _: object) -> Effects:
        wait_ms, why = self.breakers.wait_ms(now_ms, blamed(life))
        if wait_ms > 0.0:
            return self._try_failed(now_ms, life, NotAsked(wait_ms, why), doubtful=life.unsure)
        return self._write(life)

    def _write(self, life: Life) -> Effects:
        life.state = State.INTENDED
        return [WriteIntent(life.name, life.instance_id or "", life.app)]

    def ask(self, now_ms: float, life: Life, _: object) -> Effects:
        life.state = State.CREATING
        life.sent_ms = now_ms
        self._alarms.set(life, now_ms + 1000.0 * self.limits.slow_create_s)
        return [CallCreate(life.name, life.app.memory_mb)]

    def cannot_ask(self, now_ms: float, life: Life, reason: object) -> Effects:
        self.breakers.not_made(blamed(life))
        error = PlatformError("the slot cannot be written to the ledger")
        report = Report(f"no slot is made: {reason}")
        return [report, *self._try_failed(now_ms, life, error, doubtful=life.unsure)]

    def have(self, now_ms: float, life: Life, made: Made) -> Effects:
        start = self.starts[life.instance_id or ""]
        if made.slot_id in self.by_slot:
            error = PlatformError("CreateSlot answered with a slot that is in use", retry=True)
            self.breakers.create_failed(now_ms, blamed(life), error, life.sent_ms)
            odd = self._not_believed(life, made.slot_id)
            return [odd, *self._try_failed(now_ms, life, error, doubtful=False, rename=True)]
        life.slot_id = made.slot_id
        self.by_slot[made.slot_id] = life
        if 0 < made.memory_mb < life.app.memory_mb:
            sizes = f"{made.memory_mb} MB instead of {life.app.memory_mb}"
            error = PlatformError(f"CreateSlot answered with {sizes}", retry=True)
            self.breakers.create_failed(now_ms, blamed(life), error, life.sent_ms)
            report = Report(f"slot={made.slot_id} is given back: {sizes}", "less_memory")
            life.reason = "it is too small"
            effects = self._try_failed(now_ms, life, error, doubtful=False, rename=True, keep=True)
            return [report, *self._write_created(life), *effects]
        self.breakers.created(now_ms, blamed(life))
        del self.starts[start.instance_id]
        self.instances[start.instance_id] = life
        effects = self._write_created(life)
        for other in start.lives:
            if other is not life:
                effects += self._happens(now_ms, other, Event.DROP)
        life.failures = start.failures
        return effects

    def miss(self, now_ms: float, life: Life, error: PlatformError) -> Effects:
        self.breakers.create_failed(now_ms, blamed(life), error, life.sent_ms)
        # "Later" says nothing of what an earlier call under this name has made.
        doubtful = error.in_doubt or (error.retry and life.unsure)
        return self._try_failed(now_ms, life, error, doubtful=doubtful)

    def _try_failed(
        self,
        now_ms: float,
        life: Life,
        error: PlatformError,
        *,
        doubtful: bool,
        rename: bool = False,
        keep: bool = False,
    ) -> Effects:
        """One CreateSlot of a start came to nothing. It is asked for again, under another name
        with `rename`; the slot that it has is kept with `keep`, for nobody."""
        start = self.starts[life.instance_id or ""]
        start.failures += 1
        life.unsure = doubtful
        life.state = State.PLANNED
        self._alarms.set(life, inf)
        if len(start.lives) > 1:  # the others may still answer
            start.lives.remove(life)
            self._alarms.set(start.lives[-1], now_ms + 1000.0 * self.limits.slow_create_s)
            return self._leave(now_ms, life, keep=keep)
        pause_ms = self._pause_ms(now_ms, start.instance_id, error, start.failures)
        if pause_ms is None:
            return self._leave(now_ms, life, keep=keep) + self._give_up(start, error)
        effects: Effects = []
        if rename:
            start.lives.remove(life)
            effects = self._leave(now_ms, life, keep=keep)
            life = self._plan(start)
        elif not doubtful:
            effects = [Erase(life.name)]
        self._alarms.set(life, now_ms + pause_ms)
        return effects

    def _leave(self, now_ms: float, life: Life, *, keep: bool) -> Effects:
        life.instance_id = None
        return [] if keep else self._happens(now_ms, life, Event.DROP)

    def _give_up(self, start: Start, error: PlatformError) -> Effects:
        del self.starts[start.instance_id]
        return [TellFailed(start.instance_id, error, False, start.failures, None)]

    def _pause_ms(
        self, now_ms: float, instance_id: str, error: PlatformError, failures: int
    ) -> float | None:
        """How long until a start is tried again; None if it is not: it is hopeless, nobody waits
        for it, or who does will have gone by then."""
        if not error.retry or failures >= START_ATTEMPTS:
            return None
        pause_ms = backoff_ms(failures, self._chance)
        if isinstance(error, NotAsked):
            if error.wait_ms > PATIENCE_MS:
                return None
            pause_ms += error.wait_ms
        return pause_ms if now_ms + pause_ms < self._wanted_until_ms(instance_id) else None

    def ask_another(self, now_ms: float, life: Life, _: object) -> Effects:
        """CreateSlot is slow. Whoever waits for it gets another one; both are listened to."""
        start = self.starts[life.instance_id or ""]
        start.looks += 1
        slow_s = start.looks * self.limits.slow_create_s
        late = PlatformError(
            f"CreateSlot did not answer in {slow_s:g} s", retry=True, timed_out=True
        )
        self.breakers.create_failed(now_ms, blamed(life), late, life.sent_ms)
        if start.looks >= START_ATTEMPTS:
            effects: Effects = []
            for each in start.lives:
                effects += self._happens(now_ms, each, Event.DROP)
            return effects + self._give_up(start, late)
        wanted = self._wanted_until_ms(start.instance_id) > now_ms
        if wanted and not self.breakers.wait_ms(now_ms, blamed(life))[0]:
            return self._write(self._plan(start))
        self._alarms.set(life, now_ms + 1000.0 * self.limits.slow_create_s)
        return []

    # From the slot to the end

    def tell_created(self, now_ms: float, life: Life, not_written: object) -> Effects:
        effects: Effects = []
        if not_written:  # it costs as much as any other
            effects.append(Report(f"slot={life.slot_id} is not in the ledger: {not_written}"))
        if life.instance_id is None:
            return effects + self.give_back(now_ms, life, life.reason or "it came too late")
        return [*effects, TellCreated(life.instance_id)]

    def initialise(self, now_ms: float, life: Life, _: object) -> Effects:
        life.state = State.INITIALISING
        life.sent_ms = now_ms
        life.calling = True
        self._alarms.set(life, now_ms + 1000.0 * self.limits.init_s)
        return [CallInit(life.name, life.slot_id, life.instance_id or "", life.app)]

    def be_ready(self, now_ms: float, life: Life, _: object) -> Effects:
        life.state = State.READY
        life.calling = False
        self._alarms.set(life, inf)
        self.breakers.answered(now_ms)
        return [TellReady(life.instance_id or "")]

    def fail(self, now_ms: float, life: Life, error: PlatformError) -> Effects:
        life.calling = False
        life.failures += 1
        self._alarms.set(life, inf)
        self.breakers.failed(now_ms, blamed(life), error, life.sent_ms)
        instance_id = life.instance_id or ""
        pause_ms = self._pause_ms(now_ms, instance_id, error, life.failures)
        return [TellFailed(instance_id, error, True, life.failures, pause_ms)]

    def fail_late(self, now_ms: float, life: Life, _: object) -> Effects:
        text = f"Init did not answer in {self.limits.init_s:g} s"
        late = PlatformError(text, retry=True, in_doubt=True, timed_out=True)
        return [Cancel(life.name), *self.fail(now_ms, life, late)]
