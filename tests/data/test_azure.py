"""Azure Functions 2021 and 2019: what is in the files is kept, what is drawn is seeded and said."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from warmscaler.data.azure import FIRST_DAY_2019_MS
from warmscaler.data.read import read_trace
from warmscaler.data.trace import TraceError

HEAD_2021 = "app,func,end_timestamp,duration\n"
MINUTES = ",".join(str(minute) for minute in range(1, 1441))


def csv_2021(folder: Path, *rows: str) -> Path:
    path = folder / "trace.txt"
    path.write_text(HEAD_2021 + "".join(f"{row}\n" for row in rows))
    return path


def day_2019(folder: Path, day: int, rows: dict[tuple[str, str, str], dict[int, int]]) -> None:
    """`rows`: (app, function, trigger) → calls by minute, counted from 1."""
    text = [f"HashOwner,HashApp,HashFunction,Trigger,{MINUTES}"]
    for (app, function, trigger), calls in rows.items():
        counts = ",".join(str(calls.get(minute, 0)) for minute in range(1, 1441))
        text.append(f"owner,{app},{function},{trigger},{counts}")
    folder.mkdir(exist_ok=True)
    name = f"invocations_per_function_md.anon.d{day:02}.csv"
    (folder / name).write_text("\n".join(text) + "\n")


def refusal(path: Path) -> str:
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_name_with_brackets_is_a_name(tmp_path: Path) -> None:
    day_2019(tmp_path / "[t]", 1, {("a", "f", "http"): {5: 1}})
    assert len(read_trace(tmp_path / "[t]")) == 1
    assert len(read_trace(csv_2021(tmp_path / "[t]", "a,f,5,1"))) == 1


def test_2021_starts_at_end_less_duration(tmp_path: Path) -> None:
    path = csv_2021(tmp_path, "a,f,10.5,0.25", "b,g,10.0,9.0", "a,h,12.0,0.0")
    trace = read_trace(path)
    assert [app.key for app in trace.apps] == ["b", "a"]
    assert list(trace.arrival_ms) == [1_000, 10_250, 12_000]
    assert list(trace.duration_ms) == [9_000, 250, 0]
    assert any("start-up times" in note for note in trace.notes)
    assert any("170 MB" in note for note in trace.notes)
    assert read_trace(path).apps == trace.apps
    assert read_trace(path, seed=1).apps != trace.apps


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("a,f,soon,1", ":3: field `end_timestamp` is not a number: 'soon'"),
        ("a,f,1,nan", ":3: field `duration` is not a time in seconds, of 604800 at most: nan"),
        ("a,f,inf,1", ":3: field `end_timestamp` is not a time in seconds, of 253402300800"),
        ("a,f,900000000000,1", ":3: field `end_timestamp` is not a time in seconds, of"),
        ("a,f,10,604801", ":3: field `duration` is not a time in seconds, of 604800 at most"),
        ("a,f,10,-1", ":3: field `duration` is negative: -1.0"),
        ("a,f,10,", ":3: field `duration` is missing"),
        (",f,10,1", ":3: field `app` is missing"),
        ("a,f,10,1,7", "trace.txt: "),
    ],
)
def test_bad_2021(tmp_path: Path, row: str, says: str) -> None:
    assert says in refusal(csv_2021(tmp_path, "a,f,5,1", row))
    assert "no requests in it" in refusal(csv_2021(tmp_path))


def test_2021_columns_in_any_order_and_gzipped(tmp_path: Path) -> None:
    plain = read_trace(csv_2021(tmp_path, "a,f,10.5,0.25", "b,g,10.0,9.0"))
    raw = b"\xef\xbb\xbffunc,duration,app,end_timestamp\r\nf,0.25,a,10.5\r\ng,9.0,b,10.0\r\n"
    packed = tmp_path / "trace.csv.gz"
    packed.write_bytes(gzip.compress(raw))
    trace = read_trace(packed)
    assert trace.name == "trace"
    assert trace.apps == plain.apps
    assert list(trace.arrival_ms) == list(plain.arrival_ms)
    packed.write_bytes(gzip.compress(raw)[:20])
    assert "not a whole gzip file" in refusal(packed)


def test_2019_keeps_each_minutes_calls(tmp_path: Path) -> None:
    every_five = dict.fromkeys(range(2, 1441, 5), 1)
    day_2019(tmp_path / "t", 1, {("a", "f", "http"): {1: 3, 1440: 2}, ("b", "g", "timer"): {7: 4}})
    day_2019(tmp_path / "t", 2, {("a", "f", "http"): {10: 1}, ("c", "h", "queue"): every_five})
    (tmp_path / "t/function_durations_percentiles.anon.d01.csv").write_text(
        "HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum\n"
        "owner,b,g,20,100,1,50\nowner,c,other,1000,1,1,1\nowner,c,other2,10,99,1,1\n"
    )
    (tmp_path / "t/app_memory_percentiles.anon.d01.csv").write_text(
        "HashOwner,HashApp,SampleCount,AverageAllocatedMb\nowner,a,10,130\nowner,b,10,3\n"
    )
    trace = read_trace(tmp_path / "t")
    assert np.all(np.diff(trace.arrival_ms) >= 0)
    minute = (trace.arrival_ms - FIRST_DAY_2019_MS) // 60_000 + 1
    index = {app.key: number for number, app in enumerate(trace.apps)}

    def minutes_of(key: str) -> list[int]:
        return [int(value) for value in minute[trace.app == index[key]]]

    assert minutes_of("a") == [1, 1, 1, 1440, 1440, 1450]
    assert minutes_of("b") == [7, 7, 7, 7]
    assert minutes_of("c") == [1440 + value for value in every_five]
    # c fires like a clock: always at about the same place of its minute.
    places_ms = trace.arrival_ms[trace.app == index["c"]] % 60_000
    assert np.ptp(places_ms) < 6_000
    # Its functions' durations weigh by their counts: (1000 + 99 x 10) / 100 is about 20 ms.
    assert 15 < trace.duration_ms[trace.app == index["c"]].mean() < 25
    assert [trace.apps[index[key]].memory_mb for key in "abc"] == [128, 64, 170]
    assert "1 apps lack durations: 1000 ms assumed" in trace.notes
    assert "1 apps lack memory: 170 MB assumed" in trace.notes
    assert sum("drawn" in note for note in trace.notes) == 3
    for file in [*(tmp_path / "t").glob("*.csv")]:
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    packed = read_trace(tmp_path / "t")
    assert packed.apps == trace.apps
    np.testing.assert_array_equal(packed.arrival_ms, trace.arrival_ms)
    np.testing.assert_array_equal(packed.duration_ms, trace.duration_ms)


def test_2019_draws_do_not_depend_on_the_neighbours(tmp_path: Path) -> None:
    a, b = ("a", "f", "http"), ("b", "g", "http")
    day_2019(tmp_path / "both", 1, {b: {3: 9}, a: {5: 20, 9: 1}})
    day_2019(tmp_path / "one", 1, {a: {5: 20, 9: 1}})
    both, one = read_trace(tmp_path / "both").only(["a"]), read_trace(tmp_path / "one")
    assert both.apps == one.apps
    np.testing.assert_array_equal(both.arrival_ms, one.arrival_ms)
    np.testing.assert_array_equal(both.duration_ms, one.duration_ms)
    assert len(one) == 21
    assert read_trace(tmp_path / "one", seed=1).apps != one.apps


def test_bad_2019(tmp_path: Path) -> None:
    day_2019(tmp_path / "t", 1, {("a", "f", "http"): {}})
    assert "no invocations" in refusal(tmp_path / "t")
    day_2019(tmp_path / "t", 1, {("a", "f", "http"): {5: 1}, ("b", "f", "http"): {6: -2}})
    assert ".d01.csv:3: field `6` is negative: -2" in refusal(tmp_path / "t")
    day_2019(tmp_path / "t", 1, {("a", "f", "http"): {5: 10**12}})
    assert ".d01.csv:2: field `5` is above 100000000: 1000000000000" in refusal(tmp_path / "t")
    rows = {(app, "f", "http"): {5: 10**8} for app in "ab"}
    day_2019(tmp_path / "t", 1, rows)
    assert "keep fewer apps or days" in refusal(tmp_path / "t")
    file = tmp_path / "t/invocations_per_function_md.anon.d01.csv"
    file.write_text("HashApp,Trigger,1,2\na,http,1,many\n")
    assert f"{file}:2: field `2` is not a whole number: 'many'" in refusal(tmp_path / "t")
    file.write_text("HashOwner,Trigger,1,2\na,http,1,1\n")
    assert "column `HashApp` is missing" in refusal(tmp_path / "t")
    file.write_text("")
    assert refusal(tmp_path / "t").startswith(str(file))
    file.write_text("HashApp,Trigger,1,2\na,http,1,1\n")
    assert len(read_trace(tmp_path / "t")) == 2
    (tmp_path / "t/app_memory_percentiles.anon.d01.csv").write_text("HashApp\na\n")
    assert "column `AverageAllocatedMb` is missing" in refusal(tmp_path / "t")


def test_2019_draws_executions_from_the_percentiles_of_several_days(tmp_path: Path) -> None:
    for day in (1, 2):
        day_2019(tmp_path / "t", day, {("a", "f", "http"): dict.fromkeys(range(1, 1001), 2)})
    names = "HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum," + ",".join(
        f"percentile_Average_{each}" for each in (0, 1, 25, 50, 75, 99, 100)
    )
    for day, scale in ((1, 1), (2, 3)):  # the second day ran as often: twice as long on average
        values = ",".join(str(scale * each) for each in (10, 20, 50, 100, 400, 1000, 5000))
        file = tmp_path / "t" / f"function_durations_percentiles.anon.d{day:02}.csv"
        file.write_text(f"{names}\no,a,f,{scale * 300},2000,1,9000,{values}\n")
    trace = read_trace(tmp_path / "t")
    assert len(trace) == 4_000
    assert trace.arrival_ms[-1] - trace.arrival_ms[0] > 86_400_000
    quantiles = np.quantile(trace.duration_ms, [0.25, 0.5, 0.75])
    assert quantiles == pytest.approx([100, 200, 800], rel=0.15)
    assert trace.duration_ms.min() >= 20
    assert trace.duration_ms.max() <= 10_000
    assert any("from the function's percentiles" in note for note in trace.notes)
