"""`scaler models` and `scaler retrain` as a user, cron and a program meet them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.training.test_retrain import flip, record
from warmscaler.cli.main import main
from warmscaler.data.generate import generate
from warmscaler.models.artifact.folder import write_artifact
from warmscaler.models.artifact.store import Store
from warmscaler.models.learned.habits import Model
from warmscaler.training.retraining.job import job


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def scaler(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command, in this process: starting one takes longer than what is tested."""

    def run(*arguments: str | Path) -> Done:
        monkeypatch.setattr(sys, "argv", ["scaler", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        code = end.value.code
        return Done(code if isinstance(code, int) else 0, *capfd.readouterr())

    return run


def answer(scaler: Run, *arguments: str | Path) -> Any:
    done = scaler(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model as `scaler train` leaves it."""
    about = {"created": "2026-01-01", "trained_on": {"requests": 7, "apps": 2}}
    write_artifact(tmp_path / "model", Model(), about)
    return tmp_path / "model"


def test_add_promote_show_list_roll_back(scaler: Run, folder: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = answer(scaler, "models", "promote", "--store", store, folder)["version"]
    write_artifact(folder, Model(price_s_per_gb_s=0.02), {"trained_on": {}})
    second = answer(scaler, "models", "add", "--store", store, folder)["version"]
    listed = answer(scaler, "models", "list", "--store", store)
    assert listed["current"] == first
    assert [each["version"] for each in listed["versions"]] == sorted((first, second))
    answer(scaler, "models", "promote", "--store", store, second)
    shown = answer(scaler, "models", "show", "--store", store)
    assert shown["version"] == second
    assert shown["manifest"]["settings"]["price_s_per_gb_s"] == 0.02
    assert answer(scaler, "models", "rollback", "--store", store)["version"] == first
    table = scaler("models", "list", "--store", store)
    assert first in table.stdout


def test_a_store_without_a_version_says_so(scaler: Run, tmp_path: Path) -> None:
    listed = scaler("models", "list", "--store", tmp_path / "none")
    assert listed.stdout == ""
    assert "no version is there" in listed.stderr
    empty = answer(scaler, "models", "list", "--store", tmp_path / "none")
    assert (empty["current"], empty["versions"]) == (None, [])


@pytest.mark.parametrize(
    "arguments",
    [
        ("promote", "20260101T000000Z-000000000000"),
        ("promote", "../../etc"),
        ("rollback",),
        ("show",),
        ("show", "nothing"),
    ],
)
def test_what_is_not_there_is_one_line(
    scaler: Run, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = scaler("models", arguments[0], "--store", tmp_path / "store", *arguments[1:])
    assert done.returncode == 2
    assert done.stderr.startswith("scaler: ")
    assert done.stderr.count("\n") == 1


def test_retrain_from_a_recording(scaler: Run, tmp_path: Path) -> None:
    log, store = tmp_path / "log", tmp_path / "store"
    record(generate("contest-1", days=1.5 / 24.0, seed=3), log)
    common = ("retrain", "--log", log, "--store", store, "--price", "0.04", "--window", "2h")
    report = tmp_path / "drift.json"
    result = answer(scaler, *common, "--drift-report", report)
    assert result["outcome"] == "promoted"
    assert json.loads(report.read_text())["apps_before"] == 6
    assert answer(scaler, "models", "list", "--store", store)["current"] == result["version"]
    (tmp_path / "in-the-way").mkdir()
    unwritten = answer(scaler, *common, "--drift-report", tmp_path / "in-the-way")
    assert unwritten["outcome"] == "kept"  # told all the same: it may have been a promotion
    assert "--drift-report" in unwritten["notes"][-1]
    kept = scaler(*common, "--exit-code")
    assert kept.returncode == 10, kept.stderr
    assert "kept" in kept.stderr
    with job(Store(str(store))):
        busy = scaler(*common, "--json")
    assert (busy.returncode, json.loads(busy.stdout)["outcome"]) == (3, "busy")
    flip(log)
    failed = scaler(*common, "--json")
    assert failed.returncode == 2
    assert json.loads(failed.stdout)["outcome"] == "failed"
    assert failed.stderr.count("\n") == 1
    assert answer(scaler, "models", "list", "--store", store)["current"] == result["version"]


@pytest.mark.parametrize("window", ["14", "d", "0d", "-1d", "1w"])
def test_a_window_that_is_none_is_said(scaler: Run, tmp_path: Path, window: str) -> None:
    done = scaler("retrain", "--log", tmp_path, "--store", tmp_path / "s", f"--window={window}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--window" in done.stderr
