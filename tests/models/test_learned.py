"""What the learned policy does with an app whose habits are plain."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest

from tests.traces import trace_of
from warmscaler.data.trace import Trace
from warmscaler.models.learned import level
from warmscaler.models.learned.habits import Model
from warmscaler.models.learned.plan import Plan, Prior, plan, spread
from warmscaler.models.learned.policy import Learned
from warmscaler.models.policy import Instance, State
from warmscaler.service.scheduler.actions import Actions, Assign, CreateSlot, DestroySlot
from warmscaler.service.scheduler.scheduler import Scheduler
from warmscaler.simulator.figures import figures
from warmscaler.simulator.replay import replay
from warmscaler.training.fitting.fit import fit

MINUTE_MS = 60_000


def two_timers(days: int) -> Trace:
    """Every ten minutes a call of 80 s, and after some of them, hours apart, another a minute
    later; starts of 19 s. The second instance is needed rarely, and dear to miss."""
    often = range(days * 144)
    chance, number = Random(1), 0
    rarely = []
    while (number := number + chance.choice((5, 7, 9, 14))) < len(often):
        rarely.append(number)
    calls = [(each * 10 * MINUTE_MS, 0, 80_000) for each in often]
    calls += [((each * 10 + 1) * MINUTE_MS, 0, MINUTE_MS) for each in rarely]
    return trace_of(calls, memory_mb=(192,), init_ms=18_700)


def test_a_level_let_go_does_not_take_the_instance_of_the_one_above() -> None:
    """Between two calls of the first timer its instance is released, and the one held for the second
    timer is then the only one: when the first timer is due there must be two again."""
    trace = two_timers(days=2)
    wait_ms = replay(trace, Learned(Model(), price=0.0012), create_ms=300.0).wait_ms
    second_day = trace.arrival_ms >= 24 * 60 * MINUTE_MS
    assert (wait_ms[second_day] > 0.0).sum() <= 1


def test_instances_of_a_large_burst_are_kept_too() -> None:
    """Every five minutes sixty calls at once: the sixtieth is as regular as the first."""
    calls = [(tick * 5 * MINUTE_MS + call, 0, 2_000) for tick in range(48) for call in range(60)]
    trace = trace_of(calls, init_ms=1_700)
    wait_ms = replay(trace, Learned(Model(), price=0.0001), create_ms=300.0).wait_ms
    assert (wait_ms[len(trace) // 2 :] > 0.0).mean() < 0.01


def kept_ms(price: float, memory_mb: int, deployed_mb: int) -> float:
    """How long an instance is kept of an app that calls every minute or so, and was deployed anew
    with `memory_mb` after having had `deployed_mb`."""
    chance = Random(3)
    scheduler = Scheduler(Learned(Model(), price))
    now_ms, size_mb = 1e12, deployed_mb
    for number in range(40):
        if number == 39:
            size_mb = memory_mb
        for action in scheduler.arrival(now_ms, number, "app", size_mb):
            if isinstance(action, CreateSlot):
                scheduler.slot_created(now_ms, action.instance.id)
                scheduler.instance_ready(now_ms + 1_500.0, action.instance.id)
        now_ms += 2_000.0
        [busy] = [each for each in scheduler.instances.values() if each.state is State.BUSY]
        scheduler.idle(now_ms, busy.id)
        if number == 39:
            return busy.expires_ms - now_ms
        now_ms += chance.uniform(20_000.0, 300_000.0)
        scheduler.wake(now_ms - 1.0)
    raise AssertionError


def test_what_memory_costs_follows_the_app_when_it_is_deployed_anew() -> None:
    small, large = kept_ms(0.02, 128, 128), kept_ms(0.02, 8_192, 8_192)
    assert small > 2.0 * large
    assert kept_ms(0.02, 8_192, 128) < 0.5 * small


def test_an_instance_started_ahead_is_kept_for_what_it_was_started_for() -> None:
    """Ages are differences of times since 1970: an instance may be ready a rounding before the age
    from which its plan keeps it."""
    exactly = Plan(403.0, [314_844.0], [333_182.0], [314_441.0])
    assert exactly.hold_until_ms(314_844.0 - 0.001) == 333_182.0
    prior = Prior(Model().prior_ms, 0.6)
    ahead = 0
    for seed in range(20):
        chance = np.random.default_rng(seed)
        gaps_ms = 300_000.0 * chance.integers(1, 4, 40) + chance.uniform(0.0, 5_000.0, 40)
        todo = plan(
            *spread(gaps_ms, np.ones(40)), prior, hold_cost=2e-5, miss_cost=403.0, start_ms=403.0
        )
        age_ms = 60_000.0
        while (age_ms := todo.prewarm_ms(age_ms)) < 900_000.0:
            ahead += 1
            ready_ms = age_ms + 403.0
            assert todo.hold_until_ms(ready_ms - 0.001) > ready_ms
            assert todo.hold_until_ms(age_ms + 300.0, 403.0) > ready_ms  # where starts vary
    assert ahead > 20


def test_an_instance_that_nobody_waits_for_takes_the_last_level() -> None:
    """Two calls wait, and two instances start; one comes free at once and serves both. The other is
    then one more than there ever were at once: those there before stay where they were."""
    scheduler = Scheduler(Learned(Model(), price=1e-5))
    started = [
        action.instance.id
        for number in range(2)
        for action in scheduler.arrival(1e12 + number, number, "app", 128)
        if isinstance(action, CreateSlot)
    ]
    for instance_id in started:
        scheduler.slot_created(1e12 + 300.0, instance_id)
    first, *others = started
    scheduler.instance_ready(1e12 + 1_500.0, first)
    scheduler.idle(1e12 + 1_510.0, first)
    scheduler.idle(1e12 + 1_520.0, first)
    assert others
    for each in others:
        scheduler.instance_ready(1e12 + 1_600.0, each)
    assert [each.id for each in scheduler.pools["app"].idle] == [*reversed(others), first]


def test_what_is_believed_of_long_idle_times_is_not_ruled_by_short_ones() -> None:
    """All apps call every few seconds, and this one a hundred times a second apart and once after two
    hours: of idle times of half an hour a single one was seen, however many short ones were."""
    prior = Prior(np.geomspace(500.0, 100_000.0, 32), 0.6)
    gaps_ms = np.array([1_000.0] * 100 + [7_000_000.0])
    told, weights = prior.given(gaps_ms, np.ones(101))
    total = float(told.weight_before(np.array([1e13]))[0]) + weights.sum()
    assert total == pytest.approx(101.6, rel=1e-3)
    at_ms = np.array([1_600_000.0, 4_300_000.0, 1e13])
    before, later, every = told.weight_before(at_ms)
    left = every - before + weights[-1]
    # Even chance in each of 1.4 octaves, by 0.6 of it against the one that went on.
    assert (later - before) / left == pytest.approx(1.4 * 0.5 * 0.6 / 1.6, rel=0.2)
    assert before + weights[:100].sum() > 99.0


def test_what_is_believed_where_nothing_was_seen_is_the_prior() -> None:
    prior = Prior(Model().prior_ms, 0.6)
    ages_ms = np.geomspace(1.0, 1e9, 50)
    told, _ = prior.given(np.zeros(0), np.zeros(0))
    np.testing.assert_allclose(
        told.weight_before(ages_ms), prior.weight_before(ages_ms), rtol=1e-6, atol=1e-9
    )


def test_no_call_waits_for_a_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a warm request nor its end: planned is only for an instance that outlasts the time it is
    kept anyway, when its timer rings."""
    planned = 0

    def counted(*arguments: Any, **named: Any) -> Plan:
        nonlocal planned
        planned += 1
        return plan(*arguments, **named)

    monkeypatch.setattr(level, "plan", counted)
    scheduler = Scheduler(Learned(Model()))
    chance, now_ms, while_called, warm = Random(2), 1e12, 0, 0

    def settle(actions: Actions) -> list[Instance]:
        """A platform that takes no time; the instances given to requests."""
        given = []
        for action in actions:
            if isinstance(action, Assign):
                given.append(action.instance)
            elif isinstance(action, CreateSlot):
                scheduler.slot_created(now_ms, action.instance.id)
                given += settle(scheduler.instance_ready(now_ms, action.instance.id))
            elif isinstance(action, DestroySlot):
                settle(scheduler.slot_destroyed(now_ms, action.instance.id))
        return given

    for number in range(3_000):
        now_ms += chance.choice((1.0, 20.0, 300.0, 5_000.0, 90_000.0))
        while scheduler.next_wake_ms <= now_ms:
            settle(scheduler.wake(scheduler.next_wake_ms))
        before = planned
        actions = scheduler.arrival(now_ms, number, "app", 128)
        if not isinstance(actions[0], Assign):
            before = planned
        else:
            warm += 1
        [instance] = settle(actions)
        now_ms += 5.0
        settle(scheduler.idle(now_ms, instance.id))
        while_called += planned - before
    assert warm > 1_500
    assert while_called == 0
    assert planned > 20


def test_of_bursts_unknown_to_training_every_call_counts() -> None:
    """Training saw calls one by one; then come bursts, in which a second instance spares every other
    call of twenty a wait of 10 ms. What it costs until the next burst is more than one of those waits,
    and less than ten of them."""
    chance = Random(4)
    alone = [(MINUTE_MS * tick, 0, 30) for tick in range(200)]
    at_ms, bursts = 200 * MINUTE_MS, []
    for _ in range(60):
        at_ms += chance.randrange(60_000, 540_000)
        bursts += [(at_ms + 35 * call, 0, 20 if call % 2 else 45) for call in range(20)]
    trace = trace_of(alone + bursts, memory_mb=(256,), init_ms=20_000)
    model = fit(trace.between(0.0, 199.0 * MINUTE_MS), create_ms=300.0, price=0.0001)
    wait_ms = replay(trace, Learned(model), create_ms=300.0).wait_ms
    assert wait_ms[-800:].sum() == 0.0


def test_a_plan_is_no_dearer_than_a_window_by_what_it_believes() -> None:
    """Idle times so far apart that what they stand for reaches over points of the prior: what may end
    between two of those points is missed by who releases at the first."""
    miss_cost, start_ms, hold_cost = 60_000.0, 60_000.0, 0.01
    gaps_ms = np.random.default_rng(3).lognormal(np.log(60_000.0), 1.5, 26)
    prior, weights = Prior(Model().prior_ms, 0.6).given(gaps_ms, np.ones(26))
    points_ms, weights, reaches_ms = spread(gaps_ms, weights)
    followed = plan(
        points_ms,
        weights,
        reaches_ms,
        prior,
        hold_cost=hold_cost,
        miss_cost=miss_cost,
        start_ms=start_ms,
    )
    to_ms = np.concatenate(([0.0], np.geomspace(300.0, 3e9, 2_000)))
    believed = prior.shares(to_ms)
    for at_ms, weight, reach_ms in zip(points_ms, weights, reaches_ms, strict=True):
        reached = np.clip((to_ms - at_ms) / reach_ms + 0.5, 0.0, 1.0)
        believed += weight * np.diff(reached)
    believed /= believed.sum()
    middle_ms = (to_ms[1:] + to_ms[:-1]) / 2.0
    costs = [followed.cost_of(gap_ms, 0.0, 0.0, hold_cost, miss_cost) for gap_ms in middle_ms]
    beyond = 1.0 - believed.cumsum()
    windows = beyond * (miss_cost + hold_cost * to_ms[1:])
    windows += hold_cost * (believed * middle_ms).cumsum()
    assert believed @ costs < 1.05 * windows.min()


def test_batches_of_any_size_find_their_instances() -> None:
    """Every hour five to sixty calls, most of them within two seconds: each level is due at its own
    moment of that, and the higher ones are used by large batches only."""
    chance, calls = Random(5), []
    for hour in range(48):
        for _ in range(chance.randrange(5, 60)):
            at_ms = hour * 60 * MINUTE_MS + round(chance.expovariate(1.0 / 1_500.0))
            calls.append((at_ms, 0, 600))
    trace = trace_of(calls, memory_mb=(256,), init_ms=3_700)
    later = trace.arrival_ms >= 24 * 60 * MINUTE_MS
    result = replay(trace, Learned(Model(), price=0.001), create_ms=300.0)
    assert (result.wait_ms[later] > 0.0).mean() < 0.4
    held_mb_s = figures(trace, result, 24.0 * 60 * MINUTE_MS).wasted_gb_s * 1024.0
    assert held_mb_s < 10 * 256 * 24 * 3_600  # ten of forty all the time


def test_idle_times_that_agree_stand_for_themselves_however_rare() -> None:
    """An app that calls every hour, and now and then leaves one out: nothing ends in between."""
    chance = np.random.default_rng(2)
    hours = np.array([1] * 40 + [2] * 4) * 3_600_000.0 + chance.uniform(0.0, 2_000.0, 44)
    points_ms, _, reaches_ms = spread(hours, np.ones(44), drift_share=0.0)
    for each_ms, reach_ms in zip(points_ms, reaches_ms, strict=True):
        assert reach_ms < 5_000.0
        assert min(abs(each_ms - at_ms) for at_ms in (3_600_000.0, 7_200_000.0)) < 10_000.0
