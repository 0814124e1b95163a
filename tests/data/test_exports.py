"""Writings of numbers, times and records that exports use, each as its documentation shows it."""

from __future__ import annotations

import gzip
import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.data.test_formats import T0, facts, refusal, rows
from warmscaler.data.files import whole
from warmscaler.data.read import read_trace
from warmscaler.data.tables.build import layout_of
from warmscaler.data.trace import Trace

REPORT = (
    "REPORT RequestId: bf5f58db-ef7d-4cb2-b3c6-266eba1bbedb\tDuration: 121.00 ms\tBilled Duration:"
    " 387 ms\tMemory Size: 512 MB\tMax Memory Used: 301 MB\tInit Duration: 265.72 ms\t"
)


def read(tmp_path: Path, text: str | bytes, name: str = "f.csv") -> Trace:
    file = tmp_path / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_trace(file)


def refused(tmp_path: Path, text: str | bytes, name: str = "f.csv") -> str:
    file = tmp_path / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    said = refusal(file)
    assert said.startswith(str(file))
    return said


def test_decimal_commas_of_a_spreadsheet(tmp_path: Path) -> None:
    trace = read(
        tmp_path,
        "function;start;took (s);note\na;1717236000,25;0,12;1,2 and 3\nb;1717236001;2;\n",
    )
    assert rows(trace) == [("a", 250, 120, 200), ("b", 1_000, 2_000, 200)]
    assert "commas in `start`, `took (s)` taken as decimal points" in trace.notes
    # Between commas it may be a thousand's sign: not guessed.
    said = refused(tmp_path, 'function,start,took_ms\na,1717236000,"1,120"\n')
    assert ":2: field `took_ms` is no number: '1,120'" in said


@pytest.mark.parametrize(
    ("written", "after_ms"),
    [
        ("2024-06-01 12:00:00.25+02", 250),
        ("2024-06-01T10:00Z", 0),
        ("2024-06-01 10:00", 0),
        ("20240601T100000.250Z", 250),
        ("20240601T153000+0530", 0),
        ("2024-06-01 10:00:00.25 +0000 UTC", 250),
        ("2024-06-01 10:00:01 GMT", 1_000),
    ],
)
def test_other_writings_of_iso_8601(tmp_path: Path, written: str, after_ms: int) -> None:
    trace = read(tmp_path, f"app,start,duration_ms\na,{written},5\n")
    assert rows(trace) == [("a", after_ms, 5, 200)]


@pytest.mark.parametrize(
    ("written", "ms"),
    [
        *(("1m0.9s", 60_900), ("2h3m", 7_380_000), ("PT0.12S", 120), ("PT1M", 60_000)),
        *(("0:00:00.120", 120), ("0 days 00:00:01.500000", 1_500), ("1 day, 0:00:01", 86_401_000)),
        *(("1.2e-1 s", 120), ("20 ms", 20), ("4500µs", 4)),
    ],
)
def test_durations_as_text(tmp_path: Path, written: str, ms: int) -> None:
    trace = read(tmp_path, f'app,start,duration\na,1717236000,"{written}"\n')
    assert rows(trace) == [("a", 0, ms, 200)]
    said = refused(tmp_path, f'app,start,duration\na,1717236000,"{written}"\na,1717236000,1.5x\n')
    assert ":3: field `duration` is no duration with a unit: '1.5x'" in said


@pytest.mark.parametrize("written", ["512MB", "512Mi", "512M", "0.5 GiB", "524288k", "536870912 B"])
def test_memory_as_text(tmp_path: Path, written: str) -> None:
    trace = read(tmp_path, f"app,start,duration_ms,memory\na,1717236000,5,{written}\n")
    assert facts(trace) == {"a": (512, 1_000)}


def test_floats_of_nanoseconds_are_the_same_ms(tmp_path: Path) -> None:
    # A float keeps every 256th nanosecond, most of them just below a whole ms.
    at = [T0 + after for after in range(400)]
    frame = pl.DataFrame({"app": "a", "ts": at, "duration_ms": 1})
    for name, column in (
        ("ns", pl.col("ts").cast(pl.Float64) * 1e6),
        ("us", pl.col("ts").cast(pl.Float64) * 1e3),
        ("s", pl.col("ts").cast(pl.Float64) / 1e3),
    ):
        frame.with_columns(column.alias("ts")).write_parquet(tmp_path / f"{name}.parquet")
        assert read_trace(tmp_path / f"{name}.parquet").arrival_ms.tolist() == at
    text = "".join(f"a,{each}000000.0,1\n" for each in at)
    assert read(tmp_path, "app,ts,duration_ms\n" + text).arrival_ms.tolist() == at


def test_a_unit_in_a_name_that_cannot_be(tmp_path: Path) -> None:
    text = "app,start_ms,duration_ms\na,1717236000,1\na,1717236060,1\n"
    assert refused(tmp_path, text).endswith(
        "field `start_ms` is not in ms, as its name says: from 1717236000 on it looks like s since"
        " 1970; say it, as arrival=start_ms:s (or :ms, if it is)"
    )
    told = read_trace(tmp_path / "f.csv", layout=layout_of("arrival=start_ms:s"))
    assert told.arrival_ms.tolist() == [T0, T0 + 60_000]
    told = read_trace(tmp_path / "f.csv", layout=layout_of("arrival=start_ms:ms"))
    assert told.arrival_ms.tolist() == [1_717_236_000, 1_717_236_060]
    assert read(tmp_path, "app,start_ms,duration_ms\na,0,1\na,90000,1\n").arrival_ms[1] == 90_000
    at = datetime(2024, 6, 1, 10, tzinfo=UTC)
    pl.DataFrame({"app": ["a"], "start_ms": [at], "duration_ms": [1]}).write_parquet(
        tmp_path / "f.parquet"
    )
    assert read_trace(tmp_path / "f.parquet").arrival_ms.tolist() == [T0]


def test_text_of_other_tools(tmp_path: Path) -> None:
    text = "app,start,duration_ms,memory_mb\na,1717236000,5,NULL\n"
    assert rows(read(tmp_path, text.encode("utf-16"))) == [("a", 0, 5, 200)]
    assert facts(read(tmp_path, text)) == {"a": (256, 1_000)}
    assert ":3: not text in UTF-8; save it so" in refused(tmp_path, text.encode() + b"\xe9,1,1,1\n")


@pytest.mark.parametrize(
    ("begins", "says"),
    [
        (b"PK\x03\x04....", "packed with zip; unpack it first: unzip"),
        (b"\x28\xb5\x2f\xfd....", "packed with zstd; unpack it first: zstd -d"),
        (b"BZh9....", "packed with bzip2"),
        (b"\xfd7zXZ\x00....", "packed with xz"),
        (gzip.compress(bytes(257) + b"ustar"), "a tar archive; unpack it first"),
    ],
    ids=["zip", "zstd", "bzip2", "xz", "tar.gz"],
)
def test_what_is_packed_otherwise_says_so(tmp_path: Path, begins: bytes, says: str) -> None:
    assert says in refused(tmp_path, begins, "calls.csv")


def test_nested_columns_of_parquet(tmp_path: Path) -> None:
    row = {"function": {"name": "a"}, "at": datetime(2024, 6, 1, 10, tzinfo=UTC), "took": {"ms": 5}}
    pl.DataFrame([row]).write_parquet(tmp_path / "f.parquet")
    told = layout_of("arrival=at,duration=took.ms")
    trace = read_trace(tmp_path / "f.parquet", layout=told)
    assert rows(trace) == [("a", 0, 5, 200)]
    assert any("app=`function.name`" in note for note in trace.notes)
    assert rows(Trace.from_frame(pl.DataFrame([row]), arrival="at", duration="took.ms"))


def test_a_folder_of_parquet_is_one_table(tmp_path: Path) -> None:
    """As Spark, Athena and their like write one."""
    at = datetime(2024, 6, 1, 10, tzinfo=UTC)
    folder = tmp_path / "calls"
    folder.mkdir()
    (folder / "_SUCCESS").touch()
    for part, app in enumerate("ab"):
        row = {"function": [app], "start": [at], "took": [5]} | ({"memory": [512]} if part else {})
        pl.DataFrame(row).write_parquet(folder / f"part-{part}.snappy.parquet")
    trace = read_trace(folder)
    assert (trace.name, rows(trace)) == ("calls", [("a", 0, 5, 200), ("b", 0, 5, 200)])
    assert facts(trace) == {"a": (256, 1_000), "b": (512, 1_000)}
    assert (
        read_trace(folder, layout=layout_of("duration=took:s")).duration_ms.tolist() == [5_000] * 2
    )
    pl.DataFrame({"function": ["c"], "start": [[at]], "took": [5]}).write_parquet(
        folder / "z.parquet"
    )
    assert f"{folder}: row 3: field `start` is empty" in refusal(folder)
    (folder / "z.parquet").write_bytes(b"PAR1 torn")
    assert f"{folder / 'z.parquet'}: not a whole Parquet file" in refusal(folder)


def test_json_documents_one_after_another(tmp_path: Path) -> None:
    found = [{"app": "a", "start": T0 + after, "duration_ms": 5} for after in (0, 9)]
    for text in (
        "\n".join(json.dumps(each, indent=2) for each in found),
        "".join(json.dumps(each) for each in found),
    ):
        assert rows(read(tmp_path, text)) == [("a", 0, 5, 200), ("a", 9, 5, 200)]
    said = refused(tmp_path, json.dumps(found[0], indent=2) + "\n{\n")
    assert f"{tmp_path / 'f.csv'}:7: not JSON" in said


def _activation(name: str, after_ms: int, kind: str = "nodejs:20") -> dict[str, Any]:
    return {
        "namespace": "guest", "name": name, "activationId": f"{after_ms:032x}",
        "start": T0 + after_ms, "end": T0 + after_ms + 80, "duration": 80,
        "response": {"status": "success", "statusCode": 0, "success": True},
        "annotations": [
            {"key": "path", "value": f"guest/{name}"},
            {"key": "kind", "value": kind},
            {"key": "limits", "value": {"memory": 512, "timeout": 60_000}},
        ],
    }  # fmt: skip


WHISK = [_activation("hello", 0), _activation("bye", 250)]
WHISK_ROWS = [("guest/hello", 0, 80, 200), ("guest/bye", 250, 80, 200)]


@pytest.mark.parametrize(
    "text",
    [
        "".join(
            f"ok: got activation {each['activationId']}\n{json.dumps(each, indent=4)}\n"
            for each in WHISK
        ),
        "activations\n" + "".join(json.dumps(each, indent=4) + "\n" for each in WHISK),
        json.dumps(
            {
                "total_rows": 3,
                "offset": 0,
                "rows": [
                    {"id": "_design/w", "key": "_design/w", "value": {}, "doc": {"views": {}}},
                    *({"id": "x", "key": "x", "value": {"rev": "1"}, "doc": doc} for doc in WHISK),
                ],
            }
        ),
        json.dumps(
            {"docs": [{"_id": "x", "_rev": "1", **doc} for doc in WHISK], "bookmark": "nil"}
        ),
    ],
    ids=["wsk get", "wsk list --full", "CouchDB _all_docs", "CouchDB _find"],
)
def test_activations_as_wsk_and_couchdb_give_them(tmp_path: Path, text: str) -> None:
    assert rows(read(tmp_path, text)) == WHISK_ROWS


def test_sequences_and_triggers_are_no_apps(tmp_path: Path) -> None:
    trigger = {**_activation("every-minute", 5), "end": 0, "annotations": []}
    del trigger["duration"]
    others = [trigger, _activation("both", 0, "sequence")]
    trace = read(tmp_path, json.dumps([*others, *WHISK]))
    assert rows(trace) == WHISK_ROWS
    assert trace.notes[0].startswith("2 activations of sequences and triggers left out")
    assert "sequences and triggers only" in refused(tmp_path, json.dumps(others))
    table = "Datetime            Activation ID                    Kind      Start\n2024-06-01\n"
    assert "wsk activation list --full" in refused(tmp_path, table)


def test_reports_where_sam_puts_them(tmp_path: Path) -> None:
    line = "2024/06/01/[$LATEST]0f1e 2024-06-01T10:00:00.521000 "
    assert rows(read(tmp_path, line + REPORT, "orders.log")) == [("orders", 134, 121, 200)]
    said = refused(tmp_path, REPORT, "orders.log")
    assert ":1: no time stands by its reports; export them with their times" in said


def test_reports_among_a_functions_own_lines(tmp_path: Path) -> None:
    """The JSON format of Lambda's logs."""
    lines = [
        {"timestamp": "2024-06-01T10:00:00.4Z", "level": "INFO", "message": "hi", "requestId": "1"},
        {
            "time": "2024-06-01T10:00:00.521Z",
            "type": "platform.report",
            "record": {
                "requestId": "1",
                "metrics": {"durationMs": 121.0, "memorySizeMB": 512, "initDurationMs": 265.72},
                "status": "success",
            },
        },
    ]
    trace = read(tmp_path, "\n".join(json.dumps(each) for each in lines), "orders.json")
    assert rows(trace) == [("orders", 134, 121, 200)]


def test_a_log_line_inside_a_collectors(tmp_path: Path) -> None:
    inner = {"httpRequest": {"status": 200, "latency": "0.12s"}}
    at = "2024-06-01T10:00:00.25Z"
    for line in (
        {
            "time": at,
            "kubernetes": {"labels": {"serving.knative.dev/service": "a"}},
            "log": json.dumps(inner) + "\n",
        },
        {"timestamp": at, "labels": {"k8s-pod/serving_knative_dev/service": "a"}, **inner},
    ):
        assert rows(read(tmp_path, json.dumps(line))) == [("a", 250, 120, 200)]


def test_lines_of_a_proxys_log_that_are_no_requests(tmp_path: Path) -> None:
    at = "2024-06-01T10:00:00.25Z"
    label = {"kubernetes": {"labels": {"serving.knative.dev/service": "a"}}, "time": at}
    knative = [
        label | {"message": "Starting queue-proxy", "severity": "INFO"},
        label | {"httpRequest": {"status": 200, "latency": "0.12s"}},
    ]
    envoy = [
        {"level": "info", "time": at, "msg": "Envoy proxy is ready"},
        {"start_time": at, "authority": "a", "duration": 120, "response_flags": "-"},
    ]
    for lines in (knative, envoy):
        trace = read(tmp_path, "\n".join(json.dumps(each) for each in lines))
        assert rows(trace) == [("a", 250, 120, 200)]
        assert "1 lines of the log that are no requests left out" in trace.notes


def test_one_day_of_azure_2019_is_a_folder(tmp_path: Path) -> None:
    header = "HashOwner,HashApp,HashFunction,Trigger,1,2\n"
    said = refused(
        tmp_path, header + "o,a,f,http,1,0\n", "invocations_per_function_md.anon.d01.csv"
    )
    assert "one file of Azure Functions 2019; give the folder that holds it" in said


def test_a_pipe_is_read_and_written_as_it_is(tmp_path: Path) -> None:
    """A shell's <(zstd -dc calls.csv.zst), and --out /dev/stdout."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(pipe.write_text, "app,start,duration_ms\na,1717236000,5\n")
        assert rows(read_trace(pipe)) == [("a", 0, 5, 200)]
        writing.result()
        reading = pool.submit(pipe.read_text)
        with whole(pipe) as file:
            file.write_text("told")
        assert reading.result() == "told"
    assert pipe.is_fifo()
    (tmp_path / "real").write_text("before")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with whole(tmp_path / "link") as file:
        file.write_text("after")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "after"
