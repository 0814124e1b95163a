"""Scaler and simulator beside each other, as the contest's Job runs them; and the health check."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.traces import trace_of
from warmscaler.data.read import write_trace

SCALER = (sys.executable, "-m", "warmscaler")


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(each.getsockname()[1]) for each in held]
    for each in held:
        each.close()
    return ports


def health(address: str, *more: str) -> subprocess.CompletedProcess[str]:
    command = [*SCALER, "health", address, *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def start(arguments: Sequence[str | int | Path]) -> subprocess.Popen[str]:
    command = [*SCALER, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_scaler_stops_when_the_simulator_is_done(tmp_path: Path) -> None:
    trace = tmp_path / "trace.parquet"
    write_trace(trace_of([(at * 50, 0, 20) for at in range(40)], init_ms=50), trace)
    own, platform, statistics = free_ports(3)
    ports = ("--platform-port", platform, "--statistics-port", statistics, "--wait", 60)
    simulator = start(
        ("simulate", trace, "--scaler", f"127.0.0.1:{own}", "--create-ms", 50, *ports, "--json")
    )
    closing = ("--until-closed", f"127.0.0.1:{statistics}", "--drain", 1)
    serving = ("--port", own, "--platform", f"127.0.0.1:{platform}", "--policy", "fixed:300")
    scaler = start(("serve", *serving, *closing))
    try:
        simulated, problems = simulator.communicate(timeout=60)
        assert simulator.returncode == 0, problems
        assert json.loads(simulated)["failedRequestsCount"] == 0
        _, log = scaler.communicate(timeout=60)
        assert scaler.returncode == 0, log
        assert "is closed: stopping" in log
    finally:
        simulator.kill()
        scaler.kill()


def test_health_tells_serving_from_not() -> None:
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    silent = health(address, "--timeout", "0.2")
    assert (silent.returncode, silent.stdout) == (1, f"{address}: no answer (UNAVAILABLE)\n")
    scaler = start(("serve", "--port", port, "--policy", "fixed:300"))
    try:
        assert scaler.stderr is not None
        while "serving on port" not in scaler.stderr.readline():
            assert scaler.poll() is None
        serving = health(address)
        assert (serving.returncode, serving.stdout) == (0, f"{address}: SERVING\n")
    finally:
        scaler.terminate()
        scaler.communicate(timeout=30)
    wrong = health("9001")
    assert (wrong.returncode, wrong.stderr) == (
        2,
        "scaler: ADDRESS 9001: must be HOST:PORT, as 127.0.0.1:9001\n",
    )


def test_sigterm_ends_a_command_that_waits(tmp_path: Path) -> None:
    trace = tmp_path / "trace.parquet"
    write_trace(trace_of([(0, 0, 20)]), trace)
    nobody, platform, statistics = free_ports(3)
    ports = ("--platform-port", platform, "--statistics-port", statistics, "--wait", 60)
    simulator = start(("simulate", trace, "--scaler", f"127.0.0.1:{nobody}", *ports))
    while simulator.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", statistics)) == 0:
                break
    simulator.terminate()
    _, problems = simulator.communicate(timeout=30)
    assert simulator.returncode == 128 + 15
    assert "Traceback" not in problems
