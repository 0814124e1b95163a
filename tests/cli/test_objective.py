"""What is asked for in words: the same everywhere, in the manifest, and in one line where it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import InHere
from tests.traces import trace_of
from warmscaler.data.read import write_trace
from warmscaler.models.artifact.folder import read_artifact, read_manifest
from warmscaler.models.learned.policy import Learned

EVERY_MINUTE = [(60_000 * turn, 0, 200) for turn in range(120)]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.parquet"
    write_trace(trace_of(EVERY_MINUTE), path)
    return path


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ("--objective", "fast"),
            "there is no objective 'fast': known are safe, score, cold-starts=1%",
        ),
        (("--objective", "cold-starts=0%"), "its share lies between 0 and 100 %"),
        (("--objective", "wait-p99=5"), "there is no objective"),
        (("--objective", "score", "--price", "0.03"), "--price and --objective ask for different"),
        (("--second-waited", "0.001"), "--second-waited goes with --gb-hour"),
        (("--gb-hour", "0", "--second-waited", "1"), "--gb-hour 0: it must be a number above 0"),
        (("--gb-hour", "9e9", "--second-waited", "1e-9"), "make a price of"),
    ],
)
def test_wrong_words_are_one_line_everywhere(
    words: tuple[str, ...], says: str, trace: Path, tmp_path: Path, in_here: InHere
) -> None:
    for command in (
        ("train", trace, "--out", tmp_path / "model"),
        ("evaluate", trace),
        ("advise", trace),
        ("retrain", "--log", trace, "--store", tmp_path / "store"),
        ("serve", "--port", 0),
    ):
        code, out, err = in_here(*command, *words)
        assert (code, out) == (2, "")
        assert err.count("\n") == 1
        assert says in err
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("words", "objective"),
    [
        ((), "safe"),
        (("--objective", "score"), "score"),
        (("--objective", "wait-p99=1s"), "wait-p99=1000ms"),
        (("--price", "0.03"), "price=0.03"),
        (("--gb-hour", "0.06", "--second-waited", "0.001"), "price=0.0166667"),
    ],
)
def test_a_model_says_what_it_was_trained_for(
    words: tuple[str, ...], objective: str, trace: Path, tmp_path: Path, in_here: InHere
) -> None:
    code, _, _ = in_here("train", trace, "--out", tmp_path / "model", "--jobs", 1, *words)
    assert not code
    assert read_manifest(tmp_path / "model")["settings"]["objective"] == objective
    served = Learned(read_artifact(tmp_path / "model"))
    assert str(served.objective) == objective
    assert (served.steering is None) == objective.startswith("price")


@pytest.mark.parametrize("guard", ["", "ten", "-1", "10%%"])
def test_a_guard_is_a_share(guard: str, trace: Path, tmp_path: Path, in_here: InHere) -> None:
    code, out, err = in_here(
        "retrain", "--log", trace, "--store", tmp_path / "store", "--guard", guard
    )
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--guard" in err
