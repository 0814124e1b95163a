"""Whatever is wrong with a trace: one line that says what and where, exit code 2, nothing written."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.traces import trace_of
from warmscaler.data.read import read_trace, write_trace
from warmscaler.data.trace import TraceError


def meta(key: str = "a", **changes: Any) -> dict[str, Any]:
    about = {"runtime": "go", "memoryInMb": 128, "timeoutInSecs": 60, "initDurationInMs": 700}
    return {"key": key, **about, **changes}


def request(start: int = 1_000, key: str = "a", **changes: Any) -> dict[str, Any]:
    about = {"startTime": start, "metaKey": key, "durationsInMs": 30, "statusCode": 200}
    return about | changes


def lines(*rows: Any) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def contest(folder: Path, requests: bytes = lines(request()), metas: bytes = lines(meta())) -> Path:
    folder.mkdir(parents=True)
    (folder / "requests").write_bytes(requests)
    (folder / "metas").write_bytes(metas)
    return folder


def archive(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as packed:  # type: ignore[call-overload]
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            packed.addfile(entry, io.BytesIO(data))
    return path


def refusal(path: Path, **how: Any) -> str:
    with pytest.raises(TraceError) as caught:
        read_trace(path, **how)
    said = str(caught.value)
    assert "\n" not in said
    return said


def without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}


BAD_REQUESTS: list[tuple[bytes, str]] = [
    (b"", "empty"),
    (b" \n\n", "empty"),
    (b"hello\n", ":1: not JSON"),
    (b"[" * 100_000, ":1: not JSON"),
    (lines(request()) + b'{"startTime": 1, "meta', ":2: not JSON"),
    (lines(request()) + b"\xff\xfe\n", ":2: not JSON"),
    (lines(request(), [1, 2]), ":2: not a JSON object"),
    (lines(request(), without(request(), "metaKey")), ":2: field `metaKey` is missing"),
    (lines(request(), without(request(), "statusCode")), ":2: field `statusCode` is missing"),
    (lines(request(), request(durationsInMs=None)), ":2: field `durationsInMs` is missing"),
    (lines(request(), request(durationsInMs=-1)), ":2: field `durationsInMs` is negative: -1"),
    (lines(request(-5)), ":1: field `startTime` is negative: -5"),
    (lines(request(durationsInMs=1.5)), ":1: field `durationsInMs` must be a whole number"),
    (lines(request(durationsInMs=float("nan"))), ":1: not JSON"),
    (lines(request(2**64)), ":1: field `startTime` is too large"),
    (lines(request(), request(2**62)), ":2: field `startTime` is above 253402300799999: 46"),
    (lines(request(durationsInMs=2**40)), ":1: field `durationsInMs` is above 604800000: 1"),
    (lines(request(statusCode=2**40)), ":1: field `statusCode` is above 2147483647: 1"),
    (
        lines(request(1_700_000_000_000), request(1_700_000_001)),
        "some of it looks like seconds; multiply by 1,000",
    ),
    (
        lines(request(1_700_000_000)),
        "would be 1970-01-20: it looks like seconds; multiply by 1,000",
    ),
    (lines(request(1_700_000_000 * 10**6)), "it looks like microseconds: divide by 1,000"),
    (lines(request(1_700_000_000 * 10**9)), "it looks like nanoseconds: divide by 1,000,000"),
    (lines(request(startTime="soon")), ":1: field `startTime` must be a whole number"),
    (lines(request(startTime=True)), ":1: field `startTime` must be a whole number"),
    (lines(request(), request(key="b")), ":2: field `metaKey` 'b' has no meta"),
    # Blank lines are no requests, but they are lines.
    (b"\n  \n" + lines(request(durationsInMs=-1)), ":3: field `durationsInMs` is negative"),
]

BAD_METAS: list[tuple[bytes, str]] = [
    (b"", "empty"),
    (b"{", ":1: not JSON"),
    (lines(meta(), meta("b"), meta()), ":3: field `key` 'a' has a meta already"),
    (lines(without(meta(), "initDurationInMs")), ":1: field `initDurationInMs` is missing"),
    (lines(meta(memoryInMb=128 << 20)), "134217728; it looks like bytes: divide by 1,048,576"),
    (lines(meta(), meta("b", memoryInMb=0)), ":2: field `memoryInMb` is below 1: 0"),
    (lines(meta(initDurationInMs=-1)), ":1: field `initDurationInMs` is negative: -1"),
    (lines(meta(memoryInMb=2**40)), ":1: field `memoryInMb` is above 16777216: 1"),
    (lines(meta(timeoutInSecs=2**32)), ":1: field `timeoutInSecs` is above 4294967295: 4"),
    (lines(meta(initDurationInMs=2**62)), ":1: field `initDurationInMs` is above 604800000: 4"),
    (lines(meta(), meta("")), ":2: field `key` is empty"),
]


@pytest.mark.parametrize(("raw", "says"), BAD_REQUESTS)
def test_bad_requests(tmp_path: Path, raw: bytes, says: str) -> None:
    said = refusal(contest(tmp_path / "set", requests=raw))
    assert said.startswith(f"{tmp_path}/set/requests:")
    assert says in said


@pytest.mark.parametrize(("raw", "says"), BAD_METAS)
def test_bad_metas(tmp_path: Path, raw: bytes, says: str) -> None:
    said = refusal(contest(tmp_path / "set", metas=raw))
    assert said.startswith(f"{tmp_path}/set/metas:")
    assert says in said


def test_not_there_empty_unknown(tmp_path: Path) -> None:
    assert "there is no such file" in refusal(tmp_path / "nowhere")
    for name in ("x.tar.gz", "x.parquet", "x.csv", "x"):
        (tmp_path / name).write_bytes(b"")
        assert ": empty; " in refusal(tmp_path / name)
    (tmp_path / "x.txt").write_text("hello")
    assert "no known trace" in refusal(tmp_path / "x.txt")
    (tmp_path / "folder").mkdir()
    assert "no known trace" in refusal(tmp_path / "folder")
    (tmp_path / "folder.parquet").mkdir()
    assert "no readable *.parquet file here; the folder has none" in refusal(
        tmp_path / "folder.parquet"
    )


def test_a_recording_keeps_what_can_be(tmp_path: Path) -> None:
    # What callers tell the service is no reason to lose a segment.
    columns = {name: [1, 1] for name in ("memory_mb", "timeout_s", "init_ms", "status_code")}
    rows = pl.DataFrame(
        {"arrival_ms": [5, 6], "app": "a", "runtime": "go", **columns}
        | {"duration_ms": [7, 2**62], "outcome": "kept"}
    )
    rows.write_parquet(tmp_path / "r.parquet")
    trace = read_trace(tmp_path / "r.parquet")
    assert list(trace.duration_ms) == [7]
    assert trace.notes == ("1 requests with a number that cannot be are not used",)
    rows.drop("outcome").write_parquet(tmp_path / "r.parquet")
    assert "row 2: 4611686018427387904 is not in 0 to 604800000" in refusal(tmp_path / "r.parquet")


def test_half_a_set(tmp_path: Path) -> None:
    folder = contest(tmp_path / "set")
    (folder / "metas").unlink()
    assert "set 'set' has no file `metas`" in refusal(folder)


def test_out_of_order_is_sorted_stably_and_said(tmp_path: Path) -> None:
    rows = [request(5, durationsInMs=d) for d in (3, 1, 2)]
    trace = read_trace(contest(tmp_path / "set", lines(*rows, request(4, durationsInMs=9))))
    assert list(trace.duration_ms) == [9, 3, 1, 2]
    assert trace.notes == ("requests were out of order and have been sorted by startTime",)


def test_what_is_odd_but_right(tmp_path: Path) -> None:
    # Windows line ends, a byte order mark, fields in any order, fields not asked for.
    row = {"extra": [1], **dict(reversed(request().items()))}
    raw = b"\xef\xbb\xbf" + lines(row).replace(b"\n", b"\r\n") + b"\r\n" + lines(request(2_000))
    trace = read_trace(contest(tmp_path / "set", raw.rstrip(b"\n")))
    assert list(trace.arrival_ms) == [1_000, 2_000]
    assert read_trace(tmp_path / "set/requests").name == "set"


def test_several_sets(tmp_path: Path) -> None:
    contest(tmp_path / "all/one")
    contest(tmp_path / "all/two", lines(request(7_000)))
    said = refusal(tmp_path / "all")
    assert "(one, two)" in said
    assert "--set" in said
    assert "there is one, two" in refusal(tmp_path / "all", set_name="three")
    assert list(read_trace(tmp_path / "all", set_name="two").arrival_ms) == [7_000]
    # A set not chosen may be broken: it is not read.
    (tmp_path / "all/one/requests").write_text("hello")
    assert len(read_trace(tmp_path / "all", set_name="two")) == 1


def test_a_set_is_not_chosen_where_there_is_one_without_a_name(tmp_path: Path) -> None:
    own = tmp_path / "own.parquet"
    write_trace(read_trace(contest(tmp_path / "set")), own)
    assert "leave out --set one" in refusal(own, set_name="one")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_archives(tmp_path: Path, mode: str) -> None:
    ending = ".tar" if mode == "w" else ".tar.gz"
    one = {"d/one/requests": lines(request()), "d/one/metas": lines(meta())}
    two = {"d/two/requests.gz": gzip.compress(lines(request(9))), "d/two/metas": lines(meta())}
    assert read_trace(archive(tmp_path / f"one{ending}", one, mode)).name == "one"
    both = archive(tmp_path / f"both{ending}", one | two, mode)
    assert "(one, two)" in refusal(both)
    assert list(read_trace(both, set_name="two").arrival_ms) == [9]
    flat = {"requests": lines(request()), "metas": lines(meta())}
    assert read_trace(archive(tmp_path / f"flat{ending}", flat, mode)).name == "flat"


def test_gzip_files_in_a_folder(tmp_path: Path) -> None:
    folder = contest(tmp_path / "set")
    for name in ("requests", "metas"):
        packed = gzip.compress((folder / name).read_bytes())
        (folder / name).unlink()
        (folder / f"{name}.gz").write_bytes(packed)
    assert len(read_trace(folder)) == 1
    assert len(read_trace(folder / "requests.gz")) == 1
    (folder / "requests.gz").write_bytes(gzip.compress(os.urandom(4_000))[:2_000])
    assert "not a whole gzip file" in refusal(folder)


@pytest.mark.parametrize("share", [0.001, 0.05, 0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_truncated_archives(tmp_path: Path, mode: str, share: float) -> None:
    rows = [request(n, durationsInMs=n * 7919 % 997) for n in range(3_000)]
    files = {"s/metas": lines(meta()), "s/requests": lines(*rows)}
    path = archive(tmp_path / ("t.tar" if mode == "w" else "t.tar.gz"), files, mode)
    whole = path.read_bytes()
    # A plain tar ends in padding, which may be cut without loss.
    size = len(whole) if mode == "w:gz" else len(b"".join(files.values()))
    path.write_bytes(whole[: max(1, int(size * share))])
    said = refusal(path)
    assert "get it again" in said


@pytest.mark.parametrize("name", ["../requests", "/etc/requests", "s/../../metas", "../evil"])
def test_archives_that_climb_out(tmp_path: Path, name: str) -> None:
    files = {"s/metas": lines(meta()), "s/requests": lines(request()), name: b"x"}
    before = set(tmp_path.parent.rglob("*"))
    assert "climbs out" in refusal(archive(tmp_path / "t.tar.gz", files))
    assert set(tmp_path.parent.rglob("*")) - before == {tmp_path / "t.tar.gz"}


def test_archives_with_links_and_doubles(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "link.tar.gz", "w:gz") as packed:
        entry = tarfile.TarInfo("s/requests")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed.addfile(entry)
    assert "not a plain file; refused" in refusal(tmp_path / "link.tar.gz")
    files = {"a/s/requests": lines(request()), "b/s/requests": lines(request())}
    assert "two files 'requests'" in refusal(archive(tmp_path / "t.tar.gz", files))


@pytest.fixture
def scaler(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "warmscaler", *map(str, words)]
        root = Path(__file__).parents[2]
        return subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)

    return run


def test_the_command_says_one_line_and_writes_nothing(
    tmp_path: Path, scaler: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    bad = contest(tmp_path / "set", lines(request(), request(durationsInMs=-1)))
    done = scaler("trace", "convert", bad, tmp_path / "out.parquet")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (f"scaler: {bad}/requests:2: field `durationsInMs` is negative: -1\n")
    assert {file.name for file in tmp_path.iterdir()} == {"set"}
    done = scaler("trace", "generate", "azur", "--out", tmp_path / "out.parquet")
    assert done.returncode == 2
    assert done.stderr.startswith("scaler: azur: no such kind of trace; there is contest-1")
    assert done.stderr.count("\n") == 1


def test_the_command_informs_and_converts(
    tmp_path: Path, scaler: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    source = tmp_path / "[red] name.parquet"  # what a terminal's markup would trip over
    write_trace(trace_of([(3_000, 0, 5), (1_000, 1, 7)], memory_mb=[128, 256]), source)
    done = scaler("trace", "info", source, "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert (figures["requests"], figures["apps"], figures["span_s"]) == (2, 2, 2.0)
    assert "[red] name" in scaler("trace", "info", source).stdout
    done = scaler("trace", "convert", source, tmp_path / "[set]")
    assert done.stderr == f"2 requests of 2 apps written to {tmp_path}/[set]\n"
    assert len(read_trace(tmp_path / "[set]")) == 2
