"""Training and evaluating on a real Dask scheduler with two worker processes, over TCP."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import InHere, in_here
from warmscaler.data.generate import generate
from warmscaler.data.read import read_trace, write_trace
from warmscaler.data.trace import TraceError
from warmscaler.training import cluster
from warmscaler.training.cluster import ClusterError, connected
from warmscaler.training.fitting.fit import fit

__all__ = ["in_here"]
DASK = (sys.executable, "-m", "dask")


@contextmanager
def dask_cluster(folder: Path, workers: int) -> Iterator[str]:
    """A scheduler and its workers, each a process of its own; yields the scheduler's address."""
    told = folder / "scheduler.json"
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    listen = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", told)
    running = [subprocess.Popen([*DASK, "scheduler", *listen], **quiet)]
    try:
        address = _told(told)
        for number in range(workers):
            own = ("--local-directory", folder / f"worker-{number}", "--host", "127.0.0.1")
            alone = ("--nthreads", "1", "--no-nanny", "--no-dashboard", *own)
            running.append(subprocess.Popen([*DASK, "worker", address, *alone], **quiet))
        yield address
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def _told(file: Path) -> str:
    """The address in it, once Dask has made the file and then written all of it."""
    deadline_s = time.monotonic() + 60.0
    while time.monotonic() < deadline_s:
        with suppress(FileNotFoundError, json.JSONDecodeError):
            return str(json.loads(file.read_text())["address"])
        time.sleep(0.05)
    raise TimeoutError(f"{file}: Dask's scheduler has not written it")


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "small.parquet"
    write_trace(generate("azure", apps=12, days=0.1, requests=4_000), path)
    return path


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with dask_cluster(tmp_path_factory.mktemp("cluster"), workers=2) as address:
        yield address


def test_the_artifact_is_the_local_one_to_the_bit(
    trace: Path, two_workers: str, tmp_path: Path, in_here: InHere
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for words in ((here, "--jobs", "1"), (there, "--cluster", two_workers)):
        code, _, err = in_here("train", trace, "--out", *words)
        assert not code, err
    ours, theirs = (json.loads((each / "manifest.json").read_text()) for each in (here, there))
    assert ours["files"] == theirs["files"]  # bytes and SHA-256 of every array
    assert ours["settings"] == theirs["settings"]
    assert all((there / name).read_bytes() == (here / name).read_bytes() for name in ours["files"])


def test_the_figures_are_the_local_ones(trace: Path, two_workers: str, in_here: InHere) -> None:
    wanted = ("evaluate", trace, "--policy", "fixed:300", "--policy", "learned", "--json")
    _, local, _ = in_here(*wanted, "--jobs", "1")
    code, remote, err = in_here(*wanted, "--cluster", two_workers)
    assert not code, err
    assert remote == local


def test_a_worker_refuses_another_trace(trace: Path, two_workers: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    path.write_bytes(trace.read_bytes())
    loaded = read_trace(path)
    with connected(two_workers, path):
        write_trace(loaded.between(0, loaded.split_ms(0.5)), path)
        with pytest.raises(TraceError, match="reads other requests"):
            fit(loaded, create_ms=300.0)
        write_trace(loaded, path)
        fit(loaded, create_ms=300.0)  # what the worker remembers of a file does not stick
    gone = tmp_path / "gone.parquet"
    with pytest.raises(TraceError, match=r"no such file .*on worker"), connected(two_workers, gone):
        fit(loaded, create_ms=300.0)


def test_no_cluster_to_use(
    trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_here: InHere
) -> None:
    words = ("train", trace, "--out", tmp_path / "m", "--cluster", "localhost:8786")
    code, _, err = in_here(*words)
    assert code == 2
    assert err == (
        "scaler: --cluster localhost:8786: must be tcp://HOST:PORT, the Dask scheduler's\n"
    )
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)

    def refusal(address: str) -> str:
        with pytest.raises(ClusterError) as caught, connected(address, trace):
            pass
        return str(caught.value)

    assert "no Dask scheduler answers there" in refusal("tcp://127.0.0.1:1")
    with dask_cluster(tmp_path, workers=0) as address:
        assert "the scheduler has no worker; start some" in refusal(address)
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "needs the extra `cluster`: pip install" in refusal("tcp://127.0.0.1:1")


def test_a_scheduler_that_goes_away(
    trace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_S", 20.0)

    def work_on() -> None:
        with ExitStack() as stack:
            with dask_cluster(tmp_path, workers=1) as address:
                stack.enter_context(connected(address, trace))
            fit(read_trace(trace), create_ms=300.0)

    with pytest.raises(ClusterError, match="the scheduler went away"):
        work_on()
