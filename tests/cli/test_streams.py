"""Standard streams that are closed or speak ASCII only, and a terminal that goes away."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from tests.service.running import PATIENCE_S, scaler
from tests.traces import trace_of
from warmscaler.data.read import write_trace


def shell(redirection: str, *words: object) -> list[str]:
    """`scaler` with its streams as a shell redirects them."""
    command = f'exec "$0" -m warmscaler "$@" {redirection}'
    return ["sh", "-c", command, sys.executable, *map(str, words)]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    write_trace(trace_of([(n * 1_000, 0, 50) for n in range(20)]), tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_written_to_in_vain(closed: str, trace: Path) -> None:
    command = shell(closed, "trace", "info", trace, "--json")
    done = subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.usefixtures("hang_up_as_usual")
def test_a_scaler_without_streams_serves_and_a_hang_up_drains_it(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ("serve", "--port", port, "--policy", "fixed:300", "--ledger", tmp_path / "ledger")
    process = subprocess.Popen(shell("<&- >&- 2>&-", *words))
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            grpc.channel_ready_future(channel).result(PATIENCE_S)
        process.send_signal(signal.SIGHUP)
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
    # What is logged must not go into the file that was given the number of stderr.
    assert b"serving" not in (tmp_path / "ledger").read_bytes()


@pytest.mark.usefixtures("hang_up_as_usual")
def test_a_hang_up_drains_unless_it_is_ignored() -> None:
    with scaler("--policy", "fixed:300") as process:
        process.until("serving on port")
        process.process.send_signal(signal.SIGHUP)
        assert process.process.wait(PATIENCE_S) == 0
        process.until("draining")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with scaler("--policy", "fixed:300") as process:
            process.until("serving on port")
            process.process.send_signal(signal.SIGHUP)
            process.process.send_signal(signal.SIGHUP)
            assert process.process.poll() is None
            assert process.terminate() == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_locale_without_our_signs_gets_others(trace: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "warmscaler", "evaluate", trace, "--policy", "fixed:300"],
        capture_output=True,
        check=False,
        timeout=PATIENCE_S,
        env={"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin:/bin"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert "GB?s" in done.stdout.decode("ascii")
