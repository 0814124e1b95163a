"""statsforecast's models as floors: they see only the past, and know a day later what recurs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import InHere, in_here
from tests.traces import trace_of
from warmscaler.data.read import write_trace
from warmscaler.replicas.levels import DAY_LOOKS
from warmscaler.training.replicas import statistical as rolled
from warmscaler.training.replicas.load import Load, load_of
from warmscaler.training.replicas.statistical import LEVELS, statistical

__all__ = ["in_here"]
DAY_MS = 86_400_000


def with_needed(days: int) -> Load:
    """One app whose load is set by hand: 4 replicas for ten minutes at noon, and one now and then."""
    trace = trace_of([(0, 0, 1), (days * DAY_MS - 15_000, 0, 1)], init_ms=20_000)
    load = load_of(trace, 0.75, places=1, create_ms=300.0, reaction_s=2.0)
    needed = (np.random.default_rng(3).random(load.looks) < 0.01).astype(np.float64)
    for noon in range(DAY_LOOKS // 2, load.looks, DAY_LOOKS):
        needed[noon : noon + 40] = 4.0
    return replace(load, apps=(replace(load.apps[0], needed=needed),))


def floors(load: Load) -> dict[str, list[float]]:
    return {label: own[0].tolist() for label, own in statistical(load)}


def test_a_recurring_burst_is_known_a_day_later_and_nothing_later_is_seen() -> None:
    pytest.importorskip("statsforecast")
    load = with_needed(days=4)
    found = floors(load)
    assert {"statsforecast TSB, mean", "statsforecast AutoETS, 99 %"} <= found.keys()
    assert len(found) % (len(LEVELS) + 1) == 0
    for label, own in found.items():
        assert len(own) == load.looks, label
        assert np.all(np.array(own) >= 0), label
    noon = 3 * DAY_LOOKS + DAY_LOOKS // 2
    naive = found["statsforecast SeasonalNaive, 50 %"]
    assert naive[noon - 3] >= 4  # a start before it begins
    assert naive[noon + 30] >= 4
    assert max(naive[noon + 100 : noon + 600]) <= 1

    cut = noon + 7
    app = load.apps[0]
    other = app.needed.copy()
    other[cut + 1 :] = 9.0
    changed = floors(replace(load, apps=(replace(app, needed=other),)))
    for label, own in found.items():
        assert changed[label][: cut + 1] == own[: cut + 1], label
    assert any(changed[label] != own for label, own in found.items())


def test_without_the_package_it_is_one_line(
    in_here: InHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rolled, "IS_INSTALLED", False)
    file = tmp_path / "trace.parquet"
    write_trace(trace_of([(0, 0, 1_000), (60_000, 0, 1_000)]), file)
    code, told, err = in_here("evaluate", file, "--replicas", "--statsforecast")
    assert code == 2
    assert told == ""
    assert len(err.strip().splitlines()) == 1
    assert "pip install 'warmscaler[statsforecast]'" in err
