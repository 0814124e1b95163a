"""After `scaler simulate` played: the page, `scaler explain` and the recording agree on every app."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests.cli.conftest import InHere
from tests.deploy.test_side_by_side import free_ports
from tests.service.running import get, scaler
from tests.traces import trace_of
from warmscaler.data.read import write_trace
from warmscaler.data.recording import read_app

PAIRS = [(at + extra, 0, 40) for at in (0, 600, 1_500) for extra in (0, 10)]
ALONE = [(at, 1, 150) for at in (100, 800, 1_900)]


def fleet(page: str) -> dict[str, dict[str, Any]]:
    """The first picture that the page is told, by app."""
    with urlopen(f"{page}/events", timeout=30) as events:  # noqa: S310 - our own page
        assert events.readline() == b"event: fleet\n"
        told = json.loads(events.readline().removeprefix(b"data: "))
    return {row[0]: dict(zip(told["columns"], row, strict=True)) for row in told["apps"]}


def test_page_and_explanation_agree_with_the_recording(tmp_path: Path, in_here: InHere) -> None:
    path, recording = tmp_path / "t.parquet", tmp_path / "recording"
    write_trace(trace_of(PAIRS + ALONE, memory_mb=[128, 512], init_ms=80), path)
    platform, statistics = free_ports(2)
    options = ("--policy", "fixed:60", "--platform", f"127.0.0.1:{platform}", "--metrics-port", 0)
    with scaler(*options, "--record", recording, "--drain", 1) as process:
        where = ("--platform-port", platform, "--statistics-port", statistics)
        words = ("simulate", path, "--scaler", process.address, "--create-ms", 50, *where)
        command = [sys.executable, "-m", "warmscaler", *map(str, words)]
        played = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert played.returncode == 0, played.stderr
        seen, page = fleet(process.page), process.page
        explained = {}
        for key in seen:
            code, out, err = in_here("explain", key, "--scaler", process.address, "--json")
            assert not code, err
            explained[key] = json.loads(out)
            told = json.loads(get(f"{page}/app?app={key}")[1])
            assert told["requests"] == explained[key]["requests"]
            assert told["cold_starts"] == explained[key]["cold_starts"]
        process.terminate()
    assert seen.keys() == {"app-0", "app-1"}
    assert sum(row["requests"] for row in seen.values()) == len(PAIRS + ALONE)
    for key, row in seen.items():
        rows = read_app(recording, key)
        waited_s = float(rows["wait_ms"].sum()) / 1_000.0
        assert row["requests"] == explained[key]["requests"] == len(rows)
        assert row["cold"] == explained[key]["cold"] == int(rows["cold"].sum())
        assert row["waited_s"] == pytest.approx(waited_s, abs=0.01)
        assert explained[key]["waited_ms"] == pytest.approx(1_000.0 * waited_s, abs=10.0)
