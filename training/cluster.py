"""The same work on other machines: joblib's calls run on a Dask cluster.

Inside `connected("tcp://HOST:PORT", path)` every call that was made with `task` runs on a worker;
without an address it runs here, as ever. A worker is handed where the trace lies and which part is
meant, never the requests: it reads the file itself, at the same path (a shared volume, or a copy),
once for all its tasks, and refuses it unless it holds the very same requests. What else is large (a
model) travels once, not with each task. The functions and their order are those of a local run, so
the results are too, to the bit; a worker with another version of a library that counts is refused.
"""

from __future__ import annotations

import hashlib
import logging
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from threading import Lock
from typing import Any

import joblib

from warmscaler.data.read import read_trace
from warmscaler.data.trace import Trace, TraceError

CONNECT_S = 10.0
"""How long the scheduler may take to answer, and then the first worker to be there."""
LIBRARIES = ("warmscaler", "lightgbm", "numpy", "polars", "scikit-learn")
"""Those that a result depends on, besides Python."""
ROOMS = ("data", "models", "service", "simulator", "training")
_ADDRESS = re.compile(r"(tcp|tls)://(\[[0-9a-fA-F:]+\]|[^\s/:]+):\d{1,5}")


class ClusterError(Exception):
    """A cluster that cannot be used. Its text is one line: what is wrong, where, what to do."""


@dataclass(frozen=True, slots=True)
class _File:
    path: str
    set_name: str | None


@dataclass(frozen=True, slots=True)
class _Part:
    """Where a worker finds a trace: the requests of `file` in [start_ms, end_ms)."""

    file: _File
    start_ms: int
    end_ms: int
    sha256: str


class Shared:
    """An argument of `task` that is large. joblib sends an object once, not with every task, if it
    is weakly referable and says that it is large; the dataclasses of ours are neither."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __sizeof__(self) -> int:
        return 1 << 20

    def here(self) -> Any:
        """The argument as `share` was given it, its trace read on this machine."""
        if isinstance(self.value, _Part):
            return _read(self.value)
        trace = getattr(self.value, "trace", None)
        return replace(self.value, trace=_read(trace)) if isinstance(trace, _Part) else self.value


_file: _File | None = None
"""The trace's file while a cluster is connected."""


@contextmanager
def connected(address: str | None, path: Path, set_name: str | None = None) -> Iterator[None]:
    """Runs what is made with `task` inside it on the cluster; with no address it changes nothing.

    `path` is the trace that all of it works on. Raises ClusterError at once where the extra is not
    installed, no scheduler answers, it has no worker, or a worker is not of our version; and later
    where the cluster is lost.
    """
    if address is None:
        yield
        return
    client, backend = _connect(address)
    global _file
    _file = _File(str(path.resolve()), set_name)
    try:
        with joblib.parallel_config(backend(client=client)):
            yield
    except (TraceError, ClusterError):
        raise
    except Exception as error:
        if client.status != "running" or "scheduler-connection-lost" in str(error):
            raise ClusterError(f"--cluster {address}: the scheduler went away") from None
        if type(error).__module__.startswith(("distributed", "asyncio", "concurrent")):
            raise ClusterError(f"--cluster {address}: {_line(error)}") from None
        raise
    finally:
        _file = None
        client.close(timeout=2)


def share(value: Any) -> Any:
    """A large argument for `task`: a Trace, something that has one as `trace`, or any other."""
    if _file is None or value is None:
        return value
    if isinstance(value, Trace):
        return Shared(_part(_file, value))
    trace = getattr(value, "trace", None)
    if isinstance(trace, Trace):
        return Shared(replace(value, trace=_part(_file, trace)))
    return Shared(value)


def task(function: Callable[..., Any], *arguments: Any) -> Any:
    """A call for joblib.Parallel. `function` is one that can be imported."""
    if _file is None:
        return joblib.delayed(function)(*arguments)
    return joblib.delayed(_call)(function, *arguments)


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*(each.here() if isinstance(each, Shared) else each for each in arguments))


def _part(file: _File, trace: Trace) -> _Part:
    first_ms, last_ms = int(trace.arrival_ms[0]), int(trace.arrival_ms[-1])
    return _Part(file, first_ms, last_ms + 1, _sha256(trace))


def _sha256(trace: Trace) -> str:
    digest = hashlib.sha256(repr(trace.apps).encode())
    for column in (trace.arrival_ms, trace.app, trace.duration_ms, trace.status_code):
        digest.update(column.astype("<i8", copy=False).tobytes())
    return digest.hexdigest()


_reading = Lock()
"""A worker may have several threads, and they all want the same trace first."""


def _read(part: _Part) -> Trace:
    with _reading:
        return _read_part(part)


@lru_cache(maxsize=8)
def _read_part(part: _Part) -> Trace:
    for _ in range(2):
        found = _read_file(part.file).between(part.start_ms, part.end_ms)
        if _sha256(found) == part.sha256:
            return found
        _read_file.cache_clear()  # the file may be another since this process read it
    raise TraceError(
        f"{part.file.path}: worker {socket.gethostname()} reads other requests there than were"
        " read here: give it the same trace"
    )


@lru_cache(maxsize=1)
def _read_file(file: _File) -> Trace:
    try:
        return read_trace(file.path, set_name=file.set_name)
    except TraceError as error:
        raise TraceError(
            f"{error} (on worker {socket.gethostname()}: workers read the trace themselves, at the"
            " path given here)"
        ) from None


def _connect(address: str) -> tuple[Any, Callable[..., Any]]:
    if not _ADDRESS.fullmatch(address):
        raise ClusterError(f"--cluster {address}: must be tcp://HOST:PORT, the Dask scheduler's")
    try:
        import distributed
        from joblib._dask import DaskDistributedBackend
    except ImportError:
        raise ClusterError(
            "--cluster needs the extra `cluster`: pip install 'warmscaler[cluster]'"
        ) from None

    class Backend(DaskDistributedBackend):  # type: ignore[misc]
        def effective_n_jobs(self, n_jobs: int) -> int:
            # joblib keeps the work to itself where it hears of one core
            return max(2, int(super().effective_n_jobs(n_jobs)))

    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # we say it, in one line
    try:
        client: Any = distributed.Client(  # type: ignore[no-untyped-call]
            address, timeout=CONNECT_S, set_as_default=False
        )
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"--cluster {address}: no Dask scheduler answers there ({_line(error)}); start one"
            " with: dask scheduler"
        ) from None
    try:
        _check_workers(client, address)
    except BaseException:
        client.close(timeout=2)
        raise
    return client, Backend


def _check_workers(client: Any, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=CONNECT_S)
    except TimeoutError:
        raise ClusterError(
            f"--cluster {address}: the scheduler has no worker; start some with: dask worker"
            f" {address} --nthreads 1"
        ) from None
    try:
        found = client.run(versions)
    except Exception as error:
        raise ClusterError(
            f"--cluster {address}: a worker cannot run this program ({_line(error)}); install the"
            " same one there"
        ) from None
    ours = versions()
    for worker, theirs in sorted(found.items()):
        for name, wanted in ours.items():
            if theirs.get(name) != wanted:
                raise ClusterError(
                    f"--cluster {address}: worker {worker} has {name} {theirs.get(name)}, here it"
                    f" is {wanted}: results could differ; install the same there"
                )


@lru_cache(maxsize=1)  # a process runs the code that it began with
def versions() -> dict[str, str]:
    """What results depend on: libraries, and our own code; run on the workers too."""
    found = {"Python": python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    digest = hashlib.sha256()
    for room in ROOMS:
        for file in sorted((Path(__file__).parents[1] / room).rglob("*.py")):
            digest.update(file.read_bytes())
    return found | {"code": digest.hexdigest()[:12]}


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
