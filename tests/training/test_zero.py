"""Start-up times of nothing and the ends of the price's range: everything works there too."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.service.running import assign, done, served
from tests.traces import trace_of
from warmscaler.data.trace import Trace
from warmscaler.models.artifact.validity import check_model
from warmscaler.models.learned.habits import Model
from warmscaler.models.learned.plan import Prior, plan, spread
from warmscaler.models.learned.policy import Learned
from warmscaler.models.objectives.price import MAX_PRICE, MIN_PRICE
from warmscaler.simulator.replay import replay
from warmscaler.training.advising.search import find_advice
from warmscaler.training.evaluating.evaluate import measure, window
from warmscaler.training.evaluating.settings import DEFAULT_POLICIES, MADE_LATER, chosen, sweep
from warmscaler.training.fitting.fit import fit


@pytest.fixture(scope="module")
def sudden() -> Trace:
    """An hour and more of two apps that start in no time, some requests of which take none."""
    chance, at_ms, rows = Random(1), 1_700_000_000_000, []
    for _ in range(800):
        at_ms += int(chance.expovariate(1 / 5_000))
        rows.append((at_ms, chance.randrange(2), chance.choice((0, 5, 300, 9_000))))
    return trace_of(rows, memory_mb=(128, 1), init_ms=0)


def test_starts_that_take_no_time_are_trained_on_and_measured(sudden: Trace) -> None:
    part = window(sudden, 0.5)
    model = fit(part.training, create_ms=0.0)
    check_model(model)
    assert model.start_ms == 0.0
    for setting in sweep(chosen(DEFAULT_POLICIES), sudden):
        if setting.policy in MADE_LATER:
            continue
        waited_s = measure(part, setting, 0.0, model).figures.wait_s
        # Of these only: others let requests wait for an instance that is about to be free.
        if setting.family in ("fixed", "reference"):
            assert waited_s == 0.0


@pytest.mark.filterwarnings("error")
def test_advice_for_an_app_does_not_hang_on_one_that_starts_in_no_time() -> None:
    rows = [(n * 20_000, n % 2, 100) for n in range(400)]
    both = trace_of(rows, memory_mb=(128, 128), init_ms=2_000)
    sudden = replace(both.apps[0], init_ms=0)
    beside = find_advice(replace(both, apps=(sudden, both.apps[1])), price=0.05, create_ms=0.0)
    alone = find_advice(
        trace_of([row for row in rows if row[1]], memory_mb=(128, 128), init_ms=2_000),
        price=0.05,
        create_ms=0.0,
    )
    key = both.apps[1].key
    assert beside.apps[key].keep_ms == alone.apps[key].keep_ms > 0.0
    assert beside.apps[sudden.key].keep_ms == 0.0


@pytest.mark.parametrize("price", [MIN_PRICE, MAX_PRICE])
@pytest.mark.parametrize(("create_ms", "init_ms"), [(0.0, 0), (300.0, 1_000)])
def test_the_ends_of_the_price(price: float, create_ms: float, init_ms: int) -> None:
    rows = [(n * 7_000, n % 2, (n * 911) % 9_000) for n in range(300)]
    trace = trace_of(rows, memory_mb=(1, 1 << 24), init_ms=init_ms)
    result = replay(trace, Learned(Model(), price), create_ms=create_ms)
    assert np.isfinite(result.wait_ms).all()


@given(
    gaps_ms=st.lists(st.floats(0.0, 1e9), min_size=1, max_size=40),
    gap_ms=st.floats(0.0, 1e9),
    hold=st.floats(1e-9, 1e9),
)
def test_a_plan_for_starts_that_take_no_time(
    gaps_ms: list[float], gap_ms: float, hold: float
) -> None:
    prior = Prior(Model().prior_ms, 0.2)
    points = spread(np.array(gaps_ms), np.ones(len(gaps_ms)))
    made = plan(*points, prior, hold_cost=hold, miss_cost=0.0, start_ms=0.0)
    assert made.cost_of(gap_ms, 0.0, min(500.0, gap_ms), hold, 0.0) >= 0.0


def test_it_serves_too() -> None:
    async def run() -> None:
        async with served(Learned(Model()), init_ms=0.0, create_ms=0.0) as here:
            for number in range(5):
                reply = await here.stub.Assign(assign(str(number)))
                await here.stub.Idle(done(reply.assigment, need_destroy=number % 2 == 0))

    asyncio.run(run())
