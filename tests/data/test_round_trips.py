"""Any trace written comes back as it was, in every format that we write."""

from __future__ import annotations

import tarfile
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from tests.traces import shared_day, trace_of
from warmscaler.data.read import read_trace, write_trace
from warmscaler.data.trace import LIMITS, App, Trace, TraceError, check_arrivals

_key = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    of = {name: st.integers(*limits) for name, limits in LIMITS.items()}
    keys = draw(st.lists(_key, min_size=1, max_size=6, unique=True))
    apps = tuple(
        App(key, draw(_key), *(draw(of[name]) for name in ("memory_mb", "timeout_s", "init_ms")))
        for key in keys
    )
    of["app"] = st.integers(0, len(apps) - 1)
    row = st.tuples(*(of[name] for name in ("arrival_ms", "app", "duration_ms", "status_code")))
    rows = np.array(sorted(draw(st.lists(row, min_size=1, max_size=40))), dtype=np.int64)
    arrival_ms, app, duration_ms, status_code = rows.T.copy()
    try:
        check_arrivals(arrival_ms, "any", "arrival_ms")
    except TraceError:
        reject()  # seconds, see below
    return Trace("any", apps, arrival_ms, app, duration_ms, status_code, ("drawn by hand",))


def assert_same(read: Trace, written: Trace) -> None:
    """The same requests in the same order, and the same apps in whatever order."""
    assert set(read.apps) == set(written.apps)
    assert len(read.apps) == len(written.apps)
    for name in ("arrival_ms", "duration_ms", "status_code"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name), name)
        assert getattr(read, name).dtype == np.int64
    assert [read.apps[i] for i in read.app] == [written.apps[i] for i in written.app]


@pytest.mark.parametrize("name", ["one.parquet", "folder"])
@given(trace=traces())
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(name: str, trace: Trace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / name
        write_trace(trace, target)
        assert_same(read_trace(target), trace)
        left = {file.name for file in Path(folder).rglob("*") if file.is_file()}
        assert left == ({"one.parquet"} if name == "one.parquet" else {"requests", "metas"})


@given(trace=traces(), cuts=st.lists(st.integers(0, 40), max_size=3))
@settings(max_examples=30, deadline=None)
def test_a_folder_of_segments_is_one_trace(trace: Trace, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(trace)) for cut in cuts), len(trace)]
    with tempfile.TemporaryDirectory() as folder:
        for index, (low, high) in enumerate(pairwise(edges)):
            part = trace._rows(slice(low, high))
            write_trace(part, Path(folder) / f"{index:04}.parquet")
        read = read_trace(folder)
    assert_same(read, trace)
    assert read.notes == ("drawn by hand",)


def test_a_conversion_keeps_the_notes(tmp_path: Path) -> None:
    trace = trace_of([(0, 0, 5)])
    noted = Trace(trace.name, trace.apps, *_columns(trace), notes=("durations are drawn",))
    write_trace(noted, tmp_path / "t.parquet")
    assert read_trace(tmp_path / "t.parquet").notes == ("durations are drawn",)


def test_a_torn_segment_is_left_out_and_said(tmp_path: Path) -> None:
    write_trace(trace_of([(1_000, 0, 5)]), tmp_path / "a.parquet")
    write_trace(trace_of([(2_000, 0, 5)]), tmp_path / "b.parquet")
    whole = (tmp_path / "b.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])
    trace = read_trace(tmp_path)
    assert list(trace.arrival_ms) == [1_000]
    assert len(trace.notes) == 1
    assert "left out" in trace.notes[0]
    assert "b.parquet" in trace.notes[0]


def test_an_app_that_changes_is_what_it_was_last(tmp_path: Path) -> None:
    write_trace(trace_of([(1_000, 0, 5)], memory_mb=[128]), tmp_path / "a.parquet")
    write_trace(trace_of([(2_000, 0, 5)], memory_mb=[256]), tmp_path / "b.parquet")
    assert [app.memory_mb for app in read_trace(tmp_path).apps] == [256]


def _frame() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "arrival_ms": [5, 7],
            "app": ["a", "b"],
            "runtime": ["go", "go"],
            "memory_mb": [128, 256],
            "timeout_s": [60, 60],
            "init_ms": [100, 200],
            "duration_ms": [1, 2],
            "status_code": [200, 500],
        }
    )


def test_a_file_of_another_tool_is_read(tmp_path: Path) -> None:
    # Dictionary-encoded text and narrow integers, as a recorder or pandas would write them.
    frame = _frame().with_columns(
        pl.col("app", "runtime").cast(pl.Categorical), pl.col("memory_mb").cast(pl.UInt32)
    )
    frame.write_parquet(tmp_path / "t.parquet")
    trace = read_trace(tmp_path / "t.parquet")
    assert trace.apps == (App("a", "go", 128, 60, 100), App("b", "go", 256, 60, 200))
    assert list(trace.status_code) == [200, 500]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"memory_mb": [128, 0]}, "column `memory_mb`, row 2: 0"),
        (
            {"memory_mb": [128, 128 << 20]},
            "16777216; it looks like bytes: divide by 1,048,576",
        ),
        (
            {"arrival_ms": [1_700_000_000, 1_700_000_100]},
            "it looks like seconds; multiply by 1,000",
        ),
        ({"arrival_ms": [5, 1_700_000_000_000_000]}, "it looks like microseconds: divide by 1,000"),
        ({"duration_ms": [-1, 2]}, "column `duration_ms`, row 1: -1"),
        ({"arrival_ms": [1.5, 2.5]}, "column `arrival_ms` has type Float64"),
        ({"arrival_ms": [5, 2**64 - 1]}, "column `arrival_ms`, row 2"),
        ({"app": [1, 2]}, "column `app` has type Int64"),
        ({"app": ["a", None]}, "column `app` has empty values"),
    ],
)
def test_bad_parquet_columns(tmp_path: Path, change: dict[str, list[object]], says: str) -> None:
    columns = [
        pl.Series(name, values, dtype=pl.UInt64 if 2**64 - 1 in values else None)
        for name, values in change.items()
    ]
    _frame().with_columns(columns).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(TraceError) as caught:
        read_trace(tmp_path / "t.parquet")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ('{"version": 2}', "format version 2, this program reads 1"),
        ('{"idle_apps": [{"key": "x"}]}', "metadata `scaler.trace` is not what was written"),
        ("[1]", "metadata `scaler.trace` is not what was written"),
        ("[" * 100_000, "metadata `scaler.trace` is not what was written"),
    ],
)
def test_bad_parquet_metadata(tmp_path: Path, metadata: str, says: str) -> None:
    _frame().write_parquet(tmp_path / "t.parquet", metadata={"scaler.trace": metadata})
    with pytest.raises(TraceError, match=r"t\.parquet") as caught:
        read_trace(tmp_path / "t.parquet")
    assert says in str(caught.value)


def test_a_missing_column_and_no_parquet_at_all(tmp_path: Path) -> None:
    _frame().drop("init_ms").write_parquet(tmp_path / "a.parquet")
    with pytest.raises(TraceError, match="column `init_ms` is missing"):
        read_trace(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_text("not parquet")
    with pytest.raises(TraceError, match="not a whole Parquet file"):
        read_trace(tmp_path / "b.parquet")


def test_the_shared_day(tmp_path: Path) -> None:
    day = shared_day()
    assert (len(day), len(day.apps), day.notes) == (238_725, 62, ())
    write_trace(day, tmp_path / "day.parquet")
    assert_same(read_trace(tmp_path / "day.parquet"), day)
    write_trace(day, tmp_path / "day")
    with tarfile.open(tmp_path / "again.tar.gz", "w:gz", compresslevel=1) as archive:
        archive.add(tmp_path / "day", "day")
    assert_same(read_trace(tmp_path / "again.tar.gz"), day)


@pytest.mark.parametrize("name", ["t.tar.gz", "t.csv", "t.json"])
def test_only_what_is_written_may_be_asked_for(tmp_path: Path, name: str) -> None:
    with pytest.raises(TraceError, match=r"name a \*\.parquet, or a folder"):
        write_trace(trace_of([(0, 0, 5)]), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_nothing_half_written_where_it_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "dir.parquet").mkdir()
    for target in ("file", "file/t.parquet", "dir.parquet"):
        with pytest.raises(TraceError):
            write_trace(trace_of([(0, 0, 5)]), tmp_path / target)
    assert {file.name for file in tmp_path.rglob("*")} == {"file", "dir.parquet"}


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("a model's")
    with pytest.raises(TraceError, match="name another"):
        write_trace(trace_of([(0, 0, 5)]), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["manifest.json"]
    write_trace(trace_of([(0, 0, 5)]), tmp_path / "set")
    write_trace(trace_of([(7, 0, 5)]), tmp_path / "set")  # a trace there is replaced
    assert read_trace(tmp_path / "set").arrival_ms.tolist() == [7]


def _columns(trace: Trace) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return trace.arrival_ms, trace.app, trace.duration_ms, trace.status_code
