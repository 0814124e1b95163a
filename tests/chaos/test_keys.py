"""The short variant of `make keys`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.chaos import keys


def test_keys_without_end_do_not_fill_memory(tmp_path: Path) -> None:
    outcome = asyncio.run(keys.hostile(tmp_path, count=3_000, apps=250))
    assert outcome.most_apps == 250
    assert outcome.slots == outcome.waiting == outcome.ledger_rows == 0
    # One object left of each key would be 2,000 more.
    assert outcome.objects[-1] < outcome.objects[0] + 1_000
