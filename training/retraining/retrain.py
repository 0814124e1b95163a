"""Retraining: a challenger from what was recorded, judged on what it never saw, promoted if it wins.

**Judging.** The newest stretch is held out. Champion, challenger and fixed:300 replay it from equally
long before it on, so that what they learn online is warm, and their cost on it is waste times the
price plus waiting. One price for all three: the operator's, else the score's own exchange rate at the
champion's operating point, so that a challenger cannot choose what it is measured by.

**Promoting.** The challenger wins if it costs less than both of the others by the margin. What goes
into service is then fitted anew on everything, the held-out stretch too, because that is what knows
the newest habits. It is the same procedure one stretch later; it must not cost more on that stretch
than the judged one by more than the margin, else the judged one goes into service itself.

**Again.** Each step's result is kept in a work folder until the end: a job that was killed goes on
where it was, on the same requests. A lock keeps two jobs on one store apart.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from warmscaler.data.columnar import read_parquet, write_parquet
from warmscaler.data.files import whole
from warmscaler.data.recording import JOURNAL, SEGMENT
from warmscaler.data.trace import Trace, TraceError
from warmscaler.models.artifact.folder import ArtifactError, read_artifact, write_artifact
from warmscaler.models.artifact.store import Store, StoreError
from warmscaler.models.learned.habits import Model
from warmscaler.simulator.figures import Figures, price_s_per_gb_s
from warmscaler.simulator.replay import CREATE_MS
from warmscaler.training.evaluating.evaluate import Window, measure
from warmscaler.training.evaluating.settings import BASELINE, Setting
from warmscaler.training.fitting.fit import fit
from warmscaler.training.provenance import code_sha256, trained_on
from warmscaler.training.retraining.drift import Drift, drift

MIN_REQUESTS = 500
"""In the training part and in the held-out part; fewer say nothing."""
MIN_HOLDOUT_S = 600.0
MAX_TORN_SHARE = 0.1
"""Where more of the recording's files are unreadable, something is wrong with it."""
SETTLE_MS = 120_000.0
KEPT_LOG = "log.parquet"
"""The requests that a job is about, in its work folder."""
RESUMED_S = 43_200.0
"""A job that was begun longer ago is not gone on with."""
SHOWN_APPS = 20
"""The most changed apps that go into the manifest and the JSON line."""
DAY_MS = 86_400_000.0
FIGURES = ("score", "cost_s", "wasted_gb_s", "wait_s", "cold_starts", "cold_start_rate", "requests")
Report = Callable[[str, float], None]
"""Told what is done now, and which fraction of all is."""


class RetrainError(Exception):
    """Input that nothing can be learned from. Its text is one line."""


class Busy(Exception):
    """Another job works on this store. Its text is one line."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a job was asked for."""

    window_ms: float = 14.0 * DAY_MS
    """How much of the recording, back from its newest request, is looked at."""
    holdout_ms: float | None = None
    """How much of that is held out; None is a fifth, and a day at most."""
    margin: float = 0.01
    """By which share of their costs the challenger must be below the others."""
    price: float | None = None
    """Seconds of waiting that a GB·s is worth, in service and in judging; None is found."""
    create_ms: float = CREATE_MS
    create_ms_recorded: bool = False
    """It is what the recording says, not what was asked for."""
    jobs: int = 1
    keep: int = 30
    """Versions that stay in the store."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The window in three: what the challenger is trained on, and what all are judged by."""

    whole: Trace
    training: Trace
    judged: Window
    """From equally long before the held-out stretch on."""

    @property
    def held_out(self) -> Trace:
        return self.judged.trace.between(self.judged.split_ms, inf)


def split(log: Trace, options: Options) -> Parts:
    """Raises RetrainError where there is too little."""
    last_ms = float(log.arrival_ms[-1])
    recent = log.between(last_ms - options.window_ms, inf)
    span_ms = last_ms - float(recent.arrival_ms[0])
    holdout_ms = options.holdout_ms
    if holdout_ms is None:
        holdout_ms = min(span_ms / 5.0, DAY_MS)
    if not MIN_HOLDOUT_S * 1000.0 <= holdout_ms <= span_ms / 2.0:
        raise RetrainError(
            f"{log.name}: {holdout_ms / 3.6e6:.2f} h held out of {span_ms / 3.6e6:.2f} h recorded:"
            f" it must be {MIN_HOLDOUT_S / 60:g} minutes at least and half of it at most"
        )
    cut_ms = last_ms - holdout_ms
    training = recent.between(-inf, cut_ms)
    judged = recent.between(cut_ms - holdout_ms, inf)
    held_out = len(recent) - len(training)
    if min(len(training), held_out) < MIN_REQUESTS:
        raise RetrainError(
            f"{log.name}: {len(training):,} requests to train on and {held_out:,} to judge by:"
            f" {MIN_REQUESTS:,} of each are needed; record for longer"
        )
    return Parts(recent, training, Window(judged, cut_ms, cut_ms))


def check_recording(log: Trace, path: Path) -> None:
    """Raises RetrainError where a recording is not what a service writes."""
    torn = [note for note in log.notes if note.startswith("left out:")]
    files = (
        sum(file.suffix in (SEGMENT, JOURNAL) for file in path.iterdir()) if path.is_dir() else 1
    )
    if len(torn) > MAX_TORN_SHARE * files:
        raise RetrainError(
            f"{path}: {len(torn)} of {files} segments are damaged, remove or mend them; {torn[0]}"
        )
    soon_ms = datetime.now(UTC).timestamp() * 1000.0 + DAY_MS
    late = int((log.arrival_ms > soon_ms).sum())
    if late:
        raise RetrainError(f"{path}: {late} requests arrive in the future: its clock was wrong")


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


def retrain(
    log: Trace,
    store: Store,
    options: Options,
    work: Path,
    *,
    dry_run: bool = False,
    report: Report = lambda text, share: None,
) -> tuple[dict[str, Any], Drift]:
    """Trains, judges, and promotes the winner. Returns the JSON line's object, and all the drift.
    Raises RetrainError where the log is no good, StoreError; nothing is promoted then.
    """
    pointer = store.pointer()
    champion = problem = None
    saw_until_ms = 0.0
    if pointer is not None:
        try:
            champion, manifest = store.read(pointer.version)
            saw_until_ms = float(manifest.get("trained_on", {}).get("last_arrival_ms", 0.0))
        except (ArtifactError, StoreError) as error:
            # one that nobody can serve with is no champion
            problem = f"the champion is not judged: {error}"
    version = None if pointer is None else pointer.version
    try:
        kept, options = settled(log, work, options, version)
        parts = split(kept, options)
    except RetrainError:
        # Else the next one would look at the same requests, however many were recorded since.
        _forget_job(work)
        raise
    if saw_until_ms > parts.judged.split_ms:
        problem = "the champion was trained on some of what it is judged by, which flatters it"
    moved = drift(parts.training, parts.held_out)
    steps = _Steps(work, parts.whole, options, version)

    report("training the challenger", 0.05)
    challenger = steps.model("challenger", lambda: _fit(parts.training, options, options.price))
    report("replaying", 0.45)
    price, judged = _judge(parts, champion, challenger, options, steps)
    won, reason = _verdict(judged, options.margin)
    result: dict[str, Any] = {
        "outcome": "kept",
        "version": None,
        "champion": version,
        "reason": reason,
        "price_s_per_gb_s": price,
        "margin": options.margin,
        "held_out_from_ms": int(parts.judged.split_ms),
        "window": trained_on(parts.whole),
        "judged": judged,
        "drift": moved.as_json(SHOWN_APPS),
        "notes": [*log.notes, *([problem] if problem else [])],
    }
    if not won:
        steps.done()
        return result, moved
    report("fitting on everything", 0.65)
    final, refitted = _final(parts, challenger, judged, price, options, steps)
    result["refitted"] = refitted
    if dry_run:
        steps.done()
        return result | {"outcome": "would promote"}, moved
    report("promoting", 0.95)
    part = parts.whole if refitted else parts.training
    about = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "trained_on": trained_on(part) | {"create_ms": options.create_ms},
        "code_sha256": code_sha256(),
        "judged": judged | {"price_s_per_gb_s": price, "refitted": refitted},
        "drift": result["drift"],
        "champion": version,
    }
    added = steps.text("version", lambda: store.add(final, about))
    store.promote(added, over=version)
    store.prune(options.keep)
    steps.done()
    return result | {"outcome": "promoted", "version": added}, moved


def _fit(part: Trace, options: Options, price: float | None) -> Model:
    return fit(part, create_ms=options.create_ms, price=price, jobs=options.jobs)


def _judge(
    parts: Parts, champion: Model | None, challenger: Model, options: Options, steps: _Steps
) -> tuple[float, dict[str, Any]]:
    """The price, and figures of champion, challenger and fixed:300 on the held-out stretch."""
    names = ["challenger", BASELINE, *(["champion"] if champion is not None else [])]
    models = {"challenger": challenger, "champion": champion}

    def replays() -> dict[str, Any]:
        calls = [
            joblib.delayed(_figures)(parts.judged, models.get(name), options) for name in names
        ]
        figures = joblib.Parallel(n_jobs=min(options.jobs, len(calls)))(calls)
        return dict(zip(names, figures, strict=True))

    judged = steps.json("judged", replays)
    ruler = judged.get("champion", judged["challenger"])
    price = options.price if options.price is not None else ruler["exchange_rate"]
    for each in judged.values():
        each["cost_s"] = price * each["wasted_gb_s"] + each["wait_s"]
    return price, {name: {figure: judged[name][figure] for figure in FIGURES} for name in judged}


def _figures(judged: Window, model: Model | None, options: Options) -> dict[str, Any]:
    setting = Setting(BASELINE) if model is None else Setting("learned", price=options.price)
    found: Figures = measure(judged, setting, options.create_ms, model).figures
    known: dict[str, Any] = {name: getattr(found, name) for name in FIGURES if name != "cost_s"}
    if not found.execution_s:
        raise RetrainError("no request held out took any time: there is nothing to judge by")
    known["exchange_rate"] = price_s_per_gb_s(
        found.execution_gb_s, found.slot_gb_s, found.execution_s, found.wait_s
    )
    return known


def _verdict(judged: Mapping[str, Any], margin: float) -> tuple[bool, str]:
    """Whether the challenger wins, and why in words."""
    cost_s = judged["challenger"]["cost_s"]
    for rival in ("champion", BASELINE):
        if rival not in judged:
            continue
        rival_s = judged[rival]["cost_s"]
        below = 1.0 - cost_s / rival_s if rival_s > 0.0 else -inf
        if below < margin:
            return False, (
                f"the challenger costs {cost_s:,.1f} s, the {rival} {rival_s:,.1f} s:"
                f" {below:+.1%} below it, {margin:.1%} are needed"
            )
    return True, f"the challenger costs {cost_s:,.1f} s, less than all others by the margin"


def _final(
    parts: Parts,
    challenger: Model,
    judged: Mapping[str, Any],
    price: float,
    options: Options,
    steps: _Steps,
) -> tuple[Model, bool]:
    """The model for service, and whether it was fitted on everything."""
    # At the price that was judged: it is what a short stretch is the most wrong about.
    found = challenger.price_s_per_gb_s
    final = steps.model("final", lambda: _fit(parts.whole, options, found))
    figures = steps.json("final", lambda: _figures(parts.judged, final, options))
    cost_s = price * figures["wasted_gb_s"] + figures["wait_s"]
    if cost_s <= judged["challenger"]["cost_s"] * (1.0 + options.margin):
        return final, True
    return challenger, False


class _Steps:
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
        _forget_job(self._work)


def _forget_job(work: Path) -> None:
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
