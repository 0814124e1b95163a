"""A retraining that was killed goes on where it was: its lock, its requests, its steps' results."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from warmscaler.data.columnar import read_parquet, write_parquet
from warmscaler.data.files import whole
from warmscaler.data.trace import Trace, TraceError
from warmscaler.models.artifact.folder import ArtifactError, read_artifact, write_artifact
from warmscaler.models.artifact.store import Store
from warmscaler.models.learned.habits import Model
from warmscaler.simulator.replay import CREATE_MS
from warmscaler.training.provenance import code_sha256
from warmscaler.training.retraining.options import Busy, Options, RetrainError

SETTLE_MS = 120_000.0
KEPT_LOG = "log.parquet"
"""The requests that a job is about, in its work folder."""
RESUMED_S = 43_200.0
"""A job that was begun longer ago is not gone on with."""


def settled(
    log: Trace, work: Path, options: Options, champion: str | None
) -> tuple[Trace, Options]:
    """The requests that this job is about, and its options: those of the job that it goes on with,
    else all but the last SETTLE_MS, of which some still run and are not recorded yet.

    They lie in the work folder: what is recorded, or taken away, meanwhile changes nothing."""
    path, kept = work / "job.json", work / KEPT_LOG
    asked = replace(options, jobs=1)
    if options.create_ms_recorded:
        asked = replace(asked, create_ms=CREATE_MS)
    about = [repr(asked), champion]
    try:
        known = json.loads(path.read_bytes())
        fresh = datetime.now(UTC).timestamp() - path.stat().st_mtime < RESUMED_S
        if known["about"] == about and fresh:
            trace = read_parquet(kept)
            options = replace(options, create_ms=float(known["create_ms"]))
            return replace(trace, name=log.name), options
    except (OSError, ValueError, KeyError, TypeError, TraceError):
        pass
    settled_ms = float(log.arrival_ms[-1]) - SETTLE_MS
    older = log.between(-inf, settled_ms)
    if not len(older):
        raise RetrainError(
            f"{log.name}: nothing older than {SETTLE_MS / 1000.0:g} s is recorded: record for longer"
        )
    path.unlink(missing_ok=True)
    write_parquet(older, kept)
    with whole(path) as file:
        file.write_text(json.dumps({"create_ms": options.create_ms, "about": about}))
    # As it will be read by a job that goes on: apps may come in another order.
    return replace(read_parquet(kept), name=log.name), options


class Steps:
    """Results of a job's steps in a folder, each whole or not there, under the job's fingerprint."""

    def __init__(self, work: Path, whole: Trace, options: Options, champion: str | None) -> None:
        digest = hashlib.sha256()
        for column in (whole.arrival_ms, whole.app, whole.duration_ms, whole.status_code):
            digest.update(np.ascontiguousarray(column).tobytes())
        digest.update(repr((whole.apps, replace(options, jobs=1), champion)).encode())
        digest.update(code_sha256().encode())
        self._work = work
        self._folder = work / digest.hexdigest()[:32]
        for other in work.iterdir():
            if other.is_dir() and other != self._folder:
                shutil.rmtree(other, ignore_errors=True)
        self._folder.mkdir(exist_ok=True)

    def model(self, name: str, make: Callable[[], Model]) -> Model:
        folder = self._folder / f"{name}.model"
        try:
            return read_artifact(folder)
        except ArtifactError:
            shutil.rmtree(folder, ignore_errors=True)
        made = make()
        write_artifact(folder, made, {})
        return made

    def json(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        path = self._folder / f"{name}.json"
        try:
            known: dict[str, Any] = json.loads(path.read_bytes())
        except (OSError, ValueError):
            known = make()
            with whole(path) as file:
                file.write_text(json.dumps(known))
        return known

    def text(self, name: str, make: Callable[[], str]) -> str:
        return str(self.json(name, lambda: {"value": make()})["value"])

    def done(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        forget_job(self._work)


def forget_job(work: Path) -> None:
    """The next one looks at what is recorded then."""
    for name in ("job.json", KEPT_LOG):
        (work / name).unlink(missing_ok=True)


@contextmanager
def job(store: Store) -> Iterator[Path]:
    """The store to oneself; yields the work folder. Raises Busy, RetrainError."""
    work = _work_folder(store)
    try:
        work.mkdir(parents=True, exist_ok=True, mode=0o700)
        if work.stat().st_uid != os.getuid():
            raise RetrainError(f"{work}: belongs to somebody else")
        file = os.open(work / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RetrainError(f"{work}: cannot be written: {error.strerror}") from None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"{store.location}: another retraining works on it") from None
        yield work
    finally:
        os.close(file)


def _work_folder(store: Store) -> Path:
    if store.folder is not None:
        return store.folder / ".retrain"
    name = hashlib.sha256(store.location.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"scaler-retrain-{os.getuid()}-{name}"
