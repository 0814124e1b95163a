"""The price to begin with: that of a policy that knows its apps, within the limits of the objective."""

from __future__ import annotations

from random import Random

import pytest

from tests.traces import trace_of
from warmscaler.data.trace import Trace
from warmscaler.models.learned.policy import Learned
from warmscaler.models.objectives.limits import limits_of
from warmscaler.models.objectives.words import parse
from warmscaler.models.policy import Policy
from warmscaler.models.published.fixed import Fixed
from warmscaler.simulator.figures import Figures, figures
from warmscaler.simulator.replay import CREATE_MS, replay
from warmscaler.training.evaluating.evaluate import window
from warmscaler.training.fitting.fit import fit
from warmscaler.training.fitting.price import best_price

HALF_AN_HOUR_MS = 1_800_000


def _half_an_hour() -> Trace:
    """An app of 16 GB with starts of 45 s and executions of 10 s, dozens at once."""
    chance = Random(1)
    calls: list[tuple[int, int, int]] = []
    at_ms = 0.0
    while (at_ms := at_ms + chance.expovariate(1.0 / 30_000.0)) < HALF_AN_HOUR_MS:
        for _ in range(chance.choice((5, 10, 20, 40))):
            arrival_ms = int(at_ms + chance.uniform(0.0, 2_000.0))
            calls.append((arrival_ms, 0, int(10_000.0 * chance.lognormvariate(0.0, 0.6)) + 1))
    return trace_of(calls, memory_mb=(16_384,), init_ms=45_000)


def test_a_quarter_of_an_hour_is_enough_to_hold_less_memory_than_a_window() -> None:
    """Where what was judged was the learning itself, the price found was so low that more was held."""
    part = window(_half_an_hour(), 0.5)

    def of(policy: Policy) -> Figures:
        return figures(part.trace, replay(part.trace, policy, create_ms=CREATE_MS), part.split_ms)

    model = fit(part.training, create_ms=CREATE_MS)
    safe, fixed = of(Learned(model)), of(Fixed(300.0))
    assert safe.wait_s <= fixed.wait_s
    assert safe.wasted_gb_s < fixed.wasted_gb_s


def test_for_the_score_it_is_where_the_price_goes_while_serving() -> None:
    part = window(_half_an_hour(), 0.5)
    model = fit(part.training, create_ms=CREATE_MS, objective=parse("score"))
    serves = Learned(model)
    replay(part.trace, serves, create_ms=CREATE_MS)
    assert 1.0 / 1.5 < serves.price / model.price_s_per_gb_s < 1.5


@pytest.mark.parametrize("words", ["safe", "score", "cold-starts=0.001%", "wait-p99.9=1ms"])
def test_it_is_within_the_limits_of_the_objective(words: str) -> None:
    """Also where no price meets it, and where nothing came before what is judged."""
    objective = parse(words)
    low, high = limits_of(objective)
    rare = [(600_000 * number, 0, 50) for number in range(60)]
    for calls in (rare, rare[:2], rare[:1]):
        trace = trace_of(calls, memory_mb=(128,), init_ms=10_000)
        assert low <= best_price(trace, objective, CREATE_MS, 1, None) <= high


def test_memory_that_is_allowed_and_spares_nobody_waiting_is_not_held() -> None:
    every_minute = [(1_700_000_000_000 + 60_000 * k + 20 * (k % 7), 0, 200) for k in range(200)]
    found = best_price(trace_of(every_minute), parse("memory=100GB"), CREATE_MS, 1, None)
    assert found > 0.01
