"""The breaker before the platform, on a clock of its own."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from warmscaler.service.slots.breaker import (
    FIRST_OPEN_MS,
    JITTER,
    LAST_OPEN_MS,
    PROBE_MS,
    THRESHOLD,
    Breaker,
)
from warmscaler.service.slots.breaker import BreakerState as State


def opened(now_ms: float = 0.0) -> Breaker:
    breaker = Breaker(Random(1).random)
    for _ in range(THRESHOLD):
        assert breaker.wait_ms(now_ms) == 0.0
        breaker.failed(now_ms)
    return breaker


def test_failures_in_a_row_open_it() -> None:
    breaker = Breaker(Random(1).random)
    for _ in range(3):
        for _ in range(THRESHOLD - 1):
            breaker.failed(0.0)
        assert breaker.wait_ms(0.0) == 0.0
        breaker.succeeded()
    breaker = opened()
    assert breaker.state is State.OPEN
    assert FIRST_OPEN_MS <= breaker.wait_ms(0.0) <= FIRST_OPEN_MS * (1.0 + JITTER)


def test_one_call_goes_through_to_see() -> None:
    breaker = opened()
    now_ms = breaker.wait_ms(0.0)
    assert breaker.wait_ms(now_ms) == 0.0
    assert breaker.state is State.HALF_OPEN
    assert breaker.wait_ms(now_ms + 1.0) > 0.0  # the others wait for it
    breaker.succeeded()
    assert breaker.wait_ms(now_ms + 2.0) == 0.0


def test_it_stays_open_longer_each_time() -> None:
    breaker, now_ms, waits = opened(), 0.0, []
    for _ in range(8):
        waits.append(breaker.wait_ms(now_ms))
        now_ms += waits[-1]
        assert breaker.wait_ms(now_ms) == 0.0
        breaker.failed(now_ms)
    assert waits[1] > waits[0]
    assert LAST_OPEN_MS <= waits[-1] <= LAST_OPEN_MS * (1.0 + JITTER)


def test_a_probe_that_never_ends_is_not_waited_for() -> None:
    breaker = opened()
    now_ms = breaker.wait_ms(0.0)
    assert breaker.wait_ms(now_ms) == 0.0
    assert breaker.wait_ms(now_ms + PROBE_MS / 2.0) > 0.0
    assert breaker.wait_ms(now_ms + PROBE_MS) == 0.0


def test_a_probe_that_was_not_made_is_left_to_the_next() -> None:
    breaker = opened()
    now_ms = breaker.wait_ms(0.0)
    assert breaker.wait_ms(now_ms) == 0.0
    breaker.not_made()
    assert breaker.state is State.OPEN
    assert breaker.wait_ms(now_ms) == 0.0
    assert breaker.wait_ms(now_ms) > 0.0


def test_it_tells_when_it_changes() -> None:
    breaker = Breaker(Random(1).random)
    told: list[bool] = []
    breaker.on_change = told.append
    for _ in range(THRESHOLD + 3):
        breaker.failed(0.0)
    breaker.succeeded()
    breaker.succeeded()
    assert told == [False, True]


@given(st.lists(st.tuples(st.floats(0.0, 10_000.0), st.sampled_from("asf")), max_size=200))
def test_a_platform_that_is_well_again_is_asked_again(steps: list[tuple[float, str]]) -> None:
    breaker, now_ms = Breaker(Random(2).random), 0.0
    for pause_ms, step in steps:
        now_ms += pause_ms
        if step == "a":
            wait_ms = breaker.wait_ms(now_ms)
            assert 0.0 <= wait_ms <= LAST_OPEN_MS * (1.0 + JITTER)
        elif step == "s":
            breaker.succeeded()
        else:
            breaker.failed(now_ms)
    now_ms += PROBE_MS + 1.0  # the times are floats
    assert breaker.wait_ms(now_ms) == 0.0
    breaker.succeeded()
    assert breaker.wait_ms(now_ms) == 0.0
