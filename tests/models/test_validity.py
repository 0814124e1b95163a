"""Models whose bytes may be whole and whose numbers cannot be: all are refused with one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from warmscaler.models.artifact.folder import ArtifactError, write_artifact
from warmscaler.models.artifact.store import Store
from warmscaler.models.artifact.validity import MOST_GAPS, check_model
from warmscaler.models.learned.habits import MAX_LEVELS, AppHabits, LevelHabits, Model


def level(
    gaps_ms: object = (1_000.0, 2_000.0),
    phases_ms: object = (0.0, 10.0),
    covered_ms: float = 5.0,
    excess_ms: float = 0.0,
) -> LevelHabits:
    return LevelHabits(np.array(gaps_ms), np.array(phases_ms), covered_ms, excess_ms)


def one(*levels: LevelHabits, start_ms: float = 1_000.0) -> Model:
    return Model(apps={"good": AppHabits(1.0, (level(),)), "app": AppHabits(start_ms, levels)})


NAN, INF = float("nan"), float("inf")
BAD: dict[str, Callable[[], Model]] = {
    "no price": lambda: Model(price_s_per_gb_s=0.0),
    "price without end": lambda: Model(price_s_per_gb_s=INF),
    "empty prior": lambda: Model(prior_ms=np.zeros(0)),
    "prior out of order": lambda: Model(prior_ms=np.array([2.0, 1.0])),
    "prior of nothing": lambda: Model(prior_ms=np.array([NAN])),
    "start below 0": lambda: Model(start_ms=-1.0),
    "an app's start": lambda: one(level(), start_ms=NAN),
    "too many levels": lambda: one(*[level()] * (MAX_LEVELS + 1)),
    "too many idle times": lambda: one(
        level(np.ones(MOST_GAPS + 1), np.ones(MOST_GAPS + 1)), level()
    ),
    "an idle time below 0": lambda: one(level((1.0, -1.0))),
    "an idle time that is none": lambda: one(level((1.0, NAN))),
    "a phase without end": lambda: one(level(phases_ms=(INF, 0.0))),
    "time in use": lambda: one(level(covered_ms=NAN)),
    "time beyond": lambda: one(level(excess_ms=-1.0)),
    "fewer phases": lambda: one(level(phases_ms=(1.0,))),
    "another level's phases": lambda: one(level((1.0, 2.0), (1.0,)), level((1.0,), (1.0, 2.0))),
    "a table": lambda: one(level([[1.0, 2.0]], [[1.0, 2.0]])),
}


@pytest.mark.parametrize("name", BAD)
def test_is_refused(name: str) -> None:
    with pytest.raises(ArtifactError, match="train it again"):
        check_model(BAD[name]())


def test_what_is_fine_is_not() -> None:
    check_model(Model())
    check_model(one())
    check_model(one(level(np.zeros(0), np.zeros(0)), level()))
    full = level(np.ones(MOST_GAPS), np.ones(MOST_GAPS))
    check_model(one(*[full] * MAX_LEVELS))


@pytest.mark.parametrize("name", ["no price", "too many levels", "a phase without end"])
def test_is_refused_from_a_store_whose_bytes_are_whole(name: str, tmp_path: Path) -> None:
    version = "20260101T000000Z-0123456789ab"
    write_artifact(tmp_path / "versions" / version, BAD[name](), {})
    store = Store(str(tmp_path))
    with pytest.raises(ArtifactError, match="train it again"):
        store.read(version)
    with pytest.raises(ArtifactError, match="train it again"):
        store.promote(version)
    assert store.pointer() is None
