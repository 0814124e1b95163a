"""The chaos run, short: one kill, one restart of the platform, every kind of fault; five kills."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.chaos import kills
from tests.chaos.__main__ import checks
from tests.chaos.scenario import chaos


def test_nothing_leaked_nothing_lost(tmp_path: Path) -> None:
    outcome = asyncio.run(
        chaos(tmp_path, duration_s=9.0, rate=30.0, kills=1, platform_restarts=1, seed=7, pace=0.2)
    )
    assert outcome.books.answers["ok"] > 50
    assert [each for each in checks(outcome) if not each.passed] == []


def test_killed_at_five_points(tmp_path: Path) -> None:
    killed = asyncio.run(kills.kills(tmp_path, count=5, seed=11, lanes=5))
    assert killed.kills == 5
    assert [each for each in kills.checks(killed) if not each.passed] == []
