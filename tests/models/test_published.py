"""The published policies do what their papers say, on traces small enough to reckon by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.traces import trace_of
from warmscaler.data.trace import Trace
from warmscaler.models.policy import Policy
from warmscaler.models.published.cidre import Cidre
from warmscaler.models.published.greedy_dual import GreedyDual
from warmscaler.models.published.hybrid_histogram import HybridHistogram
from warmscaler.models.published.knative import Knative
from warmscaler.models.registry import KNOWN, PolicyError, make_policy
from warmscaler.simulator.replay import Replay, replay

MINUTE_MS = 60_000
START_MS = 1_000
"""create_ms 300 and the 700 ms of init that `trace_of` gives."""


def periodic(period_ms: int, count: int, duration_ms: int = 100) -> Trace:
    return trace_of([(k * period_ms, 0, duration_ms) for k in range(count)])


def test_hybrid_histogram_unloads_and_loads_a_clockwork_app_again() -> None:
    result = replay(periodic(10 * MINUTE_MS, 30), HybridHistogram())
    assert not result.cold[1:].any()
    later = [slot for slot in result.slots if slot.created_ms > 15 * 10 * MINUTE_MS]
    # Idle times of 9.998 min are in the bin [9, 10): loaded 8.1 min after the execution.
    first = later[0]
    since_execution_ms = (first.created_ms + START_MS - 100) % (10 * MINUTE_MS)
    assert since_execution_ms == pytest.approx(8.1 * MINUTE_MS, abs=500)  # start as learned
    assert first.destroyed_ms % (10 * MINUTE_MS) == pytest.approx(100)


def test_hybrid_histogram_keeps_for_its_range_while_it_knows_little() -> None:
    result = replay(periodic(200 * MINUTE_MS, 5), HybridHistogram())
    assert list(result.cold) == [True, False, False, False, False]
    result = replay(periodic(30 * MINUTE_MS, 5), HybridHistogram(range_minutes=20))
    assert result.cold.all()


def test_hybrid_histogram_forecasts_idle_times_beyond_its_range() -> None:
    result = replay(periodic(60 * MINUTE_MS, 30), HybridHistogram(range_minutes=20))
    assert result.cold[:11].all()
    assert not result.cold[12:].any()


def most_memory_mb(trace: Trace, result: Replay) -> int:
    changes = sorted(
        (at_ms, sign * trace.apps[slot.app].memory_mb)
        for slot in result.slots
        for at_ms, sign in ((slot.created_ms, 1), (slot.destroyed_ms, -1))
    )
    return int(np.cumsum([change for _, change in changes]).max())


def test_greedy_dual_keeps_to_its_capacity_and_fills_it() -> None:
    rng = np.random.default_rng(3)
    rows = [(int(at), int(app), 50) for at, app in zip(
        np.arange(400) * 10_000, rng.integers(0, 12, 400), strict=True)]  # fmt: skip
    trace = trace_of(rows, memory_mb=[128] * 12)
    assert most_memory_mb(trace, replay(trace, GreedyDual(1.0))) == 1024
    whole = replay(trace, GreedyDual(1.5))
    assert whole.cold.sum() == 12


def test_greedy_dual_evicts_the_seldom_used_and_the_large_first() -> None:
    # Room for 512 MB: app 0 is called often, app 1 once, then app 2 needs room.
    rows = [(k * 10_000, 0, 50) for k in range(10)] + [(95_000, 1, 50), (110_000, 2, 50)]
    again = [(130_000, 0, 50), (150_000, 1, 50)]
    trace = trace_of(rows + again, memory_mb=[256, 256, 256])
    cold = replay(trace, GreedyDual(0.5)).cold
    assert not cold[-2]
    assert cold[-1]
    # Used as often, the large one goes.
    rows = [(0, 0, 50), (10_000, 1, 50), (20_000, 2, 50), (30_000, 0, 50), (40_000, 1, 50)]
    trace = trace_of(rows, memory_mb=[128, 384, 128])
    assert list(replay(trace, GreedyDual(0.5)).cold) == [True, True, True, False, True]


def test_greedy_dual_serves_what_does_not_fit() -> None:
    trace = trace_of([(0, 0, 60_000), (1_000, 1, 60_000)], memory_mb=[512, 512])
    result = replay(trace, GreedyDual(0.25))
    assert list(result.wait_ms) == [START_MS, START_MS]


def test_knative_scales_to_zero_after_its_window_and_grace() -> None:
    trace = trace_of([(10_000, 0, 500), (400_000, 0, 500)])
    result = replay(trace, Knative())
    # One request at once is more than 70 % of an instance: Knative wants two.
    let_go_ms = sorted(slot.destroyed_ms for slot in result.slots if slot.created_ms < 100_000)
    ended_ms = 10_000 + START_MS + 500
    # The second when the panic is over, at a tick; the last after the grace.
    assert let_go_ms[0] - ended_ms == pytest.approx(60_000, abs=2_000)
    assert let_go_ms[1:] == [ended_ms + 90_000]
    assert list(result.cold) == [True, True]


def test_knative_panics_for_a_burst_and_lets_go_after_it() -> None:
    steady = [(k * 1_000, 0, 200) for k in range(120)]
    burst = [(120_000 + k * 100, 0, 5_000) for k in range(60)]
    late = [(420_000, 0, 200), (421_000, 0, 200)]
    result = replay(trace_of(steady + burst + late), Knative())
    in_burst = [s for s in result.slots if 120_000 <= s.created_ms < 130_000]
    assert len(in_burst) >= 40
    assert all(slot.destroyed_ms < 330_000 for slot in in_burst)


def starts_without_use(last_ms: int) -> list[tuple[int, int, int]]:
    """A start that raced a busy instance and was not needed for seconds after; then three at once,
    each for `last_ms`."""
    apart = [(0, 0, 100), (5_000, 0, 100), (5_010, 0, 100), (10_000, 0, 100)]
    return apart + [(20_000 + k * 10, 0, last_ms) for k in range(3)]


def test_cidre_races_a_start_against_a_busy_instance() -> None:
    result = replay(trace_of(starts_without_use(100)[:4]), Cidre(8.0))
    assert list(result.wait_ms) == [START_MS, 0.0, 90.0, 0.0]
    assert [slot.created_ms for slot in result.slots] == [0.0, 5_010.0]


def test_cidre_waits_for_a_busy_instance_where_starts_were_not_used() -> None:
    result = replay(trace_of(starts_without_use(100)), Cidre(8.0))
    assert result.cold[-1]
    assert result.wait_ms[-1] == 80.0
    assert len(result.slots) == 2


def test_cidre_starts_again_once_waiting_takes_longer_than_a_start() -> None:
    rows = [*starts_without_use(60_000), (25_000, 0, 60_000)]
    result = replay(trace_of(rows), Cidre(8.0))
    created_ms = sorted(slot.created_ms for slot in result.slots)
    # The third waits for what a start is believed to take; the fourth gets its start at once.
    assert created_ms[2] == pytest.approx(20_020 + START_MS, abs=500)
    assert created_ms[3] == 25_000
    assert result.wait_ms[-1] == START_MS


def test_cidre_evicts_from_the_app_that_has_many() -> None:
    burst = [(0, 0, 50)] * 3
    rows = [*burst, (10_000, 1, 50), (20_000, 1, 50), (30_000, 2, 50), (40_000, 1, 50)]
    trace = trace_of(rows, memory_mb=[128] * 3)
    assert not replay(trace, Cidre(0.5)).cold[-1]
    assert replay(trace, GreedyDual(0.5)).cold[-1]
    assert most_memory_mb(trace, replay(trace, Cidre(0.5))) == 512


@pytest.mark.parametrize(
    "policy",
    [HybridHistogram(), HybridHistogram(2), GreedyDual(0.4), Knative(), Knative(6), Cidre(0.4)],
)
def test_same_figures_twice_and_blind_to_the_future(policy: Policy) -> None:
    rng = np.random.default_rng(11)
    rows = [
        (int(at), int(app), int(duration))
        for at, app, duration in zip(
            np.cumsum(rng.exponential(4_000, 600)),
            rng.integers(0, 4, 600),
            rng.exponential(3_000, 600),
            strict=True,
        )
    ]
    memory_mb = [128, 192, 256, 64]
    whole = trace_of(rows, memory_mb=memory_mb)
    first = replay(whole, make_policy(policy.name))
    again = replay(whole, make_policy(policy.name))
    assert first.slots == again.slots
    half = int(whole.arrival_ms[300])
    changed = trace_of(rows[:300] + [(half + 7, 0, 1)] * 5, memory_mb=memory_mb)
    other = replay(changed, make_policy(policy.name))
    assert (first.cold[:300] == other.cold[:300]).all()
    settled = first.wait_ms[:300] + whole.arrival_ms[:300] < half
    assert (first.wait_ms[:300][settled] == other.wait_ms[:300][settled]).all()


@pytest.mark.parametrize("name", ["fixed:300", "reference", "hybrid-histogram:60", "knative"])
def test_policies_are_made_by_name(name: str) -> None:
    assert make_policy(name).name == name


@pytest.mark.parametrize(
    "name", ["fixed", "fixed:", "fixed:-1", "fixed:nan", "greedy-dual", "reference:3", "nosuch"]
)
def test_a_policy_that_cannot_be_made_says_what_can(name: str) -> None:
    with pytest.raises(PolicyError) as error:
        make_policy(name)
    text = str(error.value)
    assert "\n" not in text
    assert any(known in text for known in KNOWN)


def test_learned_needs_a_model() -> None:
    with pytest.raises(PolicyError, match="--model"):
        make_policy("learned")
