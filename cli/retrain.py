"""`scaler retrain`: train on what was recorded, judge, promote if better. For cron, a job, by hand."""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from warmscaler.cli.console import err, print_json, progress
from warmscaler.cli.errors import UserError
from warmscaler.cli.models import StoreOption
from warmscaler.cli.objective import GbHour, ObjectiveOption, PriceOption, SecondWaited, asked
from warmscaler.cli.train import WithContext
from warmscaler.data.files import whole
from warmscaler.data.read import read_trace
from warmscaler.data.recording import is_recording, observed_create_ms, read_recording
from warmscaler.data.trace import Trace, TraceError
from warmscaler.models.artifact.folder import ArtifactError
from warmscaler.models.artifact.store import Store, StoreError
from warmscaler.simulator.replay import CREATE_MS
from warmscaler.training.retraining.drift import Drift
from warmscaler.training.retraining.job import job
from warmscaler.training.retraining.options import DAY_MS, Busy, Options, RetrainError
from warmscaler.training.retraining.retrain import AHEAD_MS, checked, retrain

EXIT_BUSY = 3
EXIT_KEPT = 10
_UNITS_MS = {"m": 60_000.0, "h": 3_600_000.0, "d": DAY_MS}


def retrain_command(
    store: StoreOption,
    log: Annotated[Path, typer.Option(help="What scaler serve --record wrote; or any trace.")],
    window: Annotated[
        str, typer.Option(help="How much of it, back from the newest request: 14d, 36h, 90m.")
    ] = "14d",
    holdout: Annotated[
        str | None,
        typer.Option(help="The newest part, to judge by; else a fifth and a day at most."),
    ] = None,
    margin: Annotated[
        float, typer.Option(min=0, max=1, help="By which share it must cost less than the others.")
    ] = 0.01,
    guard: Annotated[
        str,
        typer.Option(
            help="Promote nothing that makes requests wait longer, or more of them for a start, by more"
            " than so; none: promote it."
        ),
    ] = "10%",
    allow_more_waiting: Annotated[
        bool, typer.Option("--allow-more-waiting", help="The same as --guard none.", hidden=True)
    ] = False,
    price: PriceOption = None,
    objective: ObjectiveOption = None,
    gb_hour: GbHour = None,
    second_waited: SecondWaited = None,
    create_ms: Annotated[
        float | None,
        typer.Option(min=0, max=3.6e6, help="What CreateSlot takes; else as recorded."),
    ] = None,
    keep: Annotated[int, typer.Option(min=2, help="Versions that stay in the store.")] = 30,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Judge, and promote nothing.")] = False,
    context: WithContext = False,
    drift_report: Annotated[
        Path | None, typer.Option(help="*.json to write: the drift of every app.")
    ] = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help=f"End with {EXIT_KEPT} if nothing is promoted.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Trains a challenger on all but the newest stretch of a recording, replays that stretch with
    the model in service, the challenger and fixed:300, and promotes what wins by the margin.

    Exit codes: 0 it is done, whether promoted or not; 2 the recording or the store is no good, and
    nothing changed; 3 another retraining works on this store; 10, with --exit-code, nothing was
    promoted.
    """
    try:
        options = Options(
            window_ms=duration_ms("--window", window),
            holdout_ms=None if holdout is None else duration_ms("--holdout", holdout),
            margin=margin,
            guard=inf if allow_more_waiting else _share("--guard", guard),
            objective=asked(price, objective, gb_hour, second_waited),
            create_ms=CREATE_MS if create_ms is None else create_ms,
            jobs=jobs,
            keep=keep,
            context=context,
        )
        if not log.exists():  # before the store is touched
            raise UserError(f"--log {log}: there is no such file or folder")
        opened = Store(store)
        with job(opened) as work, progress("reading", 1.0) as show:
            now_ms = time.time() * 1000.0
            trace = checked(_read(log, options.window_ms, now_ms + AHEAD_MS), log, now_ms)
            if create_ms is None:
                options = replace(options, create_ms=_create_ms(log), create_ms_recorded=True)
            result, drift = retrain(
                trace, opened, options, work, dry_run=dry_run, report=lambda _, share: show(share)
            )
        if drift_report is not None:
            try:
                _write(drift_report, drift)
            except UserError as error:  # what was promoted stays so, and is to be told
                result["notes"].append(str(error))
    except Busy as busy:
        _failed(json, "busy", str(busy))
        err.print(f"scaler: {busy}", soft_wrap=True, markup=False, highlight=False)
        raise typer.Exit(EXIT_BUSY) from None
    except (ArtifactError, RetrainError, StoreError, TraceError, UserError) as error:
        _failed(json, "failed", str(error))
        raise UserError(str(error)) from None
    except OSError as error:  # a full disk, say: whoever reads the line is told all the same
        reason = f"{error.filename or store}: {error.strerror or error}"
        _failed(json, "failed", reason)
        raise UserError(reason) from None
    for note in result["notes"]:
        err.print(f"note: {note}", soft_wrap=True, markup=False, highlight=False)
    if json:
        print_json(result)
    else:
        _print(result)
    if exit_code and result["outcome"] == "kept":
        raise typer.Exit(EXIT_KEPT)


def duration_ms(option: str, text: str) -> float:
    """`14d`, `36h` or `90m` in ms. Raises UserError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", text)
    if found is None or float(found[1]) <= 0.0:
        raise UserError(f"{option} {text!r}: give a number and m, h or d, as 14d")
    return float(found[1]) * _UNITS_MS[found[2]]


def _share(option: str, text: str) -> float:
    """`10%`, `0.1` or `none`. Raises UserError."""
    if text == "none":
        return inf
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text)
    if found is None:
        raise UserError(f"{option} {text!r}: give a share, as 10% or 0.1, or none")
    return float(found[1]) / (100.0 if found[2] else 1.0)


def _read(log: Path, window_ms: float, until_ms: float) -> Trace:
    return read_recording(log, window_ms, until_ms) if is_recording(log) else read_trace(log)


def _create_ms(log: Path) -> float:
    seen = observed_create_ms(log) if is_recording(log) else None
    return CREATE_MS if seen is None else seen


def _failed(json: bool, outcome: str, reason: str) -> None:
    if json:
        print_json({"outcome": outcome, "version": None, "reason": reason})


def _write(path: Path, drift: Drift) -> None:
    try:
        with whole(path) as file:
            file.write_bytes(orjson.dumps(drift.as_json(), option=orjson.OPT_INDENT_2) + b"\n")
    except OSError as error:
        raise UserError(f"--drift-report {path}: {error.strerror}") from None


def _print(result: dict[str, Any]) -> None:
    drift = result["drift"]
    lines = [f"{result['outcome']}: {result['reason']}"]
    if result["version"] is not None:
        lines.append(f"version {result['version']} is in service")
    for name, figures in result["judged"].items():
        lines.append(
            f"  {name:<10} cost {figures['cost_s']:,.1f} s: {figures['wasted_gb_s']:,.0f} GB·s"
            f" wasted, {figures['wait_s']:,.1f} s waited, score {figures['score']:.2f}"
        )
    lines.append(
        f"drift: {drift['rate_before']:,.0f} → {drift['rate_now']:,.0f} requests an hour,"
        f" {drift['apps_changed']} apps changed, {drift['apps_new']} new, {drift['apps_gone']} gone"
    )
    for line in lines:
        err.print(line, soft_wrap=True, markup=False, highlight=False)
