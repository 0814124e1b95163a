"""`scaler simulate` as a user runs it: to the end, with no scaler, and stopped with Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.cli.conftest import InHere
from tests.deploy.test_side_by_side import free_ports
from tests.service.running import scaler as running
from tests.service.test_tls import write, write_ca
from tests.simulator.page import FIELDS
from tests.traces import trace_of
from warmscaler.data.read import write_trace


def start(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "warmscaler", *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five requests in a second, and one an hour later."""
    rows = [(k * 200, 0, 20) for k in range(5)]
    path = tmp_path_factory.mktemp("trace") / "t.parquet"
    write_trace(trace_of([*rows, (3_600_000, 0, 20)], init_ms=10), path)
    return path


@pytest.fixture(scope="module")
def scaler() -> Iterator[tuple[int, int]]:
    """A scaler that serves: its port, and that of the platform which it calls."""
    port, platform = free_ports(2)
    address = f"127.0.0.1:{platform}"
    options = ["--policy", "fixed:60", "--drain", "0"]
    process = start("serve", *options, "--port", port, "--platform", address)
    assert process.stderr is not None
    while "serving on port" not in process.stderr.readline():
        assert process.poll() is None
    yield port, platform
    process.terminate()
    process.communicate(timeout=30)


def simulate(trace: Path, port: int, platform: int, page: int, *more: str) -> tuple[str, ...]:
    where = ("--scaler", f"127.0.0.1:{port}", "--platform-port", str(platform))
    return ("simulate", str(trace), *where, "--statistics-port", str(page), "--json", *more)


def test_a_stretch_to_its_end(trace: Path, scaler: tuple[int, int]) -> None:
    (page,) = free_ports(1)
    run = start(*simulate(trace, *scaler, page, "--start", "0.3", "--duration", "0.6"))
    out, err = run.communicate(timeout=60)
    assert (run.returncode, err) == (0, "")
    figures = json.loads(out)
    assert figures.keys() >= FIELDS
    assert (figures["totalRequestsCount"], figures["failedRequestsCount"]) == (3, 0)


def test_stopped_it_shows_what_was_seen(trace: Path, scaler: tuple[int, int]) -> None:
    (page,) = free_ports(1)
    run = start(*simulate(trace, *scaler, page))
    seen: dict[str, object] = {"totalRequestsCount": 0}
    while seen["totalRequestsCount"] != 5:
        assert run.poll() is None
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{page}/") as reply:
                seen = json.loads(reply.read())
        except OSError:
            continue
    assert seen.keys() >= FIELDS
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert (run.returncode, err) == (130, "stopped after 5 of 6 requests\n")
    assert json.loads(out)["totalRequestsCount"] == 5


def test_requests_that_fail_are_exit_code_1(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_trace(trace_of([(0, 0, 20)] * 4, init_ms=200), path)
    platform, page = free_ports(2)
    address = f"127.0.0.1:{platform}"
    with running("--policy", "fixed:60", "--max-waiting", 1, "--platform", address) as process:
        port = int(process.address.rpartition(":")[2])
        words = simulate(path, port, platform, page, "--create-ms", "200", "--speed", "2")
        run = start(*(each for each in words if each != "--json"))
        out, err = run.communicate(timeout=60)
    assert run.returncode == 1
    assert "requests failed: {'Assign answered status 1" in err
    assert err.startswith("warning: at --speed 2 ")
    date = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    assert re.search(rf"startTime +│ {date}", out)
    assert re.search(rf"endTime +│ {date}", out)


def test_over_tls_both_ways(trace: Path, tmp_path: Path) -> None:
    ca, other = trustme.CA(), trustme.CA()
    (platform, page), authority = free_ports(2), write_ca(tmp_path / "ca.pem", ca)
    ours = write(tmp_path / "scaler", ca.issue_cert("scaler.test"))
    theirs = write(tmp_path / "platform", ca.issue_cert("127.0.0.1"))
    stranger = write_ca(tmp_path / "other.pem", other)
    with running(
        *("--policy", "fixed:60", "--platform", f"127.0.0.1:{platform}"),
        *("--tls-cert", ours[0], "--tls-key", ours[1], "--tls-client-ca", authority),
        *("--platform-ca", authority, "--platform-cert", ours[0], "--platform-key", ours[1]),
    ) as process:
        port = int(process.address.rpartition(":")[2])

        def played(ca_file: Path) -> tuple[str, str, int]:
            tls: list[object] = ["--scaler-ca", ca_file, "--scaler-name", "scaler.test"]
            tls += ["--scaler-cert", theirs[0], "--scaler-key", theirs[1]]
            tls += ["--tls-cert", theirs[0], "--tls-key", theirs[1], "--tls-client-ca", authority]
            more = ("--duration", "0.5", "--wait", "2", *map(str, tls))
            run = start(*simulate(trace, port, platform, page, *more))
            out, err = run.communicate(timeout=60)
            return out, err, run.returncode

        out, err, code = played(authority)
        assert (code, err) == (0, "")
        assert json.loads(out)["totalRequestsCount"] == 3
        out, err, code = played(stranger)
        assert (code, out) == (2, "")
        assert "no scaler answers there over TLS" in err


def test_no_scaler_there(trace: Path) -> None:
    nobody, platform, page = free_ports(3)
    run = start(*simulate(trace, nobody, platform, page, "--wait", "0.2"))
    out, err = run.communicate(timeout=60)
    assert (run.returncode, out) == (2, "")
    assert err == f"scaler: 127.0.0.1:{nobody}: no scaler answers there; start one first\n"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--scaler-name", "a"), "--scaler-name goes with --scaler-ca"),
        (("--scaler-cert", "a"), "--scaler-cert and --scaler-key go together"),
        (("--tls-client-ca", "a"), "--tls-client-ca goes with --tls-cert and --tls-key"),
        (("--speed", "0"), "--speed 0: must be a number above 0"),
        (("--start", "inf"), "--start inf: must be a number of seconds"),
        (("--start", "1e9"), "no request in the stretch"),
        (("--scaler", "nowhere"), "--scaler nowhere: must be HOST:PORT"),
    ],
)
def test_a_mistake_is_one_line(
    trace: Path, more: tuple[str, ...], says: str, in_here: InHere
) -> None:
    code, out, err = in_here("simulate", trace, *more)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1
