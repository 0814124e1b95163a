"""SPES: which category an app is put into, and what each does, on minutes small enough to count."""

from __future__ import annotations

import numpy as np
import pytest

from tests.traces import trace_of
from warmscaler.models.published.spes import Spes
from warmscaler.models.published.spes_categories import Category, Plan, Run, outcome, plan
from warmscaler.simulator.replay import replay

MINUTE_MS = 60_000
START_MS = 1_000
SHORT_RUNS = [Run(1, 1)] * 30


@pytest.mark.parametrize(
    ("waits", "category", "predicted"),
    [
        ([9] * 10, Category.REGULAR, ((10.0, 10.0), (20.0, 20.0))),
        ([9, 30] * 10 + [7], Category.APPROXIMATE, ((10.0, 10.0), (31.0, 31.0))),
        ([1, 2, 3, 4] * 5, Category.DENSE, ((2.0, 5.0),)),
        ([100, 200, 300, 400, 500, 600, 15, 25, 35, 45], Category.UNKNOWN, ()),
    ],
)
def test_categories_by_idle_minutes(
    waits: list[int], category: Category, predicted: tuple[tuple[float, float], ...]
) -> None:
    assert plan(waits, SHORT_RUNS, 0.9) == Plan(category, predicted)


def test_always_warm_and_successive() -> None:
    assert plan([3], [], 0.0005).category is Category.WARM
    scattered = [100, 230, 310, 440]
    assert plan(scattered, [Run(12, 12)] * 4, 0.5).category is Category.SUCCESSIVE
    assert plan(scattered, [Run(2, 40)] * 4, 0.5).category is Category.SUCCESSIVE
    assert plan(scattered, [Run(2, 2)] * 4, 0.5).category is not Category.SUCCESSIVE


def test_old_habits_are_forgotten() -> None:
    rng = np.random.default_rng(1)
    irregular = [int(each) for each in rng.integers(20, 500, 20)]
    assert plan(irregular + [29] * 20, SHORT_RUNS, 0.9).category is Category.REGULAR


def test_what_a_category_would_have_cost() -> None:
    # Pulsed: three idle minutes, so that a wait of two is warm and wastes two.
    assert outcome([2, 50], Plan(Category.PULSED)) == (0.5, 2.5)
    # One minute, then two before and two after what is predicted; the call itself is no waste.
    assert outcome([9], Plan(Category.POSSIBLE, ((10.0, 10.0),))) == (0.0, 3.0)
    assert outcome([30], Plan(Category.POSSIBLE, ((10.0, 10.0),))) == (1.0, 6.0)


def test_a_regular_app_is_loaded_two_minutes_before_and_unloaded_a_minute_after() -> None:
    trace = trace_of([(k * 20 * MINUTE_MS + 20_000, 0, 100) for k in range(20)])
    result = replay(trace, Spes())
    assert result.cold[:3].all()
    assert not result.cold[5:].any()
    late = next(s for s in result.slots if s.created_ms > 205 * MINUTE_MS)
    assert late.created_ms + START_MS == pytest.approx((220 - 2) * MINUTE_MS, abs=500)
    assert late.destroyed_ms == (220 + 2) * MINUTE_MS


def test_an_app_always_in_use_is_kept_whatever_comes() -> None:
    rows = [(k * 30_000, 0, 100) for k in range(2_900)]  # a day, one idle minute in it
    rows = [row for row in rows if row[0] // MINUTE_MS != 1_250]
    quiet = [(rows[-1][0] + 10 * 3_600_000, 0, 100)]
    result = replay(trace_of(rows + quiet), Spes())
    assert result.cold.sum() == 2  # the first, and the one that ended the idle minute


def test_give_up_keeps_what_is_not_predicted_for_longer() -> None:
    rng = np.random.default_rng(8)
    rows = [(int(at), 0, 100) for at in np.cumsum(rng.exponential(7 * MINUTE_MS, 200))]
    cold = [replay(trace_of(rows), Spes(give_up)).cold.sum() for give_up in (1.0, 4.0, 20.0)]
    assert cold[0] > cold[1] > cold[2]
