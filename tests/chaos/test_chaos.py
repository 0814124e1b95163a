"""The chaos run, short: one kill, one restart of the platform, every kind of fault."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.chaos.__main__ import checks
from tests.chaos.scenario import chaos


def test_nothing_leaked_nothing_lost(tmp_path: Path) -> None:
    outcome = asyncio.run(
        chaos(tmp_path, duration_s=9.0, rate=30.0, kills=1, platform_restarts=1, seed=7)
    )
    assert outcome.books.answers["ok"] > 50
    assert [each for each in checks(outcome) if not each.passed] == []
