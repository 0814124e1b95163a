"""The duel: FeMux's measure, every policy at its cheapest setting, and what stands beside the cost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_evaluate import scaler
from tests.traces import trace_of
from warmscaler.cli.duel import HEADINGS, cells, verdict
from warmscaler.data.read import write_trace
from warmscaler.data.trace import Trace
from warmscaler.models.registry import make_policy
from warmscaler.simulator.figures import figures
from warmscaler.simulator.replay import replay
from warmscaler.training.evaluating.duel import (
    PRICES,
    START_MS,
    Duel,
    by_protocol,
    duel,
    others,
)
from warmscaler.training.evaluating.evaluate import window

FAMILIES = [
    "fixed",
    "hybrid-histogram",
    "knative",
    "greedy-dual",
    "cidre",
    "femux",
    "icebreaker",
    "spes",
    "learned",
]


@pytest.fixture(scope="module")
def trace() -> Trace:
    rng = np.random.default_rng(3)
    rows = [(k * 120_000 + 7_000, 0, 400) for k in range(30)]
    rows += [(int(at), 1, 900) for at in np.cumsum(rng.exponential(18_000, 180))]
    return trace_of(rows, memory_mb=[128, 256])


@pytest.fixture(scope="module")
def found(trace: Trace) -> Duel:
    return duel(window(trace, 0.5))


def test_every_policy_is_there_and_ours_last(found: Duel) -> None:
    assert [each.family for each in found.contenders] == FAMILIES
    assert [entry.setting.price for entry in found.contenders[-1].best] == list(PRICES)


def test_every_start_takes_the_protocols_time(trace: Trace) -> None:
    played = by_protocol(window(trace, 0.5)).trace
    result = replay(played, make_policy("fixed:0.001"), create_ms=START_MS)
    alone = result.wait_ms[np.diff(played.arrival_ms, prepend=-1e9) > 5_000]
    assert set(alone.tolist()) == {float(START_MS)}


def test_each_stands_at_its_cheapest_setting(trace: Trace, found: Duel) -> None:
    part = by_protocol(window(trace, 0.5))
    fixed = [each for each in others(part.trace) if each.family == "fixed"]
    known = [
        figures(
            part.trace,
            replay(part.trace, make_policy(each.policy), create_ms=START_MS),
            part.split_ms,
        )
        for each in fixed
    ]
    for at, price in enumerate(PRICES):
        cheapest = min(each.wait_s + price * each.wasted_gb_s for each in known)
        assert found.contenders[0].cost_s(at) == pytest.approx(cheapest)
        rest = [each.cost_s(at) for each in found.contenders[:-1]]
        assert found.rival(at).cost_s(at) == min(rest)
        assert found.ratio(at) == pytest.approx(found.contenders[-1].cost_s(at) / min(rest))


def test_idle_time_is_told_whatever_the_memory(trace: Trace, found: Duel) -> None:
    part = by_protocol(window(trace, 0.5))
    best = found.contenders[0].best[0]
    result = replay(part.trace, make_policy(best.setting.policy), create_ms=START_MS)
    there_ms = sum(
        max(slot.destroyed_ms - max(slot.created_ms, part.split_ms), 0.0) for slot in result.slots
    )
    executed_ms = part.trace.duration_ms[part.trace.arrival_ms >= part.split_ms].sum()
    assert best.idle_hours == pytest.approx((there_ms - executed_ms) / 3_600_000.0)
    assert best.decision_us > 0.0


def test_a_row_a_policy_and_a_verdict(found: Duel) -> None:
    rows = list(cells(found))
    assert [row[0] for row in rows] == FAMILIES
    assert all(len(row) == len(HEADINGS) + 1 for row in rows)
    assert verdict(found).count("against") == len(PRICES)


def test_as_a_user_runs_it(trace: Trace, found: Duel, tmp_path: Path) -> None:
    path = tmp_path / "small.parquet"
    write_trace(trace, path)
    run = scaler("evaluate", path, "--protocol", "femux", "--jobs", "1", "--json")
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert [each["policy"] for each in told["policies"]] == FAMILIES
    for at in range(len(PRICES)):
        assert told["policies"][0]["at"][at]["cost_s"] == found.contenders[0].cost_s(at)
    assert {each["rival"] for each in told["ratios"]} <= set(FAMILIES[:-1])


@pytest.mark.parametrize(
    "more", [["femux", "--price", "0.1"], ["femux", "--create-ms", "1"], ["nobody"]]
)
def test_what_it_has_no_place_for_is_refused(more: list[str], tmp_path: Path) -> None:
    run = scaler("evaluate", tmp_path, "--protocol", *more)
    assert run.returncode == 2
    assert len(run.stderr.strip().splitlines()) == 1
