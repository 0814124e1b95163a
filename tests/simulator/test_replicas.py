"""The replay at replica level, against replays by hand, and what holds of any."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmscaler.replicas.compiled import IS_INSTALLED, fast
from warmscaler.simulator.replicas.loop import run
from warmscaler.simulator.replicas.rules import FLOOR_ONLY, Keda, Knative, Rule


def serve(
    arrival_s: list[float],
    duration_s: list[float],
    *,
    rule: Rule | None = None,
    floor: list[int] | None = None,
    places: int = 1,
    start_s: float = 20.0,
    end_s: float = 2_000.0,
    measured_s: float = 0.0,
) -> tuple[list[float], float, int]:
    """Waits, replica-seconds held, most at once. Looks every 15 s from 0 on."""
    wait_s = np.zeros(len(arrival_s))
    held_s, _, most = run(
        np.array(arrival_s, dtype=np.float64),
        np.array(duration_s, dtype=np.float64),
        places,
        start_s,
        FLOOR_ONLY if rule is None else rule.settings(),
        np.array(floor or [], dtype=np.int64),
        15.0,
        0.0,
        end_s,
        measured_s,
        wait_s,
    )
    return wait_s.tolist(), held_s, most


def test_a_floor_of_one_serves_in_order_and_goes_when_it_is_empty() -> None:
    # Started at 0, ready at 5; serves from 5, 15 and 25 on; let go at 30, it is in use until 35.
    waits, held_s, most = serve([0, 1, 2], [10, 10, 10], floor=[1, 1, 0], start_s=5.0)
    assert waits == [5.0, 14.0, 23.0]
    assert (held_s, most) == (35.0, 1)


def test_two_places_in_a_replica() -> None:
    waits, held_s, _ = serve([0, 1, 2], [10, 10, 10], floor=[1, 1, 0], start_s=5.0, places=2)
    assert waits == [5.0, 4.0, 13.0]
    assert held_s == 30.0


def test_knative_by_hand() -> None:
    # The request at 100 wakes the activator: one is started, ready at 120. At 102 the averages are 1
    # request over a target of 0.7, so 2, and twice what is ready: panic, a second is started. The
    # last tick over the threshold is that at 122, before the second is ready; panic ends after 60 s,
    # at 184, with 6 request-seconds in the window: one. At 190 the window is empty; grace to 220.
    waits, held_s, most = serve([100.0], [10.0], rule=Knative())
    assert waits == [20.0]
    assert (held_s, most) == ((220.0 - 100.0) + (184.0 - 102.0), 2)


def test_knative_with_a_delay_holds_what_was_wanted_of_late() -> None:
    waits, held_s, _ = serve([100.0], [10.0], rule=Knative(scale_down_delay_s=300.0))
    # Two are wanted until 182, and stay for 300 s. As long as two are ready no less than half of
    # them, one, is wanted: until 484, and that stays until 786; grace to 816.
    assert waits == [20.0]
    assert held_s == (484.0 - 102.0) + (816.0 - 100.0)


def test_keda_by_hand() -> None:
    # Polled at 90, before the request, and at 120: active, one. HPA at once wants 1 / 0.7, so 2. Both
    # are ready at 140; 300 s after it was last seen active, at 420, they go.
    waits, held_s, most = serve([100.0], [10.0], rule=Keda())
    assert waits == [40.0]
    assert (held_s, most) == (2 * (420.0 - 120.0), 2)


def test_only_what_is_held_after_the_measuring_began_counts() -> None:
    _, held_s, _ = serve([100.0], [10.0], rule=Keda(), measured_s=400.0)
    assert held_s == 2 * 20.0


requests = st.lists(
    st.tuples(st.floats(0, 600), st.floats(0.001, 120)), min_size=1, max_size=40
).map(sorted)
rules = st.sampled_from(
    [Knative(), Knative(6.0, 1.0), Knative(60.0, 0.7, 300.0, 1.0), Keda(), Keda(0.0, 1.0, 30.0)]
)
floors = st.lists(st.integers(0, 5), max_size=80)


@settings(deadline=None, max_examples=60)
@given(requests, rules, floors, st.integers(1, 3), st.floats(0, 60))
def test_all_are_served_in_order_and_what_is_used_is_held(
    calls: list[tuple[float, float]], rule: Rule, floor: list[int], places: int, start_s: float
) -> None:
    arrival_s, duration_s = [at for at, _ in calls], [took for _, took in calls]
    waits, held_s, _ = serve(
        arrival_s, duration_s, rule=rule, floor=floor, places=places, start_s=start_s
    )
    begun = [at + wait for at, wait in zip(arrival_s, waits, strict=True)]
    assert min(waits) >= 0.0
    assert all(b >= a - 1e-9 for a, b in pairwise(begun))
    assert held_s * places >= sum(duration_s) - 1e-6


@settings(deadline=None, max_examples=40)
@given(requests, st.integers(1, 4), st.integers(0, 3))
def test_a_higher_floor_never_makes_anyone_wait_longer(
    calls: list[tuple[float, float]], floor: int, more: int
) -> None:
    arrival_s, duration_s = [at for at, _ in calls], [took for _, took in calls]
    low, _, _ = serve(arrival_s, duration_s, floor=[floor])
    high, _, _ = serve(arrival_s, duration_s, floor=[floor + more])
    assert all(b <= a + 1e-9 for a, b in zip(low, high, strict=True))


@pytest.mark.skipif(not IS_INSTALLED, reason="numba is not installed")
def test_compiled_and_plain_agree() -> None:
    rng = np.random.default_rng(3)
    arrival_s, duration_s = np.sort(rng.uniform(0, 3_000, 300)), rng.exponential(8.0, 300)
    floor = rng.integers(0, 6, 250)
    for rule in (Knative(), Keda()):
        seen = []
        for function in (run, fast(run)):
            wait_s = np.zeros(300)
            terms = (1, 20.0, rule.settings(), floor, 15.0, 0.0, 4_000.0, 1_000.0, wait_s)
            seen.append((function(arrival_s, duration_s, *terms), wait_s.tolist()))
        assert seen[0] == seen[1]
