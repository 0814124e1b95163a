"""Traces as their owners have them: small files after the public documentation of each format.

Every file names units and columns its own way. What each must be read as is worked out by hand.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmscaler.data.read import formats_text, read_app_facts, read_trace
from warmscaler.data.tables.build import Layout, layout_of
from warmscaler.data.trace import Trace, TraceError

HERE = Path(__file__).with_name("formats")
T0 = 1_717_236_000_000  # 2024-06-01 10:00:00 UTC


def rows(trace: Trace) -> list[tuple[str, int, int, int]]:
    """(app, ms after T0, duration in ms, status) of each request."""
    return [
        (trace.apps[app].key, at - T0, ran, status)
        for app, at, ran, status in zip(
            trace.app.tolist(),
            trace.arrival_ms.tolist(),
            trace.duration_ms.tolist(),
            trace.status_code.tolist(),
            strict=True,
        )
    ]


def facts(trace: Trace) -> dict[str, tuple[int, int]]:
    """(memory in MB, start-up time in ms) by app."""
    return {app.key: (app.memory_mb, app.init_ms) for app in trace.apps}


def refusal(path: Path | str, layout: Layout | None = None) -> str:
    with pytest.raises(TraceError) as caught:
        read_trace(path, layout=layout)
    said = str(caught.value)
    assert "\n" not in said
    return said


THREE = [("orders", 250, 120, 200), ("images", 1_500, 900, 200), ("orders", 61_000, 81, 200)]


def test_csv_as_told() -> None:
    told = layout_of("app=fn,arrival=ts,duration=took_ms", memory_mb=512, init_ms=700)
    trace = read_trace(HERE / "calls.csv", layout=told)
    assert rows(trace) == THREE
    assert facts(trace) == {"orders": (512, 700), "images": (512, 700)}
    assert trace.name == "calls"
    said = "; ".join(trace.notes)
    assert "app=`fn`" in said
    assert "arrival=`ts` (s since 1970)" in said
    assert "duration=`took_ms` (ms)" in said
    assert "512 MB each (--memory-mb)" in said
    assert "700 ms each (--init-ms)" in said
    assert rows(read_trace(HERE / "calls.csv")) == THREE  # the names are usual ones
    assert "1,000 ms each (a default: see --init-ms)" in "; ".join(
        read_trace(HERE / "calls.csv").notes
    )


def test_csv_of_a_spreadsheet() -> None:
    trace = read_trace(HERE / "export.csv")
    assert rows(trace) == [
        ("orders; eu", 250, 120, 200),
        ("images", 1_500, 900, 200),  # a 404 leaves the instance as good as it was
        ("images", 61_000, 80, 502),
    ]
    assert facts(trace) == {"orders; eu": (512, 1_000), "images": (2_048, 1_000)}
    assert any("without a zone: UTC taken" in note for note in trace.notes)


def test_json_lines_by_their_end() -> None:
    trace = read_trace(HERE / "jobs.jsonl")
    assert rows(trace) == [
        ("orders", 250, 120, 200),
        ("images", 1_500, 900, 500),
        ("orders", 61_000, 80, 200),
    ]
    assert any("end=`finished_at` (ns since 1970)" in note for note in trace.notes)


def test_parquet_of_another_tool(tmp_path: Path) -> None:
    start = [
        datetime(2024, 6, 1, 10, 0, 0, 250_000, UTC),
        datetime(2024, 6, 1, 10, 0, 1, tzinfo=UTC),
    ]
    pl.DataFrame(
        {
            "function": ["orders", "images"],
            "started_at": start,
            "duration": [timedelta(milliseconds=120), timedelta(seconds=2)],
            "memory_bytes": [512 * 2**20, 2**31],
            "cold_start_ms": [0.0, 8_123.4],
            "exit_code": [0, 137],
        }
    ).write_parquet(tmp_path / "calls.parquet")
    told = layout_of("init=cold_start_ms,status=exit_code")
    trace = read_trace(tmp_path / "calls.parquet", layout=told)
    assert rows(trace) == [("orders", 250, 120, 200), ("images", 1_000, 2_000, 200)]
    assert facts(trace) == {"orders": (512, 8_123), "images": (2_048, 8_123)}


def test_openwhisk() -> None:
    trace = read_trace(HERE / "activations.json")
    # start less wait; duration less initTime; statusCode 2 is the container's end
    assert rows(trace) == [
        ("guest/demo/hello", 250, 120, 200),
        ("guest/demo/hello", 4_990, 80, 500),
    ]
    (app,) = trace.apps
    assert (app.memory_mb, app.init_ms, app.runtime, app.timeout_s) == (512, 300, "nodejs:20", 30)


def test_lambda_plain() -> None:
    trace = read_trace(HERE / "orders.log")
    # 521 less 121 less 265.72 of start-up: it came at 134.28
    assert rows(trace) == [("orders", 134, 121, 200), ("orders", 57_300, 3_000, 500)]
    assert facts(trace) == {"orders": (512, 266)}
    assert any("orders, as the file is called" in note for note in trace.notes)
    told = layout_of("app==checkout")
    assert read_trace(HERE / "orders.log", layout=told).apps[0].key == "checkout"


def test_lambda_from_cloudwatch() -> None:
    trace = read_trace(HERE / "logs-insights-results.csv")
    assert rows(trace) == [("orders", 134, 121, 200), ("images", 8_998, 2, 200)]
    assert facts(trace) == {"orders": (512, 266), "images": (128, 266)}
    trace = read_trace(HERE / "filter-log-events.json")
    assert rows(trace) == [
        ("filter-log-events", 134, 121, 200),
        ("filter-log-events", 6_943, 56, 200),
    ]


def test_lambda_by_the_fields_of_logs_insights(tmp_path: Path) -> None:
    fields = [
        {"field": "@timestamp", "value": "2024-06-01 10:00:00.521"},
        {"field": "@log", "value": "123456789012:/aws/lambda/orders"},
        {"field": "@duration", "value": "121.0"},
        {"field": "@memorySize", "value": "5.12E8"},
        {"field": "@initDuration", "value": "265.72"},
        {"field": "@ptr", "value": "CmEK"},
    ]
    found = {"results": [fields], "statistics": {"recordsMatched": 1.0}, "status": "Complete"}
    (tmp_path / "r.json").write_text(json.dumps(found))
    trace = read_trace(tmp_path / "r.json")
    assert rows(trace) == [("orders", 134, 121, 200)]
    assert facts(trace) == {"orders": (512, 266)}


def test_envoy() -> None:
    trace = read_trace(HERE / "envoy.jsonl")
    assert rows(trace) == [("httpbin:8000", 409, 3, 200), ("reviews:9080", 4_100, 12, 503)]
    told = layout_of("app=upstream_cluster")
    assert read_trace(HERE / "envoy.jsonl", layout=told).apps[0].key.endswith("svc.cluster.local")


def test_knative() -> None:
    trace = read_trace(HERE / "knative.jsonl")
    assert rows(trace) == [("orders", 250, 120, 200), ("images", 30_000, 1_500, 200)]


def test_stdin_and_gzip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = (HERE / "calls.csv").read_bytes()
    (tmp_path / "calls.csv.gz").write_bytes(gzip.compress(content))
    assert rows(read_trace(tmp_path / "calls.csv.gz")) == THREE
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert rows(read_trace("-")) == THREE


def test_a_file_without_a_header(tmp_path: Path) -> None:
    file = tmp_path / "calls.csv"
    file.write_text("orders,1717236000250,0.12\n")
    told = layout_of("app=1,arrival=2,duration=3:s")
    assert rows(read_trace(file, layout=told)) == [("orders", 250, 120, 200)]
    assert "--map app=1,arrival=2,duration=3:ms" in refusal(file)


def test_a_small_file_of_apps_stands_above_the_trace(tmp_path: Path) -> None:
    (tmp_path / "apps.csv").write_text(
        "app,memory_mb,init_s,runtime\norders,640,2.4,go\nnobody,1,1,\n"
    )
    told = layout_of(apps=read_app_facts(tmp_path / "apps.csv"))
    trace = read_trace(HERE / "calls.csv", layout=told)
    assert facts(trace) == {"orders": (640, 2_400), "images": (256, 1_000)}
    assert trace.apps[0].runtime == "go"
    assert any("1 of 2 apps are without memory" in note for note in trace.notes)
    assert "not in the trace, of --apps: nobody" in trace.notes
    (tmp_path / "apps.csv").write_text("app,memory_mb\norders,640\norders,2\n")
    with pytest.raises(TraceError, match=r"apps\.csv:3: field `app` has a row already: 'orders'"):
        read_app_facts(tmp_path / "apps.csv")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns", "iso"])
def test_times_in_any_unit_are_alike(tmp_path: Path, unit: str) -> None:
    lines = ["fn,ts,took_ms"]
    for app, after, ran, _ in THREE:
        at = T0 + after
        written = {
            "iso": datetime.fromtimestamp(at / 1000, UTC).isoformat(),
            "s": f"{at / 1000:.3f}",
            "ms": str(at),
            "us": str(at * 1_000),
            "ns": str(at * 1_000_000),
        }
        lines.append(f"{app},{written[unit]},{ran}")
    (tmp_path / "f.csv").write_text("\n".join(lines))
    assert rows(read_trace(tmp_path / "f.csv")) == THREE


@given(
    at=st.integers(86_400_000 * 2_000, 4_102_444_800_000),
    zone=st.integers(-14 * 60, 14 * 60),
    digits=st.integers(0, 9),
)
def test_iso_times_of_any_zone_and_precision(
    tmp_path_factory: pytest.TempPathFactory, at: int, zone: int, digits: int
) -> None:
    local = datetime.fromtimestamp((at + zone * 60_000) // 1000, UTC)
    part = f"{at % 1000:03}000000"[:digits]
    kept = int(f"{part:0<3}"[:3]) if digits else 0
    offset = f"{'-' if zone < 0 else '+'}{abs(zone) // 60:02}:{abs(zone) % 60:02}"
    text = local.strftime("%Y-%m-%dT%H:%M:%S") + (f".{part}" if digits else "") + offset
    file = tmp_path_factory.mktemp("iso") / "f.csv"
    file.write_text(f"app,start,duration_ms\na,{text},1\n")
    assert read_trace(file).arrival_ms.tolist() == [at // 1000 * 1000 + kept]


HEAD = "fn,ts,took_ms\n"
GOOD = "a,1717236000,5\n"
BAD: list[tuple[str, str]] = [
    ("", "no rows after the header"),
    (GOOD + "a,,5\n", ":3: field `ts` is empty; fill it in"),
    (GOOD + ",1717236001,5\n", ":3: field `fn` is empty; fill it in"),
    (GOOD + "a,1717236001,\n", ":3: field `took_ms` is empty; fill it in"),
    (GOOD + "a,soon,5\n", ":3: field `ts` is no instant: 'soon'; write all as ISO 8601, day"),
    (GOOD + "a,1717236001,long\n", ":3: field `took_ms` is no number: 'long'"),
    (GOOD + "a,1717236001,nan\n", ":3: field `took_ms` is no number: 'nan'"),
    (GOOD + "a,1717236001,-5\n", ":3: field `took_ms` is negative: -5.0"),
    (GOOD + "a,1717236001,1e12\n", ":3: field `took_ms` is too large"),
    (
        GOOD + "a,1717236001000,5\n",
        "`ts` from 1717236000 to 1717236001000 is a time since 1970 in no",
    ),
    ('"a\nb",1717236001,5\n' + GOOD + "c,1717236001,x\n", ":5: field `took_ms` is no number: 'x'"),
    (GOOD + "a,1717236001,5,7\n", ":3: 4 fields where the first line has 3"),
    ("a,2024-06-01T10:00:00Z,1\na,yesterday,1\n", ":3: field `ts` is no instant by ISO 8601"),
]


@pytest.mark.parametrize(("body", "says"), BAD)
def test_bad_rows_say_file_line_and_field(tmp_path: Path, body: str, says: str) -> None:
    file = tmp_path / "f.csv"
    file.write_text(HEAD + body)
    said = refusal(file)
    assert said.startswith(str(file))
    assert says in said


def test_bad_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "f.jsonl"
    good = '{"app": "a", "start": 1717236000, "duration_ms": 5}\n'
    for bad, says in (
        ("{oops\n", ":3: not JSON; one object a line"),
        ("[1]\n", ":3: not a JSON object"),
        ('{"app": "a", "start": 1717236000}\n', ":3: field `duration_ms` is empty"),
        (
            '{"app": "a", "start": true, "duration_ms": 5}\n',
            ":3: field `start` is no instant: 'True'",
        ),
    ):
        file.write_text(good + "\n" + bad)
        assert says in refusal(file)
    file.write_text('[{"activationId": "x", "start": "soon"}]')
    assert "record 1: no whole activation" in refusal(file)
    file.write_text(good.replace('"a"', r'"\ud800"'))
    assert "half a character" in refusal(file)
    file.write_text(good.replace('"a"', r'"\ud800"').replace("5}", f"{-(10**30)}}}"))
    assert "half a character" in refusal(file)


def test_line_ends_of_old_spreadsheets(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_bytes((HEAD + GOOD * 2).replace("\n", "\r").encode())
    assert len(read_trace(file)) == 2


def test_all_that_is_missing_is_said_at_once_with_a_command_that_would_do(tmp_path: Path) -> None:
    file = tmp_path / "my calls.csv"
    file.write_text("wen,wer,wie\n2024-06-01T10:00:00Z,orders,120\n")
    said = refusal(file)
    for words in ("app (whose request", "arrival or end", "duration (how long", "wen, wer, wie"):
        assert words in said
    command = re.search(r"scaler trace info '(.*)' --map (\S+)$", said)
    assert command is not None
    assert command[1] == str(file)
    assert rows(read_trace(command[1], layout=layout_of(command[2]))) == [("orders", 0, 120, 200)]
    # What was told stays in the example; what is there is not asked for again.
    said = refusal(file, layout_of("app=wer"))
    assert "known as arrival" in said
    assert said.endswith("--map app=wer,arrival=wen,duration=wie:ms")


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ("app", "--map app: must be ROLE=COLUMN[:UNIT] with a role of app, arrival"),
        ("who=fn", "--map who=fn: must be ROLE=COLUMN"),
        ("app=", "--map app=: must be ROLE=COLUMN"),
        ("app=fn,app=ts", "app is named twice"),
        ("arrival==2024-06-01T10:00:00Z", "a request has an instant of its own; name a column"),
        ("duration=nosuch", "no column `nosuch` for duration; there is fn, ts, took_ms"),
        ("arrival=took_ms:s,end=ts:ms,app=fn", "calls.csv:2: field"),
    ],
)
def test_mistakes_in_what_is_told(told: str, says: str) -> None:
    with pytest.raises(TraceError) as caught:
        read_trace(HERE / "calls.csv", layout=layout_of(told))
    assert says in str(caught.value)


def test_a_layout_is_not_ignored(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/requests").write_text(
        '{"startTime": 1, "metaKey": "a", "durationsInMs": 3, "statusCode": 200}\n'
    )
    (tmp_path / "set/metas").write_text(
        '{"key": "a", "runtime": "go", "memoryInMb": 1, "timeoutInSecs": 1, "initDurationInMs": 1}\n'
    )
    assert "leave out --memory-mb" in refusal(tmp_path / "set", layout_of(memory_mb=5))
    with pytest.raises(TraceError, match="--memory-mb 0: must be a whole number of 1 to"):
        layout_of(memory_mb=0)


def test_the_page_names_every_role_and_default() -> None:
    page = formats_text()
    assert (Path(__file__).parents[2] / "docs/formats.md").read_text() == page
    for words in ("`app`", "`arrival`", "`end`", "`init`", "256 MB", "1,000 ms", "60 s", "--apps"):
        assert words in page
