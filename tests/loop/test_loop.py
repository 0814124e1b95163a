"""Short variants of `make reload` and `make loop`: what must hold whatever the machine is at."""

from __future__ import annotations

from pathlib import Path

from tests.bench.table import Row
from tests.loop import reload, week


def seen(rows: list[Row], what: str) -> float:
    """Of the first row that begins so."""
    return next(row.seen for row in rows if row.what.startswith(what))


def test_no_request_fails_or_is_started_for_when_versions_come(tmp_path: Path) -> None:
    size = reload.Size(reloads=3, apps=16, known_apps=50, warm_s=0.5)
    rows = reload.run(size, tmp_path)
    assert seen(rows, "versions taken up") == 2
    assert seen(rows, "versions refused") == 1
    assert seen(rows, "requests that failed") == 0
    assert seen(rows, "requests that waited for a start") == 0


def test_two_nights_by_the_real_commands(tmp_path: Path) -> None:
    rows = week.run(week.Size(apps=10, requests_a_day=2_400, days=2, shift=2), tmp_path)
    assert rows[0].what == "night 1: promoted"
    assert seen(rows, "retrain on corrupted data: promotions") == 0
    assert seen(rows, "  its exit code") == 2
