"""The slots' lives under any order of answers, failures, kills of time and wishes of the scheduler."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from math import inf
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmscaler.service.slots import lives as lives_module
from warmscaler.service.slots.answers import Made, PlatformError
from warmscaler.service.slots.effects import (
    App,
    CallCreate,
    CallDestroy,
    CallInit,
    Cancel,
    Effects,
    Erase,
    TellCreated,
    TellDestroyed,
    TellFailed,
    TellReady,
    WriteCreated,
    WriteIntent,
)
from warmscaler.service.slots.giving_back import (
    APP_SHARE,
    DOUBTS,
    FIRST_TRIES_AT_ONCE,
    RETRIES_AT_ONCE,
)
from warmscaler.service.slots.life import TRANSITIONS, Event, Life, State
from warmscaler.service.slots.lives import Lives
from warmscaler.service.slots.times import StartLimits

ERRORS = (
    PlatformError("lost", retry=True, in_doubt=True),
    PlatformError("later", retry=True),
    PlatformError("never"),
    PlatformError("nobody there", retry=True, in_doubt=True, unreachable=True),
    PlatformError("no answer", retry=True, in_doubt=True, timed_out=True),
)
OF_ONE_APP = APP_SHARE * FIRST_TRIES_AT_ONCE // (APP_SHARE + 1)
STEPS = ("start", "answer", "answer", "answer", "fail", "lose", "time", "destroy", "use")
LIMITS = StartLimits(slow_create_s=5.0, init_s=20.0, wait_s=60.0)


class World:
    """A platform that knows a repeated CreateSlot, a ledger, and a scheduler that keeps the books."""

    def __init__(self, seed: int, *, odd: bool = False) -> None:
        self.random = Random(seed)
        self.odd = odd
        """It answers with slots in use now and then."""
        self.now_ms = 0.0
        self.lives = Lives(self.random.random, self._wanted_until_ms, LIMITS)
        self.calls: list[Callable[[str], Effects]] = []
        """Under way; each is ended by a word: answer, fail or lose (done, and then failed)."""
        self.by_name: dict[str, str] = {}
        self.live: set[str] = set()
        self.rows: set[str] = set()
        self.slots: dict[str, str] = {}
        """Of the instances that run."""
        self.destroying: dict[str, int] = {}
        """The turn of the DestroySlot under way of each slot."""
        self.told: Counter[tuple[str, str]] = Counter()
        self.started = 0

    def _wanted_until_ms(self, instance_id: str) -> float:
        return inf if int(instance_id[1:]) % 3 else 0.0

    # What can be done next

    def step(self, what: str) -> None:
        if what == "start":
            self.started += 1
            app = App(f"app{self.random.randrange(3)}", "", 60, self.random.choice((128, 512)))
            self.do(self.lives.start(self.now_ms, f"i{self.started}", app))
        elif what in ("answer", "fail", "lose"):
            if self.calls:
                call = self.calls.pop(self.random.randrange(len(self.calls)))
                self.do(call(what))
        elif what == "time":
            self.now_ms += self.random.expovariate(1.0 / 3_000.0)
            self.do(self.lives.wake(self.now_ms))
        elif self.slots:
            instance_id = self.random.choice(sorted(self.slots))
            if what == "destroy":
                del self.slots[instance_id]
                self.do(self.lives.destroy(self.now_ms, instance_id, "idle"))
            elif self.lives.taken(instance_id) is None:
                assert self.lives.freed(instance_id) is not None
        self.check()

    def check(self) -> None:
        owned = [life.slot_id for life in self.lives.lives.values() if life.slot_id]
        assert len(owned) == len(set(owned))  # no slot has two lives
        assert set(self.lives.by_slot) == set(owned)
        assert set(self.slots.values()) <= self.live  # what runs was not destroyed
        assert 0 <= self.lives._lane_used <= RETRIES_AT_ONCE
        assert self.rows <= set(self.lives.lives)  # no row without a life
        for name, slot_id in self.by_name.items():
            if slot_id in self.live and not self.odd:
                assert name in self.rows  # what may exist is written down

    # What is to be done

    def do(self, effects: Effects) -> None:
        for effect in effects:
            match effect:
                case WriteIntent(name) | WriteCreated(name):
                    if self.random.random() < 0.05:
                        self.do(self.lives.not_written(self.now_ms, name, "full"))
                    else:
                        self.rows.add(name)
                        self.do(self.lives.written(self.now_ms, name))
                case Erase(name):
                    self.rows.discard(name)
                case CallCreate(name):
                    self.calls.append(partial(self._create, name))
                case CallInit(name):
                    self.calls.append(partial(self._init, name))
                case CallDestroy(name, slot_id, _, turn):
                    assert name not in self.destroying  # one at a time
                    self.destroying[name] = turn
                    self.calls.append(partial(self._destroy, name, slot_id, turn))
                case Cancel(name):
                    self.destroying.pop(name, None)  # its answer comes all the same, late
                case TellCreated(instance_id):
                    self.told[instance_id, "created"] += 1
                    self.do(self.lives.init(self.now_ms, instance_id))
                case TellReady(instance_id):
                    self.told[instance_id, "ready"] += 1
                    self.slots[instance_id] = self.lives.instances[instance_id].slot_id
                case TellFailed(instance_id, _, slot_exists):
                    self.told[instance_id, "failed"] += 1
                    if slot_exists:
                        self.do(self.lives.destroy(self.now_ms, instance_id, "failed"))
                case TellDestroyed(instance_id):
                    self.told[instance_id, "destroyed"] += 1

    def _create(self, name: str, word: str) -> Effects:
        if word != "fail":
            if name not in self.by_name:
                slot_id = f"s{len(self.by_name)}"
                if self.odd and self.slots and self.random.random() < 0.2:
                    slot_id = self.random.choice(sorted(self.slots.values()))
                self.by_name[name] = slot_id
                self.live.add(slot_id)
            if word == "answer":
                small = self.odd and self.random.random() < 0.1
                made = Made(self.by_name[name], 64 if small else 0)
                return self.lives.made(self.now_ms, name, made)
        if word == "lose":
            may_say = [each for each in ERRORS if each.in_doubt]
        else:  # "later" says nothing of what was made before
            may_say = [each for each in ERRORS if each.retry or name not in self.by_name]
        error = self.random.choice(may_say)
        return self.lives.create_failed(self.now_ms, name, error)

    def _init(self, name: str, word: str) -> Effects:
        life = self.lives.lives.get(name)
        if word == "answer" and (life is None or life.slot_id in self.live):
            return self.lives.initialised(self.now_ms, name)
        return self.lives.init_failed(self.now_ms, name, self.random.choice(ERRORS))

    def _destroy(self, name: str, slot_id: str, turn: int, word: str) -> Effects:
        if word != "fail":
            self.live.discard(slot_id)
        if self.destroying.get(name) == turn:
            del self.destroying[name]
        if word == "answer":
            return self.lives.destroyed(self.now_ms, name)
        return self.lives.destroy_failed(self.now_ms, name, self.random.choice(ERRORS), turn)

    def settle(self) -> None:
        """Everything is answered from now on, and nothing more is wanted."""
        self.slots.clear()
        self.do(self.lives.shut_down(self.now_ms))
        for _ in range(10_000):
            if not self.lives.lives:
                return
            while self.calls:
                self.do(self.calls.pop()("answer"))
            self.now_ms += 1_000.0
            self.do(self.lives.wake(self.now_ms))
        raise AssertionError({name: life.state for name, life in self.lives.lives.items()})


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.booleans(), st.lists(st.sampled_from(STEPS), max_size=60))
def test_no_slot_is_lost_none_is_shared(seed: int, odd: bool, steps: list[str]) -> None:
    play(World(seed, odd=odd), steps)


@pytest.mark.parametrize("seed", range(40))
def test_nor_over_many_events(seed: int) -> None:
    play(World(seed, odd=seed % 2 > 0), Random(seed).choices(STEPS, k=1_000))


def play(world: World, steps: Iterable[str]) -> None:
    for step in steps:
        world.step(step)
    world.settle()
    assert not world.live
    assert not world.rows
    assert not world.lives.by_slot
    assert not world.lives.instances
    assert world.lives._lane_used == 0
    assert world.lives._first_tries == 0
    assert not +world.lives._first_tries_of
    for (instance_id, what), count in world.told.items():
        assert count == 1, (instance_id, what)
    for number in range(1, world.started + 1):
        told = [what for each, what in world.told if each == f"i{number}"]
        if "ready" in told:
            assert "failed" not in told
        if "created" in told:
            assert "destroyed" in told


def test_the_table_names_what_is_there() -> None:
    lives = Lives(lambda: 0.5, lambda _: 0.0, LIMITS)
    for follows in TRANSITIONS.values():
        assert callable(getattr(lives, follows))
    assert {state for state, _ in TRANSITIONS} == set(State) - {State.GONE}
    assert {event for _, event in TRANSITIONS} == set(Event)


def test_taken_and_freed_say_what_the_table_says() -> None:
    lives = Lives(lambda: 0.5, lambda _: 0.0, LIMITS)
    life = lives.instances["i"] = Life("i", App("app", "", 60, 128), "i")
    for state in State:
        for method, event, after in (
            (lives.taken, Event.TAKEN, State.IN_USE),
            (lives.freed, Event.FREED, State.READY),
        ):
            life.state = state
            named = TRANSITIONS.get((state, event))
            assert (method("i") is not None) == (named == method.__name__)
            assert life.state is (after if named else state)


def test_a_stall_shows_no_time_out_before_a_look() -> None:
    lives = Lives(lambda: 0.5, lambda _: inf, LIMITS)
    lives.start(0.0, "i", App("app", "", 60, 128))
    lives.written(0.0, "i")
    assert lives.wake(60_000.0) == []
    assert lives.next_wake_ms == 60_000.0 + lives_module.LOOK_MS
    assert lives.wake(120_000.0) == []  # it stood still once more
    [effect] = lives.wake(120_000.0 + lives_module.LOOK_MS)
    assert isinstance(effect, WriteIntent)
    assert re.fullmatch("i/1", effect.name)


def test_destroys_in_flight_are_bounded() -> None:
    lives = Lives(lambda: 0.5, lambda _: 0.0, LIMITS)
    count = FIRST_TRIES_AT_ONCE + 2 * RETRIES_AT_ONCE
    for number in range(count):
        name = f"i{number}"
        lives.adopt(name, name, App("app", "", 60, 128), f"s{number}", in_use=False)
    effects = lives.shut_down(0.0)
    asked = [effect.name for effect in effects if isinstance(effect, CallDestroy)]
    assert len(asked) == OF_ONE_APP + RETRIES_AT_ONCE
    while asked:
        name = asked.pop()
        more = [each.name for each in lives.destroyed(0.0, name) if isinstance(each, CallDestroy)]
        assert len(more) <= 1
        asked += more
    assert not lives.lives


def test_what_hangs_of_one_app_leaves_places_for_the_first_tries_of_others() -> None:
    lives = Lives(lambda: 0.5, lambda _: 0.0, LIMITS)
    for number in range(2 * FIRST_TRIES_AT_ONCE):
        name = f"i{number}"
        lives.adopt(name, name, App("bad", "", 60, 128), f"s{number}", in_use=False)
        lives.destroy(0.0, name, "its window is over")
    for number in range(20):
        name = f"j{number}"
        lives.adopt(name, name, App(f"app{number}", "", 60, 128), f"t{number}", in_use=False)
        effects = lives.destroy(1.0, name, "its window is over")
        assert any(isinstance(each, CallDestroy) and each.name == name for each in effects)


def test_one_app_that_is_in_doubt_leaves_places_for_the_doubts_of_others() -> None:
    lost = PlatformError("lost", retry=True, in_doubt=True)
    lives = Lives(lambda: 0.5, lambda _: 0.0, LIMITS)

    def starts_in_doubt(name: str, app: App) -> None:
        lives.start(0.0, name, app)
        lives.written(0.0, name)
        lives.create_failed(0.0, name, lost)
        lives.breakers.answered(0.0)
        lives.breakers.created(0.0, (app.key, app.memory_mb))  # not held off

    for number in range(2 * DOUBTS):
        starts_in_doubt(f"i{number}", App("bad", "", 60, 128))
    for number in range(20):
        starts_in_doubt(f"j{number}", App(f"app{number}", "", 60, 128))
        assert f"j{number}" in lives.lives


@pytest.mark.parametrize("name", ["slow_create_s", "init_s", "wait_s"])
def test_limits_that_are_none(name: str) -> None:
    for value in (0.0, -1.0, inf, float("nan")):
        with pytest.raises(ValueError, match=name):
            StartLimits(**{name: value})
