"""`scaler demo`: the main job end to end, on a generated trace or on one's own."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.markup import escape

from warmscaler.cli import loop
from warmscaler.cli.console import counted, out, progress, say
from warmscaler.cli.errors import UserError
from warmscaler.cli.folds import Fold, print_table, run
from warmscaler.cli.pages import Pages, check_drawing, draw
from warmscaler.cli.trace import SetName
from warmscaler.data.generate import generate
from warmscaler.data.read import read_trace, write_trace
from warmscaler.data.trace import Trace
from warmscaler.models.artifact.folder import (
    ArtifactError,
    check_target,
    read_artifact,
    write_artifact,
)
from warmscaler.simulator.live import LiveResult, ScalerUnreachable, connect, play
from warmscaler.simulator.platform import SimulatedPlatform
from warmscaler.simulator.replay import CREATE_MS
from warmscaler.training.evaluating import evaluate as evaluation
from warmscaler.training.evaluating.evaluate import Window
from warmscaler.training.evaluating.settings import DEFAULT_POLICIES, chosen
from warmscaler.training.provenance import trained_on

LIVE_S = 30.0
"""How much of the trace is played through the real service, in real time."""
WARM_UP_MS = 10_000
"""Apps that take longer to start begin cold: nobody waits for a minute to see a demo."""
MADE = "azure-like.parquet"
DRAIN_S = 2.0
"""What the scaler has to give every slot back: at the end nothing runs any more."""
DEMO_APPS = 60
DEMO_REQUESTS = 150_000


def demo(
    trace: Annotated[Path | None, typer.Option(help="Your own trace; else one is made.")] = None,
    folder: Annotated[Path, typer.Option("--out", help="Where the results go.")] = Path("out/demo"),
    live_s: Annotated[
        float, typer.Option(min=1, help="Seconds of the trace to play live, in real time.")
    ] = LIVE_S,
    jobs: Annotated[
        int, typer.Option(min=1, help="Processes at once; else one a core.")
    ] = os.cpu_count() or 1,
    set_name: SetName = None,
) -> None:
    """Reads a trace, trains on its first half, serves live, replays the second half, reports.

    Everything is left in the folder: the model, the report (open it in a browser), the trace made.
    """
    check_drawing()
    loaded = _load(trace, folder, set_name)
    part = evaluation.window(loaded, 0.5)
    made = ", made for the demo" if trace is None else ""
    requests, apps = counted(len(loaded), "request"), counted(len(loaded.apps), "app")
    _say(1, f"trace {loaded.name}: {requests} of {apps}{made}")

    model_folder = folder / "model"
    try:
        check_target(model_folder)
        with progress("training", 1) as show:
            model = evaluation.train(part, create_ms=CREATE_MS, jobs=jobs, on_progress=show)
        about = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "trained_on": trained_on(part.training) | {"until": 0.5, "create_ms": CREATE_MS},
        }
        write_artifact(model_folder, model, about)
        model = read_artifact(model_folder)
    except ArtifactError as error:
        raise UserError(str(error)) from None
    learned = counted(len(model.apps), "app")
    _say(2, f"a model of {learned}, trained on the first half: {model_folder}")

    stretch = _busiest(part, live_s)
    result, slots, left = loop.run(_live(stretch, model_folder))
    waited_s = sum(result.wait_ms) / 1000.0
    _say(
        3,
        f"served live over gRPC for {live_s:.0f} s of its busiest second half: {result.finished:,}"
        f" of {len(stretch):,} requests in {slots} slots, {waited_s:.1f} s waited in all (each app was"
        f" called once before); {left} slots left after SIGTERM",
    )
    if result.failed or left:
        raise UserError(f"{result.failed} requests failed, {left} slots leaked: {result.errors}")

    fold: Fold = run(part, chosen(DEFAULT_POLICIES), model, CREATE_MS, jobs, keep_replays=True)
    report = folder / "report.html"
    draw(fold, Pages(report), trace=trace or folder / MADE, create_ms=CREATE_MS)
    _say(4, "the second half replayed under each policy:")
    print_table(loaded, [fold])
    _say(5, f"table and pictures, open it in a browser: {report}")


def _say(step: int, text: str) -> None:
    out.print(f"[bold]{step}/5[/bold] {escape(text)}", soft_wrap=True, highlight=False)


def _load(path: Path | None, folder: Path, set_name: str | None) -> Trace:
    if path is not None:
        loaded = read_trace(path, set_name=set_name)
        for note in loaded.notes:
            say(f"note: {note}")
        return loaded
    made = folder / MADE
    write_trace(generate("azure", apps=DEMO_APPS, days=1.0, requests=DEMO_REQUESTS), made)
    return read_trace(made)


def _busiest(part: Window, live_s: float) -> Trace:
    """The stretch of the measured part with the most apps in it, not the most requests: a machine
    that plays both sides shall not be overloaded."""
    starts_ms = np.arange(part.split_ms, float(part.trace.arrival_ms[-1]), live_s * 1000.0)
    stretches = (part.trace.between(start, start + live_s * 1000.0) for start in starts_ms)
    most = max(
        (each for each in stretches if len(each) <= 100.0 * live_s),
        key=lambda each: len(np.unique(each.app)),
        default=None,
    )
    return most if most is not None else part.trace.between(part.split_ms, part.split_ms + 1_000.0)


def _warm_up(stretch: Trace) -> Trace:
    """One short request of each app in the stretch, all at once, but for those that start slowly."""
    apps = np.unique(stretch.app)
    init_ms = np.array([app.init_ms for app in stretch.apps])
    apps = apps[init_ms[apps] <= WARM_UP_MS]
    return replace(
        stretch,
        arrival_ms=np.full(len(apps), stretch.arrival_ms[0]),
        app=apps,
        duration_ms=np.ones(len(apps), np.int64),
        status_code=np.full(len(apps), 200, np.int64),
    )


async def _live(stretch: Trace, model: Path) -> tuple[LiveResult, int, int]:
    """Plays `stretch` through `scaler serve` in a process of its own, then stops it by SIGTERM."""
    platform = SimulatedPlatform({app.key: float(app.init_ms) for app in stretch.apps})
    await platform.start()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve = [sys.executable, "-m", "warmscaler", "serve", "--port", str(port)]
    serve += ["--platform", f"127.0.0.1:{platform.port}", "--model", str(model)]
    serve += ["--drain", str(DRAIN_S)]
    scaler = subprocess.Popen(serve, stderr=subprocess.DEVNULL)  # noqa: S603, ASYNC220
    result = LiveResult(stretch)
    playing: asyncio.Task[None] | None = None
    try:
        channel = await connect(f"127.0.0.1:{port}", timeout_s=30.0)
        first = _warm_up(stretch)
        await play(first, channel, LiveResult(first), ready=platform.ready)
        with progress("serving live", len(stretch)) as show:
            playing = asyncio.create_task(play(stretch, channel, result, ready=platform.ready))
            while not playing.done():
                await asyncio.wait({playing}, timeout=0.5)
                show(result.finished + result.failed)
            await playing
        await channel.close(None)
    except ScalerUnreachable as error:
        raise UserError(str(error)) from None
    finally:
        if playing is not None:
            playing.cancel()  # it goes on only where Ctrl-C ends us
        scaler.send_signal(signal.SIGTERM)
        await asyncio.to_thread(scaler.wait)
        left = platform.live_slots
        await platform.stop()
    return result, len(platform.slots), left
