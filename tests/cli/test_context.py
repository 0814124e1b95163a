"""`--context`: not used on two hours, refused where it says nothing, one line without LightGBM."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.conftest import InHere
from tests.traces import trace_of
from warmscaler.data.read import write_trace
from warmscaler.models.artifact.folder import read_artifact


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.parquet"
    write_trace(trace_of([(60_000 * turn, 0, 200) for turn in range(120)]), path)
    return path


def test_two_hours_teach_no_calendar(in_here: InHere, trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "model"
    code, _, _ = in_here("train", trace, "--context", "--price", 0.01, "--jobs", 1, "--out", out)
    assert not code
    assert read_artifact(out).context is None


def test_it_is_of_a_model_trained_here(in_here: InHere, trace: Path) -> None:
    code, _, said = in_here("evaluate", trace, "--context", "--frontier")
    assert code == 2
    assert "--context: leave out --model, --frontier" in said


def test_without_lightgbm_it_is_refused_before_any_work(
    in_here: InHere, trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    code, _, said = in_here("train", trace, "--context", "--out", tmp_path / "model")
    assert code == 2
    assert "--context takes LightGBM, which cannot be loaded" in said
    assert not (tmp_path / "model").exists()
