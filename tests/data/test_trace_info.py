"""`scaler trace info` on one small file of each format: it says what was taken for what."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from tests.cli.conftest import InHere, in_here

__all__ = ["in_here"]
HERE = Path(__file__).with_name("formats")
SAID = {
    "calls.csv": "arrival=`ts` (s since 1970), duration=`took_ms` (ms), app=`fn`",
    "export.csv": "arrival=`Start (UTC)` (ISO 8601, without a zone: UTC taken), duration=`Duration (s)`"
    " (s), app=`Function Name`, memory=`Memory (GB)` (GB), status=`HTTP status`",
    "jobs.jsonl": "end=`finished_at` (ns since 1970), duration=`elapsed_us` (us), arrival=end less"
    " duration, app=`service`, status=`success`",
    "calls.parquet": "arrival=`started_at` (datetimes), duration=`took` (durations), app=`function`",
    "activations.json": "duration=`run` (ms), app=`action`, memory=`memory` (MB), init=`initTime` (ms)",
    "orders.log": "end=`end` (ISO 8601), duration=`duration` (ms), arrival=end less duration,"
    " app='orders' everywhere",
    "filter-log-events.json": "end=`end` (ms since 1970), duration=`duration` (ms)",
    "logs-insights-results.csv": "app=`app`, memory=`memory` (MB), init=`init` (ms), status=`status`",
    "envoy.jsonl": "duration=`duration` (ms, as no unit is named: say duration:s if it is another),"
    " app=`authority`, status=`response_code`",
    "knative.jsonl": "arrival=`@timestamp` (ISO 8601), duration=`httpRequest.latency` (numbers with"
    " units)",
}


@pytest.mark.parametrize("name", SAID)
def test_each_format_says_what_was_taken_for_what(
    name: str, tmp_path: Path, in_here: InHere
) -> None:
    path = HERE / name
    if name == "calls.parquet":
        path = tmp_path / name
        at = datetime(2024, 6, 1, 10, tzinfo=UTC)
        columns = {"function": ["a"], "started_at": [at], "took": [timedelta(milliseconds=120)]}
        pl.DataFrame(columns).write_parquet(path)
    code, out, err = in_here("trace", "info", path, "--json")
    assert not code, err
    (read,) = [note for note in json.loads(out)["notes"] if note.startswith("read as ")]
    assert SAID[name] in read


def test_every_file_is_asked() -> None:
    assert {each.name for each in HERE.iterdir()} | {"calls.parquet"} == set(SAID)


def test_columns_as_they_are_told(in_here: InHere) -> None:
    code, out, err = in_here(
        *("trace", "info", HERE / "calls.csv", "--json"),
        *("--map", "app=fn,arrival=ts,duration=took_ms"),
    )
    assert not code, err
    told = json.loads(out)
    assert (told["requests"], told["apps"]) == (3, 2)
    assert SAID["calls.csv"] in told["notes"][0]
