"""The yardstick: our cost at each price against the cheapest of the others in hindsight."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_evaluate import scaler
from tests.traces import trace_of
from warmscaler.data.read import write_trace
from warmscaler.data.trace import Trace
from warmscaler.training.evaluating.evaluate import Window, evaluate, train, window
from warmscaler.training.evaluating.frontier import (
    Frontier,
    against,
    cost_s,
    frontier,
    rivals,
)


@pytest.fixture(scope="module")
def trace() -> Trace:
    rng = np.random.default_rng(3)
    rows = [(k * 60_000, 0, 400) for k in range(40)]
    rows += [(int(at), 1, 900) for at in np.cumsum(rng.exponential(9_000, 200))]
    return trace_of(rows, memory_mb=[128, 256])


@pytest.fixture(scope="module")
def found(trace: Trace) -> tuple[Window, Frontier]:
    part = window(trace, 0.5)
    model = train(part, create_ms=300.0, jobs=1)
    return part, frontier(part, model, create_ms=300.0, prices=(0.1, 0.001))


def test_the_rival_is_the_cheapest_of_all_settings_replayed_by_themselves(
    found: tuple[Window, Frontier],
) -> None:
    part, of = found
    measured = list(evaluate(part, rivals(part.trace), create_ms=300.0))
    assert [point.price for point in of.points] == [0.001, 0.1]
    for point in of.points:
        costs = {m.setting.policy: cost_s(m.figures, point.price) for m in measured}
        assert point.rival.policy == min(costs, key=costs.__getitem__)
        assert point.ratio == pytest.approx(cost_s(point.ours, point.price) / min(costs.values()))


def test_every_other_policy_is_there_and_greedy_dual_from_an_eighth_of_the_fleet(
    trace: Trace,
) -> None:
    settings = rivals(trace)
    assert len(settings) == len({each.policy for each in settings}) == 10 + 6 + 5 + 7
    capacities = [each.knob_value for each in settings if each.family == "greedy-dual"]
    fleet_gb = 384 / 1024
    expected = [fleet_gb * 2.0**power for power in range(-3, 4)]
    np.testing.assert_allclose(np.array(capacities, dtype=float), expected, rtol=0.02)


def test_monotone_says_where_waste_rises_or_waiting_falls(found: tuple[Window, Frontier]) -> None:
    part, of = found
    first = of.points[0].ours
    known = [first]

    def curve(*points: tuple[float, float]) -> Frontier:
        prices = (0.001, 0.003, 0.01)
        return Frontier(
            "by hand",
            tuple(
                against(
                    price,
                    replace(first, wasted_gb_s=waste, wait_s=wait),
                    rivals(part.trace)[:1],
                    known,
                )
                for price, (waste, wait) in zip(prices, points, strict=False)
            ),
        )

    assert curve((100, 10), (50, 20), (25, 40)).monotone
    assert curve((100, 10), (101, 9.9), (101, 9.9)).monotone  # within the slack
    assert curve((100, 10), (50, 20), (60, 30)).waste_rises == pytest.approx(0.2)
    # against the lowest before, not only the neighbour
    assert curve((100, 20), (100, 10), (100, 15)).waiting_falls == pytest.approx(0.5)


def test_the_command_prints_a_row_or_one_object(trace: Trace, tmp_path: Path) -> None:
    path = tmp_path / "small.parquet"
    write_trace(trace, path)
    run = scaler("evaluate", path, "--frontier", "--json", "--jobs", "1")
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    assert len(result["points"]) == 7
    assert result["worst"] == max(point["ratio"] for point in result["points"])
    refused = scaler("evaluate", path, "--frontier", "--policy", "fixed:60")
    assert refused.returncode == 2
    assert "--frontier" in refused.stderr
