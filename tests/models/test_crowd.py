"""How many wait behind a start: soon known of a new app, slowly changed of one that is known."""

from __future__ import annotations

import pytest

from warmscaler.models.learned.crowd import Crowd

START_MS = 20_000.0


def _bursts(crowd: Crowd, count: int, size: int) -> None:
    for burst in range(count):
        for number in range(size):
            crowd.arrived(1e7 * (burst + 1) + number, START_MS)


def test_a_new_app_that_calls_in_bursts_is_believed_after_a_few() -> None:
    crowd = Crowd()
    _bursts(crowd, 4, 100)
    assert crowd.mean > 40.0


def test_what_many_windows_said_is_not_overturned_by_a_few() -> None:
    crowd = Crowd()
    crowd.mean, crowd.windows = 1.0, 1_000
    _bursts(crowd, 4, 100)
    assert 1.0 < crowd.mean < 20.0


def test_it_is_the_mean_of_late() -> None:
    crowd = Crowd()
    _bursts(crowd, 200, 10)
    assert crowd.mean == pytest.approx(10.0, rel=0.01)
