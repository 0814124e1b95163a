"""The recorder: what it writes, reads back as a trace; what it must survive, it does."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from warmscaler.data.read import read_trace
from warmscaler.data.recording import JOURNAL, observed_create_ms, read_journal
from warmscaler.data.trace import TraceError
from warmscaler.models.policy import Instance, Pool
from warmscaler.service.observer import Served
from warmscaler.service.persistence.recording import DAY_S, Recorder, RecordingError
from warmscaler.service.proto import scaler_pb2 as pb

ROOT = Path(__file__).parents[2]
START_MS = 1_700_000_000_000.0


def tell(recorder: Recorder, count: int, first: int = 0, app: str = "nodes") -> None:
    """`count` warm requests of one app, a second apart, of 40 ms each."""
    meta = pb.Meta(key=app, runtime="go", timeout_in_secs=60, memory_in_mb=256)
    instance = Instance("i-1", Pool(app, 256, 1_500.0), START_MS)
    for number in range(first, first + count):
        at_ms = START_MS + 1_000.0 * number
        served = Served(f"r{number}", meta, instance, at_ms, at_ms, False)
        result = pb.Result(status_code=200, duration_in_ms=40)
        recorder.completed(at_ms + 40.0, served, result)


def started(recorder: Recorder, app: str = "nodes") -> None:
    """An instance of the app took 310 ms to create and 705 to initialise."""
    instance = Instance("i-1", Pool(app, 256, 1_500.0), START_MS)
    recorder.slot_created(START_MS + 310.0, instance)
    recorder.instance_ready(START_MS + 1_015.0, instance)


def test_what_is_recorded_reads_as_a_trace(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, segment_rows=100)
    recorder.start()
    started(recorder)
    tell(recorder, 250)
    meta = pb.Meta(key="other", runtime="java", timeout_in_secs=9, memory_in_mb=512)
    recorder.refused(START_MS + 5.0, meta, START_MS, "no", overload=False)
    recorder.gone(START_MS + 5.0, meta, START_MS)
    recorder.close()
    assert (recorder.recorded, recorder.dropped, recorder.problem) == (252, 0, None)
    trace = read_trace(tmp_path)
    assert trace.notes == ()
    assert len(trace) == 250  # what was not executed is no part of a trace
    (app,) = trace.apps
    assert (app.key, app.runtime, app.memory_mb, app.timeout_s) == ("nodes", "go", 256, 60)
    assert app.init_ms == 705
    assert observed_create_ms(tmp_path) == 310.0
    assert trace.arrival_ms.tolist() == [int(START_MS) + 1_000 * n for n in range(250)]
    assert set(trace.duration_ms.tolist()) == {40}
    tables = [pl.read_parquet(file) for file in sorted(tmp_path.glob("*.parquet"))]
    outcomes = pl.concat(tables)["outcome"].to_list()
    assert sorted(set(outcomes)) == ["gone", "kept", "refused"]


def test_a_bad_instance_reads_as_one(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.start()
    meta = pb.Meta(key="nodes", memory_in_mb=(1 << 64) - 1)
    served = Served("r", meta, Instance("i", Pool("nodes", 1, 1.0), 0.0), START_MS, START_MS, True)
    results = (
        pb.Result(status_code=404),  # the app's answer; its instance is kept
        pb.Result(status_code=200, need_destroy=True),
        pb.Result(status_code=503, need_destroy=True, duration_in_ms=(1 << 64) - 1),
        pb.Result(),
    )
    for number, result in enumerate(results):
        served.arrival_ms = START_MS + number
        recorder.completed(START_MS + 7.0, served, result)
    recorder.close()
    trace = read_trace(tmp_path)
    assert trace.status_code.tolist() == [200, 500, 503, 200]
    assert trace.duration_ms.tolist() == [
        7,
        7,
        7,
        7,
    ]  # what was measured, where what was said cannot be


@pytest.mark.parametrize(
    ("said_ms", "ran_ms", "recorded_ms"),
    [(100_000, 100.0, 100), (100, 100.0, 100), (99, 100.0, 99), (0, 99.2, 99), (1 << 63, 0.0, 0)],
)
def test_an_execution_is_at_most_from_assign_to_idle(
    tmp_path: Path, said_ms: int, ran_ms: float, recorded_ms: int
) -> None:
    recorder = Recorder(tmp_path)
    recorder.start()
    instance = Instance("i", Pool("nodes", 1, 1.0), 0.0)
    meta = pb.Meta(key="nodes", memory_in_mb=128)
    assigned_ms = START_MS + 900.0  # its wait is no part of it
    served = Served("r", meta, instance, START_MS, assigned_ms, True)
    recorder.completed(assigned_ms + ran_ms, served, pb.Result(duration_in_ms=said_ms))
    recorder.close()
    assert read_trace(tmp_path).duration_ms.tolist() == [recorded_ms]


def test_the_open_segment_is_read_too_and_closed_by_the_next_start(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.start()
    tell(recorder, 50)
    while recorder.recorded < 50:
        time.sleep(0.01)
    assert len(read_trace(tmp_path)) == 50
    other = Recorder(tmp_path)  # a second process on the same folder leaves the first alone
    other.start()
    tell(other, 20, first=50)
    other.close()
    assert len(list(tmp_path.glob(f"*{JOURNAL}"))) == 1
    assert len(read_trace(tmp_path)) == 70
    recorder.close()
    assert not list(tmp_path.glob(f"*{JOURNAL}"))
    assert len(read_trace(tmp_path)) == 70


def test_torn_lines_and_segments_are_left_out(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, segment_rows=100)
    recorder.start()
    for turn in range(3):
        tell(recorder, 100, first=100 * turn)
        while len(list(tmp_path.glob("*.parquet"))) <= turn:
            time.sleep(0.01)
    recorder.close()
    first, second, third = sorted(tmp_path.glob("*.parquet"))
    first.write_bytes(first.read_bytes()[:-100])
    # One value is another, as a bad disk makes it: only the checksum knows.
    metadata = pl.read_parquet_metadata(second)
    table = pl.read_parquet(second).with_columns(duration_ms=pl.col("duration_ms") + 1)
    table.write_parquet(second, metadata={"scaler.trace": metadata["scaler.trace"]})
    trace = read_trace(tmp_path)
    assert len(trace) == 100
    assert [note.split(":")[0] for note in trace.notes] == ["left out", "left out"]
    third.write_bytes(b"")
    with pytest.raises(TraceError, match="no readable"):
        read_trace(tmp_path)


def test_old_segments_go_by_age_and_by_size(tmp_path: Path) -> None:
    old = tmp_path / "20200101T000000.000-00000000.parquet"
    strange = tmp_path / "mine.parquet"
    old.write_bytes(b"x")
    strange.write_bytes(b"x")
    recorder = Recorder(tmp_path, segment_rows=100, max_bytes=20_000)
    recorder.start()
    for turn in range(5):
        tell(recorder, 1_000, first=1_000 * turn)
        while recorder.recorded < 1_000 * (turn + 1):
            time.sleep(0.01)
    recorder.close()
    assert strange.exists()
    assert not old.exists()
    mine = [file for file in tmp_path.glob("*.parquet") if file != strange]
    assert mine
    assert sum(file.stat().st_size for file in mine) <= 20_000


def segment(folder: Path, day: float) -> Path:
    """A segment begun so many days after the first of January, 2026."""
    begun = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=day)
    file = folder / f"{begun:%Y%m%dT%H%M%S}.000-{round(day * 100):08x}.parquet"
    file.write_bytes(b"x" * 10)
    return file


def days_left(folder: Path) -> set[float]:
    return {int(file.stem[-8:], 16) / 100 for file in folder.glob("*.parquet")}


def test_a_clock_that_is_ahead_for_a_start_takes_nothing_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten days recorded; whatever the clock says now, they are the newest ten days there are."""
    days = {n / 2 for n in range(20)}
    for day in days:
        segment(tmp_path, day)
    Recorder(tmp_path, max_age_s=30.0 * DAY_S)._retain()  # today is months after them
    assert days_left(tmp_path) == days
    segment(tmp_path, 50.0)  # by a start forty days ahead
    Recorder(tmp_path, max_age_s=30.0 * DAY_S)._retain()
    assert days_left(tmp_path) == days | {50.0}
    assert not caplog.records
    with caplog.at_level("INFO"):
        Recorder(tmp_path, max_age_s=5.0 * DAY_S)._retain()
    left = days_left(tmp_path)
    assert left == {day for day in days if day >= 5.0} | {50.0}  # the forty count as half a day
    [said] = caplog.messages
    assert said.startswith(
        "took 10 of 21 segments away, begun from 20260101T000000.000 to 20260105"
    )


def test_the_newest_segment_is_never_taken_away(tmp_path: Path) -> None:
    for day in (0.0, 1.0):
        segment(tmp_path, day)
    Recorder(tmp_path, max_bytes=0, max_age_s=0.0)._retain()
    assert days_left(tmp_path) == {1.0}


def test_what_is_recorded_goes_by_the_clock_as_it_is_set_by_then(tmp_path: Path) -> None:
    """The driver's clock was a day behind when it began, and never goes any other way."""
    behind_ms = time.time() * 1000.0 - START_MS
    recorder = Recorder(tmp_path)
    recorder.start(now_ms=lambda: time.time() * 1000.0 - behind_ms)
    tell(recorder, 2)
    recorder.close()
    [first, second] = read_trace(tmp_path).arrival_ms.tolist()
    assert second - first == 1_000
    assert abs(first - (START_MS + behind_ms)) < 10_000.0


def test_a_segment_that_another_scaler_takes_away_is_no_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "20200101T000000.000-00000000.parquet"
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda self, what: [*glob(self, what), gone])
    recorder = Recorder(tmp_path)
    recorder._retain()


def test_a_segment_closed_while_journals_are_read_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorders = [Recorder(tmp_path), Recorder(tmp_path)]
    for number, recorder in enumerate(recorders):
        recorder.start()
        tell(recorder, 20, first=20 * number)
        while recorder.recorded < 20:
            time.sleep(0.01)
    read: list[Path] = []

    def closing(path: Path) -> tuple[pl.DataFrame, int]:
        if read:
            for recorder in recorders:
                recorder.close()
        read.append(path)
        return read_journal(path)

    monkeypatch.setattr("warmscaler.data.recording.read_journal", closing)
    assert len(read_trace(tmp_path)) == 40


def test_a_folder_that_cannot_be_one_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match="--record"):
        Recorder(tmp_path / "file")


FULL_DISK = """
import resource, sys, time
from pathlib import Path
from warmscaler.service.persistence import recording
from tests.service.test_recording import tell
recording.RETRY_S = 0.1
problems = []
recorder = recording.Recorder(Path(sys.argv[1]))
recorder.start(problems.append)
tell(recorder, 10)
while recorder.recorded < 10:
    time.sleep(0.01)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
tell(recorder, 1000, first=10)
while recorder.problem is None:
    time.sleep(0.01)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
number = 2000
while recorder.problem is not None:
    tell(recorder, 10, first=number)
    number += 10
    time.sleep(0.05)
recorder.close()
print(recorder.recorded, recorder.dropped, len(problems))
"""


def test_a_full_disk_stops_recording_with_an_alarm_until_there_is_room(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    recorded, dropped, alarms = map(int, done.stdout.split())
    assert alarms == 2  # raised and taken back
    assert dropped >= 1_000
    trace = read_trace(tmp_path)
    assert len(trace) == recorded >= 20
    assert trace.notes == ()


KILLED = """
import sys, time
from pathlib import Path
from warmscaler.service.persistence.recording import Recorder
from tests.service.test_recording import tell
recorder = Recorder(Path(sys.argv[1]), segment_rows=400, segment_s=0.7)
recorder.start()
first = int(sys.argv[2])
for number in range(first, first + 100_000):
    tell(recorder, 1, first=number)
    print(number, time.time(), flush=True)
    time.sleep(0.001)
"""


def kill_at(folder: Path, first: int, after_s: float) -> tuple[list[tuple[int, float]], float]:
    """Records from `first` on and is killed after `after_s`: what was told and when, and when."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, folder, str(first)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    told = [process.stdout.readline()]
    time.sleep(after_s)
    os.kill(process.pid, signal.SIGKILL)
    killed_s = time.time()
    told += process.stdout.read().split("\n")[:-1]  # the last line may be torn
    process.wait()
    pairs = [line.split() for line in told]
    return [(int(number), float(at_s)) for number, at_s in pairs], killed_s


def test_kills_cost_less_than_a_second_and_every_segment_reads(tmp_path: Path) -> None:
    chance = random.Random(5)
    first = 0
    expected: set[int] = set()
    for _ in range(4):
        told, killed_s = kill_at(tmp_path, first, chance.uniform(0.3, 2.0))
        expected |= {number for number, at_s in told if at_s < killed_s - 2.0}
        first = told[-1][0] + 1_000
        for file in tmp_path.glob("*.parquet"):
            pl.read_parquet(file)
    last = Recorder(tmp_path)
    last.start()
    last.close()
    assert not list(tmp_path.glob(f"*{JOURNAL}"))
    trace = read_trace(tmp_path)
    numbers = [round((at - START_MS) / 1_000.0) for at in trace.arrival_ms.tolist()]
    assert len(numbers) == len(set(numbers))  # nothing twice
    assert expected <= set(numbers)
