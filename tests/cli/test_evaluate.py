"""`scaler train` and `scaler evaluate` as a user runs them."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from tests.cli.conftest import InHere
from tests.traces import trace_of
from warmscaler.data.read import write_trace
from warmscaler.training.evaluating.evaluate import JSON_FIGURES

KEYS = {
    "policy",
    "score",
    "resource_score",
    "cold_start_score",
    "cold_start_rate",
    "app_cold_start_rate_p75",
    "slot_gb_s",
    "wasted_gb_s",
    "wait_s",
    "wait_p99_ms",
    "cold_starts",
    "requests",
}


def scaler(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "warmscaler", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(7)
    rows = [(k * 60_000, 0, 400) for k in range(300)]
    rows += [(int(at), 1, 900) for at in np.cumsum(rng.exponential(25_000, 700))]
    path = tmp_path_factory.mktemp("trace") / "small.parquet"
    write_trace(trace_of(rows, memory_mb=[128, 256]), path)
    return path


def test_train_then_evaluate(trace: Path, tmp_path: Path) -> None:
    model, outcomes, report = (tmp_path / name for name in ("model", "o.parquet", "r.html"))
    trained = scaler("train", trace, "--out", model, "--until", "0.5", "--jobs", "1")
    assert trained.returncode == 0, trained.stderr
    assert json.loads((model / "manifest.json").read_text())["trained_on"]["apps"] == 2
    wanted = ["--policy", "fixed:300", "--policy", "learned", "--policy", "clairvoyant"]
    extra: list[str | Path] = ["--model", model, "--outcomes", outcomes, "--report", report]
    run = scaler("evaluate", trace, *wanted, *extra, "--jobs", "1", "--json")
    assert run.returncode == 0, run.stderr
    assert "warning" not in run.stderr
    result = json.loads(run.stdout)
    assert {"trace", "split", "create_ms", "requests", "policies"} <= result.keys()
    assert [each["policy"] for each in result["policies"]] == [
        "fixed:300",
        "learned",
        "clairvoyant",
    ]
    assert all(each.keys() >= KEYS for each in result["policies"])

    rows = pl.read_parquet(outcomes)
    assert rows.columns == ["policy", "arrival_ms", "app", "wait_ms", "cold"]
    by_policy = rows.group_by("policy").agg(pl.len(), pl.col("wait_ms").sum() / 1000.0)
    for policy, count, wait_s in by_policy.iter_rows():
        figures = next(each for each in result["policies"] if each["policy"] == policy)
        assert count == figures["requests"]
        assert wait_s == pytest.approx(figures["wait_s"])

    page = report.read_text()
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(svg)  # noqa: S314 - our own
    assert not re.search(r"\b(src|href)\s*=\s*[\"']?(https?:)?//", page)
    assert hashlib.sha256(trace.read_bytes()).hexdigest() in page


def test_sweep_and_folds(trace: Path, in_here: InHere) -> None:
    words = ("evaluate", trace, "--policy", "fixed:60", "--json", "--jobs", "1")
    code, out, err = in_here(*words, "--sweep")
    assert not code, err
    policies = json.loads(out)["policies"]
    assert len(policies) > 10
    assert all(each["knob"] == "keep_s" and each["knob_value"] > 0 for each in policies)
    code, out, err = in_here(*words, "--folds", "2")
    assert not code, err
    result = json.loads(out)
    assert len(result["folds"]) == 2
    (policy,) = result["policies"]
    assert policy["spread"]["wait_s"] >= 0.0
    assert policy["spread"].keys() >= set(JSON_FIGURES)
    code, out, err = in_here(*words[:-3], "--folds", "2", "--jobs", "1")
    assert not code, err
    assert f"{policy['start_rate']:.5f} ±{policy['spread']['start_rate']:.5f}" in out


@pytest.mark.parametrize(
    ("rows", "requests"),
    [
        ([(k * 1_000, 0, 0) for k in range(50)], 25),
        ([(0, 0, 5), (1_000, 0, 5)], 1),
    ],
    ids=("executions of 0 ms", "two requests"),
)
def test_tiny_traces(
    tmp_path: Path, rows: list[tuple[int, int, int]], requests: int, in_here: InHere
) -> None:
    path = tmp_path / "tiny.parquet"
    write_trace(trace_of(rows), path)
    policies = ("learned", "fixed:300", "clairvoyant", "reference")
    wanted = [word for policy in policies for word in ("--policy", policy)]
    report = ("--report", tmp_path / "r.html")
    code, out, err = in_here("evaluate", path, *wanted, *report, "--jobs", "1", "--json")
    assert (code or 0, err) == (0, "")
    result = json.loads(out)
    assert [each["policy"] for each in result["policies"]] == list(policies)
    assert {each["requests"] for each in result["policies"]} == {requests}


def test_a_person_sees_a_table(trace: Path) -> None:
    run = scaler("evaluate", trace, "--policy", "fixed:300", "--jobs", "1")
    assert run.returncode == 0
    assert "fixed:300" in run.stdout
    assert "wasted GB·s" in run.stdout
    assert run.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--policy", "nosuch"],
        ["--policy", "fixed"],
        ["--split", "1.5"],
        ["--model", "no-such-folder"],
        ["--outcomes", "o.csv"],
        ["--report", "no-such-folder/r.html"],
        ["--report", "r.txt"],
        ["--picture", "p.png"],
        ["--policy", "learned", "--price", "-1"],
        ["--policy", "fixed:60", "--price", "nan"],
        ["--create-ms", "inf"],
        ["--split", "half"],
        ["--jobs", "0"],
        ["--nosuch"],
        ["--policy"],
        ["--folds", "100000", "--policy", "fixed:60"],
        ["--folds", "3", "--split", "0.7"],
        ["--baseline", "learned"],
        ["--baseline", "nosuch"],
        ["--gb-hour", "0.06"],
        ["--report", "r.html", "--gb-hour", "nan"],
    ],
)
def test_a_mistake_is_one_line_and_code_2(
    trace: Path, arguments: list[str], in_here: InHere
) -> None:
    code, out, err = in_here("evaluate", trace, *arguments)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("scaler: ")


def test_a_policy_that_is_none_is_told_before_a_trace_is_read(in_here: InHere) -> None:
    code, _, err = in_here("evaluate", "no-such.parquet", "--policy", "fixed:60", "--policy", "foo")
    assert code == 2
    assert "there is no policy 'foo'" in err


def test_a_trace_without_a_span(tmp_path: Path, in_here: InHere) -> None:
    write_trace(trace_of([(5, 0, 5)] * 9), tmp_path / "tiny.parquet")
    code, out, err = in_here("evaluate", tmp_path / "tiny.parquet", "--json")
    assert (code, out) == (2, "")
    assert "leaves nothing on one side of it: 0 of 9 requests come before" in err


def test_train_refuses_to_replace_what_is_no_model(trace: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    run = scaler("train", trace, "--out", tmp_path)
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
