"""Properties of the scheduler under arbitrary interleavings, with every policy."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.service.world import World
from warmscaler.data.generate import generate
from warmscaler.models.advised.policy import Advice, Advised, AppAdvice, Clock
from warmscaler.models.learned.habits import Model
from warmscaler.models.learned.policy import Learned
from warmscaler.models.policy import Policy, State
from warmscaler.models.registry import make_policy
from warmscaler.service.scheduler.actions import CreateSlot, DestroySlot
from warmscaler.service.scheduler.limits import UNLIMITED, Limits
from warmscaler.service.scheduler.scheduler import Scheduler
from warmscaler.training.fitting.fit import fit

TIGHT = Limits(
    waiting=40,
    waiting_per_app=15,
    apps=8,
    slots=12,
    slots_per_app=5,
    memory_mb=2_000,
    forget_ms=600_000.0,
)
POLICIES = (
    "fixed:2",
    "fixed:600",
    "reference",
    "learned",
    "hybrid-histogram",
    "greedy-dual:1",
    "knative",
    "cidre:1",
    "advice",
    "icebreaker",
    "femux",
    "spes",
)
EXAMPLES = 10
STEPS = 15
BURST = 150
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]
"""To have a failure made small, add Phase.shrink: it takes minutes."""
LEAST_EVENTS = 200_000 // (2 * len(POLICIES)) + 1


@pytest.fixture(scope="module")
def model() -> Model:
    """Of a tiny trace, with its habits under the names that the world gives its apps."""
    fitted = fit(generate("contest-1", days=0.03, seed=3), create_ms=300.0, price=0.04)
    apps = {f"app-{number}": habits for number, habits in enumerate(fitted.apps.values())}
    return replace(fitted, apps=apps)


ADVICE = Advice(
    AppAdvice(2_000.0),
    {
        "app-0": AppAdvice(0.0, Clock(60_000.0, 20_000.0, 5_000.0)),
        "app-1": AppAdvice(0.0, None, (2,) * 12 + (0,) * 12),
        "app-2": AppAdvice(600_000.0, Clock(3_600_000.0, 0.0, 60_000.0), (1,) * 24),
    },
)
"""A window, a clock, least numbers by the hour, and all of it."""


def policy_called(name: str, model: Model) -> Policy:
    if name == "advice":
        return Advised(ADVICE)
    return Learned(model) if name == "learned" else make_policy(name)


@pytest.mark.parametrize("limits", [UNLIMITED, TIGHT], ids=["unlimited", "tight"])
@pytest.mark.parametrize("name", POLICIES)
def test_invariants_hold(name: str, limits: Limits, model: Model) -> None:
    events = 0

    class Machine(RuleBasedStateMachine):
        """Events one by one, which shrink well, and bursts of many, which reach far."""

        def __init__(self) -> None:
            super().__init__()
            apps = 12 if limits is TIGHT else 6
            self.world = World(policy_called(name, model), limits, apps)
            self.world.inherit(Random(events))

        @rule(app=st.integers(0, 11), count=st.integers(1, 12))
        def arrivals(self, app: int, count: int) -> None:
            for _ in range(count):
                self.world.arrive(app)

        @rule(by_ms=st.sampled_from([0.0, 1.0, 500.0, 2_000.0, 60_000.0, 700_000.0]))
        def time_passes(self, by_ms: float) -> None:
            self.world.pass_time(by_ms)

        @rule(retry=st.booleans())
        def every_start_fails(self, retry: bool) -> None:
            for each in [*self.world.creating, *self.world.starting]:
                self.world.fail(each, retry=retry)

        @rule()
        def everybody_goes_away(self) -> None:
            for each in list(self.world.open):
                self.world.give_up(each)

        @rule()
        def all_is_answered(self) -> None:
            self.world.settle()

        @rule(seed=st.integers(0, 2**32), count=st.integers(BURST, 3 * BURST))
        def anything(self, seed: int, count: int) -> None:
            self.world.run(Random(seed), count)

        @invariant()
        def all_is_well(self) -> None:
            self.world.check()

        def teardown(self) -> None:
            nonlocal events
            self.world.end()
            events += self.world.events

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            phases=PHASES,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    seed = 0
    while events < LEAST_EVENTS:
        seed += 1
        machine = Machine()
        machine.world.run(Random(seed), 10 * BURST)
        machine.teardown()


def test_the_last_start_fails_and_nobody_hangs() -> None:
    for name in ("knative", "fixed:60"):
        world = World(make_policy(name), Limits(slots_per_app=1))
        for _ in range(3):
            world.arrive(0)
        [first] = world.creating
        world.fail(first, retry=False)
        world.check()
        world.settle()
        assert not world.open


def test_a_retry_starts_anew_for_the_same_request() -> None:
    world = World(make_policy("fixed:60"))
    request = world.arrive(0)
    [first] = world.creating
    world.created(first)
    world.fail(first, retry=True)
    [second] = world.creating
    assert first in world.destroying
    world.created(second)
    world.ready(second)
    assert world.serving == {second: request}
    world.end()


def test_a_request_that_is_gone_leaves_its_start_for_the_next() -> None:
    world = World(make_policy("fixed:60"))
    world.give_up(world.arrive(0))
    [start] = world.creating
    world.created(start)
    world.ready(start)
    request = world.arrive(0)
    assert world.serving == {start: request}
    world.end()


def test_instances_of_an_earlier_run() -> None:
    scheduler = Scheduler(make_policy("fixed:60"))
    assert not scheduler.adopt(0.0, "old-1", "app", 128, state=State.IDLE)
    assert not scheduler.adopt(0.0, "old-2", "app", 128, state=State.BUSY)
    [action] = scheduler.adopt(0.0, "old-3", "app", 128, state=State.DESTROYING)
    assert isinstance(action, DestroySlot)
    assert not scheduler.slot_destroyed(1.0, "old-3")
    assert not scheduler.idle(2.0, "old-2")
    assert {each.id for each in scheduler.idle_instances()} == {"old-1", "old-2"}
    assert scheduler.next_wake_ms == 60_000.0
    assert len(scheduler.wake(60_000.0)) == 1
    assert len(scheduler.wake(60_002.0)) == 1


def started_in(scheduler: Scheduler, now_ms: float, took_ms: float, memory_mb: int) -> float:
    """What a start is believed to take after one more, that took so long; its instance goes at once."""
    actions = scheduler.arrival(now_ms, now_ms, "app", memory_mb)
    [instance] = [action.instance for action in actions if isinstance(action, CreateSlot)]
    scheduler.slot_created(now_ms, instance.id)
    scheduler.instance_ready(now_ms + took_ms, instance.id)
    scheduler.idle(now_ms + took_ms + 10.0, instance.id, need_destroy=True)
    scheduler.slot_destroyed(now_ms + took_ms + 20.0, instance.id)
    return scheduler.pools["app"].start_ms


def test_what_a_start_takes_is_learned_from_the_first_one_seen() -> None:
    scheduler = Scheduler(make_policy("fixed:60"))
    took_ms = (60_000.0, 40_000.0, 20_000.0, 80_000.0)
    believed = [started_in(scheduler, 1e6 * n, took, 128) for n, took in enumerate(took_ms, 1)]
    assert believed == pytest.approx([60_000.0, 50_000.0, 40_000.0, 52_000.0])
    # Of what is deployed anew no start was seen yet.
    assert started_in(scheduler, 1e7, 5_000.0, 256) == pytest.approx(5_000.0)
