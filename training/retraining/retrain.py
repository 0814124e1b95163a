"""Retraining: a challenger from what was recorded, judged on what it never saw, promoted if it wins.

**Judging.** The newest stretch is held out. Champion, challenger and fixed:300 replay it from equally
long before it on, so that what they learn online is warm, and their cost on it is waste times the
price plus waiting. One price for all three: the operator's, else the score's own exchange rate at the
champion's operating point, so that a challenger cannot choose what it is measured by.

**Promoting.** The challenger wins if it costs less than both of the others by the margin, and nobody
waits much more for it than under the champion, unless that is allowed. What goes
into service is then fitted anew on everything, the held-out stretch too, because that is what knows
the newest habits. It is the same procedure one stretch later; it must not be behind the judged one on that
stretch by more than the margin, else the judged one goes into service itself.

**Again.** Each step's result is kept in a work folder until the end: a job that was killed goes on
where it was, on the same requests. A lock keeps two jobs on one store apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from math import inf, isfinite
from pathlib import Path
from typing import Any

from warmscaler.data.recording import JOURNAL, SEGMENT, too_late
from warmscaler.data.trace import Trace
from warmscaler.models.artifact.folder import ArtifactError
from warmscaler.models.artifact.store import Store, StoreError
from warmscaler.models.learned.habits import Model
from warmscaler.models.objectives.words import DEFAULT, Objective
from warmscaler.training.evaluating.settings import BASELINE
from warmscaler.training.fitting.fit import fit
from warmscaler.training.provenance import code_sha256, trained_on
from warmscaler.training.retraining.drift import Drift, drift
from warmscaler.training.retraining.job import Steps, forget_job, settled
from warmscaler.training.retraining.judging import (
    Parts,
    behind,
    costed,
    judge,
    more_waiting,
    replayed,
    split,
    verdict,
)
from warmscaler.training.retraining.options import Options, RetrainError

MAX_TORN_SHARE = 0.1
"""Where more of the recording's files are unreadable, something is wrong with it."""
AHEAD_MS = 300_000.0
"""The clocks of the machines that record and retrain differ by no more, where they are set."""
SHOWN_APPS = 20
"""The most changed apps that go into the manifest and the JSON line."""
Report = Callable[[str, float], None]
"""Told what is done now, and which fraction of all is."""


def checked(log: Trace, path: Path, now_ms: float) -> Trace:
    """What was recorded until now, at `path`: what a clock set wrong put into the future is left out
    and noted. Raises RetrainError where a recording is not what a service writes."""
    torn = [note for note in log.notes if note.startswith("left out:")]
    files = (
        sum(file.suffix in (SEGMENT, JOURNAL) for file in path.iterdir()) if path.is_dir() else 1
    )
    if len(torn) > MAX_TORN_SHARE * files:
        raise RetrainError(
            f"{path}: {len(torn)} of {files} segments are damaged, remove or mend them; {torn[0]}"
        )
    past = log.between(-inf, now_ms + AHEAD_MS)
    late = len(log) - len(past)
    if late == len(log):
        raise RetrainError(f"{path}: every request arrives in the future: is the clock here right?")
    return replace(past, notes=(*past.notes, too_late(late))) if late else past


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
        forget_job(work)
        raise
    if saw_until_ms > parts.judged.split_ms:
        problem = "the champion was trained on some of what it is judged by, which flatters it"
    moved = drift(parts.training, parts.held_out)
    steps = Steps(work, parts.whole, options, version)

    report("training the challenger", 0.05)
    objective = options.objective or (DEFAULT if champion is None else champion.objective)
    challenger = steps.model("challenger", lambda: _fit(parts.training, objective, options))
    report("replaying", 0.45)
    price, judged = judge(parts, champion, challenger, objective, options, steps)
    won, reason = verdict(judged, objective, options)
    result: dict[str, Any] = {
        "outcome": "kept",
        "version": None,
        "champion": version,
        "reason": reason,
        "objective": str(objective),
        "price_s_per_gb_s": price,
        "margin": options.margin,
        "guard": options.guard if isfinite(options.guard) else None,
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
    by_price = judged | {"price_s_per_gb_s": price}
    final, refitted = _final(parts, challenger, by_price, objective, options, steps)
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


def _fit(part: Trace, objective: Objective, options: Options, start: float | None = None) -> Model:
    return fit(
        part,
        create_ms=options.create_ms,
        objective=objective,
        start=start,
        jobs=options.jobs,
        context=options.context,
    )


def _final(
    parts: Parts,
    challenger: Model,
    judged: Mapping[str, Any],
    objective: Objective,
    options: Options,
    steps: Steps,
) -> tuple[Model, bool]:
    """The model for service, and whether it was fitted on everything."""
    # At the price that was judged: it is what a short stretch is the most wrong about.
    found = challenger.price_s_per_gb_s
    final = steps.model("final", lambda: _fit(parts.whole, objective, options, found))
    figures = steps.json("final", lambda: replayed(parts.judged, final, objective, options))
    costed(figures, judged["price_s_per_gb_s"], judged[BASELINE]["wait_s"], objective)
    waits = more_waiting(figures, judged.get("champion"), options.guard)
    if not waits and not behind(figures, judged["challenger"], objective, -options.margin):
        return final, True
    return challenger, False
