"""Objectives: their words, the controller that moves the price, and the account of a fixed window."""

from __future__ import annotations

import json
from dataclasses import replace
from math import exp, log
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.traces import trace_of
from warmscaler.data.generate import generate
from warmscaler.data.trace import Trace
from warmscaler.models.learned.habits import Model
from warmscaler.models.learned.policy import Learned
from warmscaler.models.objectives.control import Controller
from warmscaler.models.objectives.limits import CHEAPEST_SECOND, DEAREST_SECOND, HIGH, LOW
from warmscaler.models.objectives.price import price_of_money
from warmscaler.models.objectives.steering import StaysSafe, Steering, steering
from warmscaler.models.objectives.window import Window
from warmscaler.models.objectives.words import Objective, ObjectiveError, at_price, parse
from warmscaler.models.policy import Instance, Pool, Wait
from warmscaler.models.published.fixed import Fixed
from warmscaler.simulator.replay import Replay, replay

WORDS = ("safe", "score", "cold-starts=1%", "wait-p99=500ms", "memory=40GB", "price=0.03", "price")
EVENTS = st.lists(
    st.tuples(st.floats(0.0, 60_000.0), st.floats(0.0, 5.0), st.floats(0.0, 50.0)), max_size=60
)
"""How long after the one before, what is allowed, what is spent."""


@pytest.mark.parametrize("words", WORDS)
def test_words_are_read_as_they_are_written(words: str) -> None:
    assert str(parse(words)) == words
    assert parse(str(parse(words))) == parse(words)


@pytest.mark.parametrize(
    "words",
    [
        *("", "fast", "safe=1", "cold-starts", "cold-starts=0%", "cold-starts=100%"),
        *("cold-starts=1 %x", "wait-p99", "wait-p99=5", "wait-p101=5s", "wait-p20=5s"),
        *("wait-p99=0ms", "memory=40", "memory=0GB", "memory=-1GB", "price=0", "price=nan"),
    ],
)
def test_other_words_are_one_line(words: str) -> None:
    with pytest.raises(ObjectiveError) as refused:
        parse(words)
    assert "\n" not in str(refused.value)


def test_units_are_those_of_the_field() -> None:
    assert parse("wait-p99.9=2s") == parse("wait-p99.9=2000ms")
    assert parse("memory=2048MB") == parse("memory=2GB")
    assert parse("cold-starts=0.01") == parse("cold-starts=1%")
    assert price_of_money(0.06, 0.001) == pytest.approx(0.06 / 3600 / 0.001)


@given(st.floats(1e-6, 1e6), EVENTS, st.sampled_from([1.0, -1.0]))
def test_the_price_keeps_its_limits_and_is_the_same_again(
    start: float, events: list[tuple[float, float, float]], direction: float
) -> None:
    def prices() -> list[float]:
        controller, now_ms, seen = Controller(start, direction=direction), 0.0, []
        for passed_ms, allowed, spent in events:
            now_ms += passed_ms
            controller.tell(now_ms, allowed, spent)
            seen.append(controller.told)
            assert LOW * 0.999 <= controller.told <= HIGH * 1.001
        return seen

    assert prices() == prices()


@given(st.floats(1e-3, 1.0), EVENTS, st.floats(0.001, 20.0))
def test_who_spends_more_never_gets_a_dearer_memory(
    start: float, events: list[tuple[float, float, float]], more: float
) -> None:
    """And where it is memory that is spent, never a cheaper one."""
    for direction in (1.0, -1.0):
        one, other = (Controller(start, direction=direction) for _ in range(2))
        now_ms = 0.0
        for passed_ms, allowed, spent in events:
            now_ms += passed_ms
            one.tell(now_ms, allowed, spent)
            other.tell(now_ms, allowed, spent + more)
            assert direction * other.log_price <= direction * one.log_price + 1e-9


@given(st.sampled_from(["safe", "cold-starts=1%", "wait-p99=500ms"]), st.floats(1e-6, 1e6), EVENTS)
def test_no_second_waited_is_worth_more_or_less_than_is_said(
    words: str, start: float, events: list[tuple[float, float, float]]
) -> None:
    steered, now_ms = steering(parse(words), start), 0.0
    assert steered is not None
    highest = CHEAPEST_SECOND if words == "safe" else HIGH
    for passed_ms, allowed, spent in events:
        now_ms += passed_ms
        steered.controller.tell(now_ms, allowed, spent)
        assert DEAREST_SECOND * 0.999 <= steered.controller.told <= highest * 1.001


@settings(max_examples=25)
@given(st.floats(-3.0, 3.0), st.floats(0.3, 1.5), st.floats(-2.0, 2.0))
def test_in_a_world_that_stays_as_it_is_what_is_allowed_is_spent(
    start: float, elasticity: float, scale: float
) -> None:
    """The share that is spent is a power of the price; a request a second, 2 % allowed."""
    controller, spent, carried, allowed = Controller(0.05 * exp(start)), 0.0, 0.0, 0.02
    for second in range(60_000):
        chance = min(allowed * (controller.told / (0.05 * exp(scale))) ** elasticity, 1.0)
        carried += chance
        counts = carried >= 1.0
        carried -= counts
        spent += counts if second >= 30_000 else 0
        controller.tell(1_000.0 * second, allowed, float(counts))
    assert spent / 30_000 == pytest.approx(allowed, rel=0.1)
    assert log(controller.told) == pytest.approx(log(0.05) + scale, abs=0.35)


@pytest.mark.parametrize("breaking", [0.0, 0.4, 1.0])
def test_a_window_costs_what_its_replay_does(breaking: float) -> None:
    trace = generate("azure", apps=12, days=0.5, requests=4_000, seed=5)
    broke = np.random.default_rng(5).random(len(trace)) < breaking
    trace = replace(trace, status_code=np.where(broke, 500, 200))
    result = replay(trace, Fixed(300.0), create_ms=300.0)
    window, firsts_s = Window(300_000.0), 0.0
    done_ms = trace.arrival_ms + result.wait_ms + trace.duration_ms
    for row in done_ms.argsort(kind="stable").tolist():
        app = trace.apps[int(trace.app[row])]
        waits_ms = window.served(
            *(app.key, app.memory_mb, 300.0 + app.init_ms),
            *(float(trace.arrival_ms[row]), float(trace.duration_ms[row])),
            broke=bool(broke[row]),
        )
        firsts_s += 0.0 if waits_ms is not None else (300.0 + app.init_ms) / 1e3
    waited_s = window.waited_ms / 1e3 + firsts_s
    assert waited_s == pytest.approx(result.wait_ms.sum() / 1e3, rel=0.03)


def _busy(steered: Steering, hours: float = 2.0, share_cold: float = 0.05) -> None:
    """A request a second by turns warm and, so many of them, cold."""
    pool = Pool("app", 1024, 2_000.0)
    instance = Instance("i", pool, 0.0)
    steered.started(1.0, instance)
    carried = 0.0
    for second in range(int(hours * 3_600)):
        now_ms = 1_000.0 * second + 1.0
        carried += share_cold
        cold = carried >= 1.0
        carried -= cold
        instance.taken_ms = now_ms + (2_000.0 if cold else 0.0)
        wait = Wait(now_ms, instance.taken_ms) if cold else None
        steered.done(instance.taken_ms + 100.0, instance, wait)


@pytest.mark.parametrize(
    "words", ["safe", "score", "cold-starts=1%", "wait-p99=500ms", "memory=2GB"]
)
def test_another_process_goes_on_where_one_was(words: str) -> None:
    objective = parse(words)
    first, second = steering(objective, 0.03), steering(objective, 0.5)
    assert first is not None
    assert second is not None
    _busy(first)
    second.restore(first.state())
    # It is told at once; another one may be off by the share that is not told yet.
    assert second.price.s_per_gb_s == pytest.approx(first.price.s_per_gb_s, rel=0.06)
    assert second.controller.log_price == first.controller.log_price
    assert (second.used, second.requests) == (first.used, first.requests)
    # Another objective's account is nobody's business; what cannot be changes nothing.
    other = steering(parse("memory=3GB"), 0.5)
    assert other is not None
    other.restore(first.state())
    assert (other.requests, other.price.s_per_gb_s) == (0.0, 0.5)
    good = json.loads(first.state())
    bad = [b"", b"[]", b'{"objective": "safe"}', first.state()[:-5]]
    bad.append(json.dumps(good | {"numbers": good["numbers"] | {"log_price": 99.0}}).encode())
    bad.append(json.dumps(good | {"numbers": good["numbers"] | {"requests": -1.0}}).encode())
    for each in bad:
        with pytest.raises(ValueError, match=r"is no state|cannot be"):
            second.restore(each)
    assert second.requests == first.requests


def test_a_price_of_before_is_held_to_the_limits_of_now() -> None:
    """Other limits held when its account was written: it goes on, at the nearest price."""
    first, second = steering(parse("safe"), 0.03), steering(parse("safe"), 0.03)
    assert first is not None
    assert second is not None
    state = json.loads(first.state())
    for log_price, held in ((log(8.7), CHEAPEST_SECOND), (log(2e-5), DEAREST_SECOND)):
        state["numbers"]["log_price"] = log_price
        second.restore(json.dumps(state).encode())
        assert second.price.s_per_gb_s == pytest.approx(held)


def test_cold_starts_beyond_what_is_allowed_make_memory_cheaper() -> None:
    many, few = (steering(parse("cold-starts=1%"), 0.03) for _ in range(2))
    assert many is not None
    assert few is not None
    _busy(many, share_cold=0.05)
    _busy(few, share_cold=0.001)
    assert many.price.s_per_gb_s < 0.03 < few.price.s_per_gb_s
    assert many.used == pytest.approx(5.0, rel=0.2)
    assert few.used == pytest.approx(0.1, rel=0.2)


def test_where_the_price_cannot_help_memory_is_bounded() -> None:
    """Every request waits, whatever is kept."""
    steered = steering(parse("cold-starts=1%"), 0.03)
    assert steered is not None
    _busy(steered, hours=4.0, share_cold=1.0)
    assert steered.price.s_per_gb_s == pytest.approx(DEAREST_SECOND)


def test_people_are_not_made_to_wait_for_next_to_nothing() -> None:
    """Nobody waits, and the window would have made many wait: even so a GB·s has its highest price."""
    steered = steering(parse("safe"), 0.03)
    assert steered is not None
    pool = Pool("app", 1024, 2_000.0)
    instance = Instance("i", pool, 0.0)
    steered.started(0.0, instance)
    for number in range(500):
        instance.taken_ms = 400_000.0 * number
        steered.done(instance.taken_ms + 100.0, instance, None)
    assert isinstance(steered, StaysSafe)
    assert steered.window.starts > 400
    assert steered.price.s_per_gb_s == pytest.approx(CHEAPEST_SECOND)


def test_a_request_that_waits_for_a_busy_instance_is_no_cold_start() -> None:
    """One instance, two requests at once under late binding: the second waits for the first."""
    steered = steering(parse("cold-starts=1%"), 0.03)
    assert steered is not None
    pool = Pool("app", 128, 1_000.0)
    instance = Instance("i", pool, 0.0)
    steered.started(0.0, instance)
    for wait in (Wait(0.0, 1_000.0), Wait(500.0, 1_500.0, queued=True), None):
        steered.done(2_000.0, instance, wait)
    assert (steered.requests, steered.starts, steered.queued) == (3.0, 1.0, 1.0)


def test_the_price_that_is_told_stays_and_the_models_objective_is_the_default() -> None:
    assert Learned(Model(), 0.03).watcher is None
    assert Learned(Model(), 0.03).objective == at_price(0.03)
    assert Learned(Model(price_s_per_gb_s=0.02)).price == 0.02
    moved = Learned(Model(price_s_per_gb_s=0.02, objective=Objective(parse("safe").kind)))
    assert isinstance(moved.steering, StaysSafe)
    assert moved.price == pytest.approx(0.02)


def test_nobody_waits_longer_than_under_the_window_and_less_memory_is_held() -> None:
    trace = generate("azure", apps=12, days=1.0, requests=8_000, seed=5)
    safe = replay(trace, Learned(Model(objective=parse("safe"))), create_ms=300.0)
    fixed = replay(trace, Fixed(300.0), create_ms=300.0)
    assert safe.wait_ms.sum() <= fixed.wait_ms.sum()
    assert _held(trace, safe) < _held(trace, fixed)


@pytest.mark.parametrize("words", ["cold-starts=0.1%", "wait-p99.9=10ms"])
def test_what_no_price_in_the_limits_meets_costs_what_the_lowest_does(words: str) -> None:
    """Up to sixty at once, a quarter of an hour apart, starts of 20 s: at a lower price all sixty stay."""
    chance, at_ms = Random(1), 0.0
    calls: list[tuple[int, int, int]] = []
    while (at_ms := at_ms + chance.expovariate(1.0 / 900_000.0)) < 28_800_000.0:
        burst = chance.choice((1, 20, 60))
        calls += [(int(at_ms + chance.uniform(0.0, 3_000.0)), 0, 50) for _ in range(burst)]
    trace = trace_of(calls, memory_mb=(1_024,), init_ms=20_000)

    def held_by(policy: Learned) -> float:
        return _held(trace, replay(trace, policy, create_ms=300.0))

    steered = held_by(Learned(Model(), objective=parse(words)))
    assert steered <= held_by(Learned(Model(), DEAREST_SECOND)) * 1.01
    assert steered < held_by(Learned(Model(), LOW)) * 0.8


def _held(trace: Trace, result: Replay) -> float:
    """MB·ms of slots."""
    lives = ((each.destroyed_ms - each.created_ms, each.app) for each in result.slots)
    return float(sum(lived_ms * trace.apps[app].memory_mb for lived_ms, app in lives))
