"""Calls of late are those that came, and what is usual at an hour is what came at that hour."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from warmscaler.models.learned.context.calls import DAY, HOUR_MS, MINUTE_MS, WEEK, Calls

SPANS_MS = (MINUTE_MS, 5 * MINUTE_MS, 30 * MINUTE_MS, 3 * HOUR_MS, 24 * HOUR_MS)


@given(
    steps=st.lists(st.sampled_from([0, 400, 7_000, 65_000, 2_000_000, 90_000_000]), max_size=60),
    quiet=st.sampled_from([0, 30_000, 400_000, 10_000_000]),
)
@settings(max_examples=60, deadline=None)
def test_counts_lie_between_those_of_whole_buckets(steps: list[int], quiet: int) -> None:
    calls = Calls()
    at_ms = 1_700_000_000_000 + np.cumsum(np.array(steps, dtype=np.int64))
    for each in at_ms.tolist():
        calls.add(each)
    now_ms = float((at_ms[-1] if len(at_ms) else 1_700_000_000_000) + quiet)
    for count, span_ms in zip(calls.since(now_ms), SPANS_MS, strict=True):
        bucket_ms = MINUTE_MS if span_ms < HOUR_MS else HOUR_MS
        least = int((at_ms > now_ms - span_ms + bucket_ms).sum())
        most = int((at_ms > now_ms - span_ms - bucket_ms).sum())
        assert least <= count <= most


def test_what_is_usual_follows_the_clock() -> None:
    calls = Calls()
    start = 19_724 * 24 * HOUR_MS  # a midnight
    for day in range(10):
        for call in range(60):
            calls.add(start + (24.0 * day + 9.0) * HOUR_MS + call * MINUTE_MS)
    of_day, of_week = calls.usual(start + 10.5 * 24 * HOUR_MS)
    assert of_day.shape == (DAY,)
    assert of_week.shape == (WEEK,)
    assert of_day.argmax() == 9
    assert of_day[9] > 2.0
    assert of_day[[3, 15]].max() < -0.5
    assert of_week.argmax() % DAY == 9


def test_nothing_is_usual_where_nothing_is_known() -> None:
    calls = Calls()
    assert calls.since(1e12) == (0.0,) * 5
    assert not calls.usual(1e12)[0].any()
    assert calls.an_hour(1e12) == 0.0


def test_an_hour_is_that_of_the_last_week_above_all() -> None:
    calls = Calls()
    for hour in range(900):
        for _ in range(3 if hour < 500 else 5):
            calls.add(hour * HOUR_MS)
    assert 4.7 < calls.an_hour(900 * HOUR_MS) < 5.0
    assert calls.an_hour(950 * HOUR_MS) < 4.0  # and then none came
