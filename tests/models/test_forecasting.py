"""The published policies that forecast by the minute, on series and traces small enough to reckon."""

from __future__ import annotations

import numpy as np
import pytest

from tests.traces import trace_of
from warmscaler.data.trace import Trace
from warmscaler.models.policy import Policy
from warmscaler.models.published.femux import FeMux
from warmscaler.models.published.icebreaker import IceBreaker, next_value
from warmscaler.models.published.spes import Spes
from warmscaler.models.registry import make_policy
from warmscaler.simulator.replay import Replay, replay

MINUTE_MS = 60_000
START_MS = 1_000
"""create_ms 300 and the 700 ms of init that `trace_of` gives."""


def periodic(minutes: int, count: int, *, at_ms: int = 20_000) -> Trace:
    """A call of 100 ms every so many minutes, always at the same place inside the minute."""
    return trace_of([(k * minutes * MINUTE_MS + at_ms, 0, 100) for k in range(count)])


def held_share(result: Replay, from_ms: float) -> float:
    """The share of the time from `from_ms` on in which a slot was there."""
    held_ms = sum(max(s.destroyed_ms - max(s.created_ms, from_ms), 0.0) for s in result.slots)
    return held_ms / (result.end_ms - from_ms)


def test_icebreaker_continues_a_trend_and_its_harmonics() -> None:
    at = np.arange(61)
    series = 3.0 + 0.1 * at + 0.002 * at**2 + 2.0 * np.cos(2.0 * np.pi * at / 12.0)
    assert next_value(series[:60]) == pytest.approx(series[60], abs=0.5)
    straight = 3.0 + 0.1 * at + 0.002 * at**2
    for count in (10, 11, 59, 60):
        assert next_value(straight[:count]) == pytest.approx(straight[count])


def test_icebreaker_leaves_the_weak_harmonics_out() -> None:
    at = np.arange(60)
    pulse = np.where(at % 6 == 0, 1.0, 0.0)  # its harmonics: 10, 20, 30 of 30
    noise = 0.05 * np.random.default_rng(5).standard_normal(60)
    assert next_value(pulse + noise) == pytest.approx(1.0, abs=0.2)


@pytest.mark.parametrize("policy", ["icebreaker", "femux:0.04"])
def test_a_clockwork_app_is_warm_when_it_is_called_and_gone_in_between(policy: str) -> None:
    result = replay(periodic(10, 40), make_policy(policy))
    known = 60 * MINUTE_MS
    arrivals_ms = np.arange(40) * 10 * MINUTE_MS
    assert not result.cold[arrivals_ms >= 2 * known].any()
    assert held_share(result, 2 * known) < 0.35


def test_a_prewarmed_instance_is_ready_when_its_minute_begins() -> None:
    # Calls at the very start of a minute: a start within the minute would come too late.
    result = replay(periodic(10, 30, at_ms=0), IceBreaker())
    assert not result.cold[12:].any()
    late = [slot for slot in result.slots if slot.created_ms > 125 * MINUTE_MS]
    ready_ms = late[0].created_ms + START_MS
    assert ready_ms == pytest.approx(130 * MINUTE_MS, abs=500)  # a start as learned


def test_what_is_used_stays_until_its_minute_ends() -> None:
    # Nothing to forecast from, a threshold that nothing reaches: only the minute itself.
    rows = [(k * 30 * MINUTE_MS + 5_000, 0, 100) for k in range(12)]
    result = replay(trace_of(rows), IceBreaker(1.0))
    last = result.slots[-2]
    assert last.destroyed_ms % MINUTE_MS == 0.0
    assert last.destroyed_ms - last.created_ms < 2 * MINUTE_MS


def test_icebreaker_keeps_a_large_app_that_it_foresees_too_high_less_readily() -> None:
    rng = np.random.default_rng(3)
    calls = np.cumsum(rng.exponential(4 * MINUTE_MS, 150)).astype(int)
    rows = [(int(at), app, 100) for at in calls for app in (0, 1)]
    result = replay(trace_of(rows, memory_mb=[64, 9_000]), IceBreaker(0.4))
    held_ms = [
        sum(s.destroyed_ms - s.created_ms for s in result.slots if s.app == app) for app in (0, 1)
    ]
    assert held_ms[1] < 0.7 * held_ms[0]


@pytest.mark.parametrize("policy", [IceBreaker(), IceBreaker(0.01), FeMux(), FeMux(0.04), Spes()])
def test_same_figures_twice_and_blind_to_the_future(policy: Policy) -> None:
    rng = np.random.default_rng(11)
    at_ms = np.cumsum(rng.exponential(40_000, 400)).astype(int)
    rows = [
        (int(at), int(app), int(duration))
        for at, app, duration in zip(
            at_ms, rng.integers(0, 3, 400), rng.exponential(9_000, 400), strict=True
        )
    ]
    memory_mb = [128, 192, 512]
    first, again = (
        replay(trace_of(rows, memory_mb=memory_mb), make_policy(policy.name)) for _ in range(2)
    )
    assert first.slots == again.slots
    half_ms = rows[200][0]
    changed = trace_of(rows[:200] + [(half_ms + 7, 0, 1)] * 9, memory_mb=memory_mb)
    other = replay(changed, make_policy(policy.name))
    before = [slot for slot in first.slots if slot.destroyed_ms < half_ms]
    assert before
    assert before == [slot for slot in other.slots if slot.destroyed_ms < half_ms]
