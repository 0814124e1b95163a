"""Ctrl-C at a terminal: SIGINT to every process that runs there, at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.traces import trace_of
from warmscaler.data.read import write_trace
from warmscaler.models.artifact.folder import read_artifact

ENDED = 130


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "trace.parquet"
    write_trace(
        trace_of([(1_000 * n, n % 3, 50) for n in range(150_000)], memory_mb=(128, 256, 512)), path
    )
    return path


def interrupted(folder: Path, words: list[str], seen: str, after_s: float) -> tuple[int, str]:
    """Exit code and stderr of a command that is interrupted `after_s` after it loaded `seen`."""
    command = [sys.executable, "-m", "warmscaler", *words]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    while process.poll() is None and seen not in _mapped(process.pid):
        time.sleep(0.01)
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    deadline = time.monotonic() + 30.0
    while (left := _running(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left
    return process.returncode, said


def _mapped(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return ""


def _running(session: int) -> list[int]:
    left = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                left.append(process.pid)
        except (psutil.Error, ProcessLookupError):
            continue
    return left


@pytest.mark.parametrize(
    ("seen", "after_s"),
    [("_multiarray_umath", 0.0), ("polars", 0.2), ("polars", 1.5)],
)
@pytest.mark.parametrize(
    "words",
    [
        [
            "evaluate",
            "TRACE",
            "--jobs",
            "2",
            "--report",
            "report.html",
            "--outcomes",
            "all.parquet",
        ],
        ["demo", "--trace", "TRACE", "--jobs", "2", "--out", "out"],
    ],
    ids=lambda words: words[0],
)
def test_ends_with_130_and_leaves_nothing(
    words: list[str], seen: str, after_s: float, trace: Path, tmp_path: Path
) -> None:
    given = [str(trace) if word == "TRACE" else word for word in words]
    code, said = interrupted(tmp_path, given, seen, after_s)
    assert code == ENDED
    assert "Traceback" not in said
    left = [each for each in tmp_path.rglob("*") if each.is_file()]
    if (model := tmp_path / "out" / "model").is_dir():  # on a fast machine; then it is whole
        read_artifact(model)
        left = [each for each in left if each.parent != model]
    assert not left


def test_a_demo_that_serves_takes_its_scaler_along(tmp_path: Path) -> None:
    short = tmp_path / "short.parquet"
    write_trace(trace_of([(500 * n, 0, 50) for n in range(4_000)]), short)
    command = [sys.executable, "-m", "warmscaler", "demo", "--trace", str(short), "--out", "out"]
    process = subprocess.Popen(
        [*command, "--jobs", "1", "--live-s", "60"], cwd=tmp_path, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while process.poll() is None and len(_running(process.pid)) < 2:
        time.sleep(0.05)
    time.sleep(2.0)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == ENDED
    assert "Traceback" not in said
    assert not _running(process.pid)
