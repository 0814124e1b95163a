"""What is learned of an app does not depend on who served it, and a dearer GB·s is used less."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.traces import trace_of
from warmscaler.data.trace import Trace
from warmscaler.models.learned.app import LearnedApp
from warmscaler.models.learned.habits import Model
from warmscaler.models.learned.policy import Learned
from warmscaler.models.learned.traffic import Traffic
from warmscaler.models.policy import Wait
from warmscaler.service.scheduler.actions import Actions
from warmscaler.service.scheduler.scheduler import Scheduler
from warmscaler.simulator.figures import figures
from warmscaler.simulator.replay import replay
from warmscaler.training.fitting.habits import app_habits

PRICES = (0.0001, 0.001, 0.01, 0.1)
SLACK = 0.02
LONG_MS = 200_000.0


def bursts(seed: int, *, calls: int, use_ms: int) -> Trace:
    """Bursts of one app, minutes apart."""
    chance, at_ms = Random(seed), 1_700_000_000_000
    rows: list[tuple[int, int, int]] = []
    while len(rows) < calls:
        at_ms += int(chance.expovariate(1 / 90_000))
        for _ in range(chance.randint(1, 12)):
            at_ms += int(chance.expovariate(1 / max(use_ms, 50)))
            rows.append((at_ms, 0, max(int(chance.expovariate(1 / use_ms)), 1)))
    return trace_of(rows, memory_mb=(512,), init_ms=0)


@given(seed=st.integers(0, 10_000), create_ms=st.sampled_from([0.0, 400.0, 20_000.0]))
@settings(max_examples=12, deadline=None)
def test_levels_are_the_same_offline_and_online_however_long_requests_waited(
    seed: int, create_ms: float
) -> None:
    trace = bursts(seed, calls=120, use_ms=700)
    scheduler = Scheduler(Learned(Model(), price=0.02))
    replay(trace, scheduler.policy, create_ms=create_ms, make_scheduler=lambda _: scheduler)
    (pool,) = scheduler.pools.values()
    policy = pool.policy
    assert isinstance(policy, LearnedApp)
    told = app_habits(trace.apps[0], trace.arrival_ms, trace.duration_ms, create_ms)
    assert len(policy.levels) >= len(told.levels)
    for online, offline in zip(policy.levels, told.levels, strict=False):
        seen, known = set(online.gaps), set(offline.gaps_ms.tolist())
        assert seen <= known
        # Shorter ones are not remembered online where the instance was kept for longer anyway.
        assert {gap for gap in known if gap > LONG_MS} <= seen


def test_who_waited_is_told_when_it_would_have_been_done() -> None:
    traffic = Traffic()
    assert list(traffic.arrived(0.0, waits=True)) == [(0.0, 1, True)]
    assert list(traffic.arrived(5_000.0, waits=True)) == []  # the first may be done by then
    assert list(traffic.served(10_000.0, 0.0)) == []
    told = list(traffic.completed(10_100.0, Wait(0.0, 10_000.0)))
    assert told == [(100.0, 1, False), (5_000.0, 1, True)]
    assert list(traffic.gone(11_000.0, 5_000.0)) == [(5_001.0, 1, False)]
    assert not traffic.behind
    assert traffic.at_once == 0


def test_who_waited_a_while_and_executes_for_long_holds_back_that_while() -> None:
    traffic = Traffic()
    assert list(traffic.arrived(0.0, waits=True)) == [(0.0, 1, True)]
    assert list(traffic.served(1_000.0, 0.0)) == []
    assert list(traffic.arrived(60_000.0, waits=False)) == []
    assert list(traffic.completed(61_500.0, None)) == [(60_000.0, 2, True)]
    assert list(traffic.known(62_501.0)) == [(61_500.0, 2, False)]
    assert traffic.behind
    assert list(traffic.completed(90_000.0, Wait(0.0, 1_000.0))) == [(89_000.0, 1, False)]
    assert not traffic.behind


@given(seed=st.integers(0, 10_000))
@settings(max_examples=6, deadline=None)
def test_an_instance_behind_executions_of_hours_is_asked_about_as_often_as_any(seed: int) -> None:
    chance, at_ms = Random(seed), 1_700_000_000_000
    rows: list[tuple[int, int, int]] = []
    for _ in range(80):
        at_ms += int(chance.expovariate(1 / 600_000))
        rows.append((at_ms, 0, max(int(chance.lognormvariate(15.0, 0.8)), 1)))
    asked = 0

    class Counting(Scheduler):
        def wake(self, now_ms: float) -> Actions:
            nonlocal asked
            asked += 1
            return super().wake(now_ms)

    trace = trace_of(rows, memory_mb=(2_048,), init_ms=20_000)
    replay(trace, Learned(Model(), price=0.03), create_ms=300.0, make_scheduler=Counting)
    assert asked < 12 * len(rows)


@pytest.mark.parametrize("start_s", [0, 1, 20, 120])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_dearer_gb_s_wastes_no_more_and_lets_requests_wait_no_less(
    start_s: int, seed: int
) -> None:
    trace = bursts(seed, calls=1_500, use_ms=2_000)
    split_ms = trace.split_ms(0.5)
    found = [
        figures(
            trace, replay(trace, Learned(Model(), price), create_ms=1_000.0 * start_s), split_ms
        )
        for price in PRICES
    ]
    for cheap, dear in pairwise(found):
        assert dear.wasted_gb_s <= cheap.wasted_gb_s * (1.0 + SLACK)
        assert dear.wait_s >= cheap.wait_s * (1.0 - SLACK)
