"""`scaler explain` as a user runs it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from tests.cli.conftest import InHere
from warmscaler.data.recording import COLUMNS, write_segment

BEGIN_MS = 1_700_000_000_000
MINUTE_MS = 60_000


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    count = 40
    columns = {
        "arrival_ms": [BEGIN_MS + 10 * MINUTE_MS * k for k in range(count)],
        "app": ["mine"] * count,
        "runtime": ["go"] * count,
        "memory_mb": [256] * count,
        "timeout_s": [60] * count,
        "init_ms": [700] * count,
        "duration_ms": [250] * count,
        "status_code": [200] * count,
        "wait_ms": [1_000.0] * 3 + [0.0] * (count - 3),
        "cold": [True] * 3 + [False] * (count - 3),
        "outcome": ["kept"] * count,
        "result_code": [200] * count,
        "create_ms": [300] * count,
    }
    table = pl.DataFrame(columns, schema=dict(COLUMNS))
    write_segment(table, tmp_path / "20231114T221320.000-0123abcd.parquet")
    return tmp_path


def test_from_a_recording(recording: Path, in_here: InHere) -> None:
    code, out, err = in_here("explain", "mine", "--log", recording)
    assert (code or 0, err) == (0, "")
    assert "40 requests, 3 without an idle instance (7.5%), 3.0 s waited in all" in out
    assert "the app was not known before" in out
    assert out.count("no instance was kept") == 2
    last = datetime.fromtimestamp((BEGIN_MS + 400 * MINUTE_MS) / 1_000, UTC)
    assert f"{last:%Y-%m-%d %H:%M}" in out  # the next is due


def test_at_an_instant_only_what_was_before_counts(recording: Path, in_here: InHere) -> None:
    at = datetime.fromtimestamp((BEGIN_MS + 25 * MINUTE_MS) / 1_000, UTC).isoformat()
    code, out, _ = in_here("explain", "mine", "--log", recording, "--at", at, "--json")
    assert not code
    assert '"requests":3' in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nobody", "--log", "RECORDING"), "no request of the app 'nobody' is recorded"),
        (("mine", "--log", "no-such-folder"), "is no recording"),
        (("mine", "--log", "RECORDING", "--at", "noon"), "--at noon"),
        (
            ("mine", "--log", "RECORDING", "--at", "1999-01-01"),
            "first request of the app 'mine' came",
        ),
        (("mine", "--log", "RECORDING", "--policy", "nosuch"), "there is no policy"),
        (("mine", "--log", "RECORDING", "--scaler", "127.0.0.1:1"), "leave out --scaler"),
        (("mine", "--price", "1"), "go with --log"),
        (("mine", "--scaler", "127.0.0.1:1"), "no explanation (UNAVAILABLE)"),
        (("mine", "--scaler", "nowhere"), "--scaler nowhere"),
    ],
)
def test_a_mistake_is_one_line(
    recording: Path, arguments: tuple[str, ...], says: str, in_here: InHere
) -> None:
    words = [str(recording) if each == "RECORDING" else each for each in arguments]
    code, out, err = in_here("explain", *words)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert says in err
