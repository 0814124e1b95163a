"""The short variant of `make fuzz`."""

from __future__ import annotations

import asyncio

from tests.fuzz.__main__ import checks
from tests.fuzz.attack import attack


def test_three_thousand_messages() -> None:
    outcome = asyncio.run(attack(3_000, seed=7))
    failed = [row for row in checks(outcome, growth=0.25) if not row.passed]
    assert not failed, outcome
    assert sum(outcome.sent.values()) == 3_000
