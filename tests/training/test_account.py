"""The account adds up to the figures, and tells its parts apart."""

from __future__ import annotations

import numpy as np
import pytest

from tests.traces import trace_of
from warmscaler.data.generate import generate
from warmscaler.data.trace import Trace
from warmscaler.models.learned.habits import Model
from warmscaler.models.learned.policy import Learned
from warmscaler.models.policy import Policy
from warmscaler.models.published.fixed import Fixed
from warmscaler.simulator.figures import figures
from warmscaler.simulator.replay import replay
from warmscaler.training.evaluating.account import account, clairvoyant_cost, hindsight_cost, spells
from warmscaler.training.evaluating.calibration import calibration

CREATE_MS = 300.0


@pytest.fixture(scope="module")
def population() -> Trace:
    return generate("azure", apps=12, days=0.2, requests=6_000, seed=5)


@pytest.mark.parametrize("policy", [Fixed(60.0), Fixed(600.0), Learned(Model())])
@pytest.mark.parametrize("split", [0.0, 0.5])
def test_the_parts_are_the_whole(population: Trace, policy: Policy, split: float) -> None:
    result = replay(population, policy)
    split_ms = population.split_ms(split)
    told = figures(population, result, split_ms)
    of = account(population, result, split_ms, price=0.05, create_ms=CREATE_MS)
    # An execution that runs across the split is slot time before it and no execution after it.
    across = split > 0.0
    assert of.total.sum() == pytest.approx(
        0.05 * told.wasted_gb_s + told.wait_s, rel=0.02 if across else 1e-9
    )
    assert all(np.all(getattr(of, part) >= 0.0) for part in of.__dataclass_fields__)


def test_each_part_by_hand() -> None:
    # Starts take 1 s. A gap of 2 s is kept through; one of 60 s is not; then two come at once.
    trace = trace_of([(0, 0, 500), (3_500, 0, 500), (64_000, 0, 5_000), (64_100, 0, 500)])
    result = replay(trace, Fixed(10.0), create_ms=CREATE_MS)
    of = account(trace, result, 0.0, price=8.0, create_ms=CREATE_MS)  # 1 s of 128 MB is 1 s
    assert of.kept_used.sum() == pytest.approx(2.0)
    assert of.wait_first.sum() == pytest.approx(2.0)  # the very first, and the first second one
    assert of.wait_none.sum() == pytest.approx(1.0)  # released after 10 s
    assert of.starting.sum() == pytest.approx(3.0)
    assert of.kept_unused.sum() == pytest.approx(10.0 + 4.4)  # to its end; to the trace's end
    assert of.prewarmed_used.sum() == of.prewarmed_unused.sum() == 0.0
    assert of.wait_busy.sum() == of.wait_starting.sum() == 0.0


def test_spells_do_not_overlap(population: Trace) -> None:
    result = replay(population, Learned(Model()))
    idle = spells(population, result, CREATE_MS)
    assert np.all(idle.to_ms >= idle.from_ms)
    order = np.lexsort((idle.from_ms, idle.slot))
    same = idle.slot[order][1:] == idle.slot[order][:-1]
    assert np.all(idle.from_ms[order][1:][same] >= idle.to_ms[order][:-1][same])


def test_bounds(population: Trace) -> None:
    split_ms = population.split_ms(0.5)
    clairvoyant = clairvoyant_cost(population, split_ms, price=0.05, create_ms=CREATE_MS)
    hindsight = hindsight_cost(population, split_ms, price=0.05, create_ms=CREATE_MS)
    assert 0.0 < clairvoyant.sum() < hindsight.sum()


def test_a_clock_is_forecast_and_noise_is_calibrated() -> None:
    rng = np.random.default_rng(3)
    clockwork = [(60_000 * n, 0, 10) for n in range(600)]
    arrivals = np.cumsum(rng.exponential(60_000.0, 600)).astype(np.int64).tolist()
    trace = trace_of(clockwork + [(at, 1, 10) for at in arrivals], memory_mb=[128, 128])
    of = calibration(trace, trace.split_ms(0.5), Model())
    assert of.forecasts.sum() > 1_000
    assert of.error < 0.06
