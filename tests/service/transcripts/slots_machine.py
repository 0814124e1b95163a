"""The slots' lives behind their transcripts: what can be said to them, and how what comes out reads."""

from __future__ import annotations

from collections.abc import Iterator

from tests.service.transcripts.transcript import Machine, in_ms, in_words, sentence
from warmscaler.service.slots.answers import Made, PlatformError
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
from warmscaler.service.slots.lives import Lives
from warmscaler.service.slots.times import StartLimits

FAILURES = {
    "RESOURCE_EXHAUSTED": {"retry": True},
    "INVALID_ARGUMENT": {},
    "INTERNAL": {"retry": True, "in_doubt": True},
    "UNAVAILABLE": {"retry": True, "in_doubt": True, "unreachable": True},
    "DEADLINE_EXCEEDED": {"retry": True, "in_doubt": True, "timed_out": True},
}
_ERROR = "|".join(FAILURES)


class SlotsMachine(Machine):
    """The ledger writes at once, unless told otherwise; chance always draws the longest pause."""

    def __init__(self) -> None:
        self._lives = Lives(lambda: 1.0, lambda name: self._wanted.get(name, 0.0), StartLimits())
        self._wanted: dict[str, float] = {}
        self._ledger_is_full = False
        self._told: dict[str, str] = {}
        self._told_breaker = ""

    # The scheduler

    @sentence(
        r"(?P<instance>\w+) of (?P<app>\w+)(?: \((?P<memory_mb>\d+) MB\))? is to be started"
        r"(?:, wanted for (?P<wanted>.+))?"
    )
    def start(
        self, instance: str, app: str, memory_mb: str = "128", wanted: str = ""
    ) -> Iterator[str]:
        """A request waits for it for so long, or none does."""
        if wanted:
            self._wanted[instance] = self.now_ms + in_ms(wanted)
        yield from self._read(
            self._lives.start(self.now_ms, instance, App(app, "go", 60, int(memory_mb)))
        )

    @sentence(r"nobody waits for (?P<instance>\w+)")
    def unwanted(self, instance: str) -> Iterator[str]:
        self._wanted.pop(instance, None)
        yield from ()

    @sentence(r"(?P<instance>\w+) is to be destroyed")
    def destroy(self, instance: str) -> Iterator[str]:
        yield from self._read(self._lives.destroy(self.now_ms, instance, "idle"))

    @sentence(r"a request (?P<what>has|is done with) (?P<instance>\w+)")
    def use(self, what: str, instance: str) -> Iterator[str]:
        told = (self._lives.taken if what == "has" else self._lives.freed)(instance)
        if told is not None:
            yield f"mark {told}"

    @sentence("the scaler shuts down")
    def shut_down(self) -> Iterator[str]:
        yield from self._read(self._lives.shut_down(self.now_ms))

    # The platform

    @sentence(r"CreateSlot (?P<name>\S+) answers (?P<slot>\S+)(?: of (?P<memory_mb>\d+) MB)?")
    def made(self, name: str, slot: str, memory_mb: str = "0") -> Iterator[str]:
        yield from self._read(self._lives.made(self.now_ms, name, Made(slot, int(memory_mb))))

    @sentence(rf"(?P<call>CreateSlot|Init|DestroySlot) (?P<name>\S+) fails with (?P<code>{_ERROR})")
    def fails(self, call: str, name: str, code: str) -> Iterator[str]:
        error, lives, now_ms = PlatformError(code, **FAILURES[code]), self._lives, self.now_ms
        if call == "CreateSlot":
            effects = lives.create_failed(now_ms, name, error)
        elif call == "Init":
            effects = lives.init_failed(now_ms, name, error)
        else:
            turn = lives.lives[name].turn if name in lives.lives else 0
            effects = lives.destroy_failed(now_ms, name, error, turn)
        yield from self._read(effects)

    @sentence(r"Init (?P<name>\S+) answers")
    def initialised(self, name: str) -> Iterator[str]:
        yield from self._read(self._lives.initialised(self.now_ms, name))

    @sentence(r"DestroySlot (?P<name>\S+) answers")
    def destroyed(self, name: str) -> Iterator[str]:
        yield from self._read(self._lives.destroyed(self.now_ms, name))

    # The ledger, and an earlier run

    @sentence(r"the ledger (?P<state>is full|can be written again)")
    def ledger(self, state: str) -> Iterator[str]:
        self._ledger_is_full = state == "is full"
        yield from ()

    @sentence(r"an earlier run sent CreateSlot (?P<name>\S+) of (?P<app>\w+)")
    def settle(self, name: str, app: str) -> Iterator[str]:
        yield from self._read(self._lives.settle(self.now_ms, name, App(app, "go", 60, 128)))

    # What it shows

    @property
    def next_wake_ms(self) -> float:
        return self._lives.next_wake_ms

    def wake(self) -> Iterator[str]:
        yield from self._read(self._lives.wake(self.now_ms))

    @sentence(r"the process stands still until (?P<time>.+)")
    def stand_still(self, time: str) -> Iterator[str]:
        """No timer rings before that; the answers that came meanwhile are told next."""
        self.now_ms = in_ms(time)
        yield from self.wake()

    def changed(self) -> Iterator[str]:
        lives = self._lives.lives
        now = {name: life.state.value for name, life in lives.items()}
        for name in [*now, *(each for each in self._told if each not in now)]:
            state = now.get(name, "gone")
            if self._told.get(name) != state:
                nobodys = "" if name not in now or lives[name].instance_id else ", nobody's"
                yield f"{name}: {state}{nobodys}"
        self._told = now
        breakers = self._lives.breakers
        breaker = f"{breakers.platform.state.value}, {breakers.held_off} held off"
        if breaker != (self._told_breaker or "closed, 0 held off"):
            yield f"breaker {breaker}"
        self._told_breaker = breaker

    def _read(self, effects: Effects) -> Iterator[str]:
        for effect in effects:
            yield _words(effect)
            if isinstance(effect, WriteIntent | WriteCreated):
                answer = (
                    self._lives.not_written(self.now_ms, effect.name, "disk full")
                    if self._ledger_is_full
                    else self._lives.written(self.now_ms, effect.name)
                )
                yield from self._read(answer)
            elif isinstance(effect, TellCreated):
                yield from self._read(self._lives.init(self.now_ms, effect.instance_id))
            elif isinstance(effect, TellFailed) and effect.slot_exists:
                yield from self._read(
                    self._lives.destroy(self.now_ms, effect.instance_id, "not started")
                )


def _words(effect: Effect) -> str:
    match effect:
        case WriteIntent(name):
            return f"write the intent of {name}"
        case WriteCreated(name, slot_id):
            return f"write {slot_id} of {name}"
        case Leaving(name):
            return f"mark {name} as leaving"
        case Erase(name):
            return f"erase {name}"
        case CallCreate(name, memory_mb):
            return f"call CreateSlot {name}, {memory_mb} MB"
        case CallInit(name, slot_id, instance_id):
            return f"call Init {name}: {instance_id} in {slot_id}"
        case CallDestroy(name, slot_id, reason):
            return f"call DestroySlot {name}: {slot_id}, {reason}"
        case Cancel(name):
            return f"wait no more for the call of {name}"
        case TellCreated(instance_id):
            return f"tell: the slot of {instance_id} is there"
        case TellReady(instance_id):
            return f"tell: {instance_id} is ready"
        case TellFailed(instance_id, error, _, _, again_ms):
            again = "" if again_ms is None else f", again in {in_words(again_ms)}"
            return f"tell: {instance_id} failed: {error}{again}"
        case TellDestroyed(instance_id):
            return f"tell: the slot of {instance_id} is gone"
        case Report(text, odd):
            return f"log: {text}" + (f" [{odd}]" if odd else "")
    raise AssertionError(effect)
