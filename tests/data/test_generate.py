"""The look-alikes: seeded, as large and as long as asked for, and like what is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from warmscaler.data.generate import KINDS, generate
from warmscaler.data.trace import TraceError

DAY_MS = 86_400_000


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_trace(kind: str) -> None:
    one, same, other = (generate(kind, days=0.1, seed=seed) for seed in (1, 1, 2))
    assert one.apps == same.apps
    np.testing.assert_array_equal(one.arrival_ms, same.arrival_ms)
    np.testing.assert_array_equal(one.duration_ms, same.duration_ms)
    assert len(one) != len(other) or bool(np.any(one.arrival_ms != other.arrival_ms))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("days", [0.05, 1.0, 2.0])
def test_the_days_asked_for(kind: str, days: float) -> None:
    trace = generate(kind, days=days)
    since_ms = trace.arrival_ms - trace.arrival_ms[0]
    assert np.all(np.diff(since_ms) >= 0)
    # A thin tail beyond the end would move every split, which is a fraction of the span.
    assert 0.95 * days * DAY_MS < since_ms[-1] < days * DAY_MS
    assert trace.duration_ms.min() >= 1
    assert len({app.key for app in trace.apps}) == len(trace.apps)


def test_sets_1_and_2_are_like_controllers() -> None:
    one, two = generate("contest-1"), generate("contest-2")
    assert {app.key for app in one.apps} >= {"nodes1", "roles1", "csinodes1"}
    assert not {app.key for app in one.apps} & {app.key for app in two.apps}
    for index, app in enumerate(one.apps):
        durations_ms = one.duration_ms[one.app == index]
        assert 25 < durations_ms.mean() < 60
        assert app.init_ms > 10 * durations_ms.mean()
        gaps_ms = np.diff(one.arrival_ms[one.app == index])
        between_bursts_ms = gaps_ms[gaps_ms > 10_000]
        assert 28_000 < between_bursts_ms.mean() < 32_000


def test_set_3_starts_up_as_is_known() -> None:
    trace = generate("contest-3", apps=2_000, days=0.01)
    assert all(len(app.key) == 40 and int(app.key, 16) >= 0 for app in trace.apps)
    init_ms = [app.init_ms for app in trace.apps]
    for quantile, known_ms in (
        (0.05, 134),
        (0.25, 207),
        (0.5, 1_225),
        (0.75, 3_979),
        (0.95, 8_724),
    ):
        assert np.quantile(init_ms, quantile) == pytest.approx(known_ms, rel=0.2)
    assert max(init_ms) <= 18_754


def test_azure_is_as_large_as_asked_and_heavy_tailed() -> None:
    trace = generate("azure", apps=200, days=3.0, requests=300_000, seed=4)
    assert len(trace.apps) == 200
    assert len(trace) == pytest.approx(300_000, rel=0.05)
    calls = np.sort(np.bincount(trace.app, minlength=200))
    assert calls[-20:].sum() > 0.6 * calls.sum()
    assert calls[50] < 100
    assert {app.memory_mb % 64 for app in trace.apps} == {0}
    assert min(app.memory_mb for app in trace.apps) >= 64
    assert max(app.memory_mb for app in trace.apps) <= 640


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"kind": "azur"}, "no such kind"),
        ({"days": 0}, "--days"),
        ({"days": float("nan")}, "--days"),
        ({"days": 1e9}, "--days"),
        ({"apps": 0}, "--apps"),
        ({"requests": 0}, "--requests"),
        ({"kind": "contest-1", "apps": 9}, "--apps"),
        ({"kind": "contest-3", "requests": 9}, "--requests"),
        ({"kind": "azure", "requests": 10**12}, "--requests 1000000000000: must be"),
        ({"kind": "azure", "apps": 10**9}, "--apps 1000000000: must be"),
        ({"kind": "azure", "apps": 10_000, "days": 3_650.0}, "ask for fewer apps or days"),
        ({"kind": "contest-1", "days": 3_650.0}, "ask for fewer apps or days"),
    ],
)
def test_what_cannot_be_made(how: dict[str, Any], says: str) -> None:
    with pytest.raises(TraceError, match=says):
        generate(**({"kind": "azure"} | how))
