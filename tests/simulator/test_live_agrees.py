"""Live and virtual agree on three busy minutes of the shared day: real processes, real gRPC.

Played at SPEED times the trace's pace, so that the suite stays short: the stretch is compressed
first, and both drivers see the compressed one. SCALER_LIVE_SPEED=1 plays it as it was.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.traces import shared_day
from warmscaler.data.trace import Trace
from warmscaler.models.artifact.folder import write_artifact
from warmscaler.models.learned.habits import Model
from warmscaler.models.policy import Policy
from warmscaler.models.registry import make_policy
from warmscaler.simulator.live import LiveResult, connect, play
from warmscaler.simulator.platform import Misuse, SimulatedPlatform
from warmscaler.simulator.replay import CREATE_MS, Replay, replay
from warmscaler.training.fitting.habits import app_habits

SPEED = float(os.environ.get("SCALER_LIVE_SPEED", "6"))
STRETCH_MS = 180_000
BUSY = 6_000
"""More requests than that in three minutes, at that pace, measure this machine and not us."""
OVERHEAD_MS = 60.0
"""What an Assign may take longer than its wait: two processes, two cores, other tests beside it."""
ATTEMPTS = 3
"""A machine that is busy with something else is late by itself; what is ours is there every time."""
WITHIN = 0.05
"""How far outside of what virtual replays span, a part of it."""


def busiest_stretch(trace: Trace) -> Trace:
    starts_ms = np.arange(trace.split_ms(0.5), float(trace.arrival_ms[-1]), STRETCH_MS)
    counts = np.diff(np.searchsorted(trace.arrival_ms, [*starts_ms, starts_ms[-1] + STRETCH_MS]))
    start_ms = starts_ms[np.where(counts <= BUSY, counts, 0).argmax()]
    return trace.between(start_ms, start_ms + STRETCH_MS)


def model_before(trace: Trace, speed: float) -> Model:
    """The apps' habits of the second quarter, at a price of the middle: what a search would find."""
    past = compressed(trace.between(trace.split_ms(0.25), trace.split_ms(0.5)), speed)
    apps = {}
    for index, app in enumerate(past.apps):
        own = past.app == index
        if own.any():
            apps[app.key] = app_habits(
                app, past.arrival_ms[own], past.duration_ms[own], CREATE_MS / speed
            )
    # A second saved is worth what it was: at `speed` there are fewer of both.
    return Model(price_s_per_gb_s=0.04, apps=apps)


def compressed(trace: Trace, speed: float) -> Trace:
    """The same requests, everything `speed` times faster, on the clock of milliseconds."""
    first_ms = trace.arrival_ms[0]
    return replace(
        trace,
        apps=tuple(replace(app, init_ms=round(app.init_ms / speed)) for app in trace.apps),
        arrival_ms=((trace.arrival_ms - first_ms) / speed).astype(np.int64),
        duration_ms=np.maximum((trace.duration_ms / speed).astype(np.int64), 1),
    )


async def play_live(trace: Trace, create_ms: float, arguments: list[str]) -> tuple[LiveResult, int]:
    """Plays `trace` through `scaler serve` in a process of its own; then the number of slots."""
    platform = SimulatedPlatform(
        {app.key: float(app.init_ms) for app in trace.apps}, create_ms=create_ms
    )
    await platform.start()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve = [sys.executable, "-m", "warmscaler", "serve", "--port", str(port)]
    serve += ["--platform", f"127.0.0.1:{platform.port}", *arguments]
    scaler = subprocess.Popen(serve, stderr=subprocess.DEVNULL)  # noqa: ASYNC220
    result = LiveResult(trace)
    try:
        channel = await connect(f"127.0.0.1:{port}", timeout_s=30.0)
        await play(trace, channel, result, ready=platform.ready)
        await channel.close(None)
    finally:
        scaler.send_signal(signal.SIGTERM)
        await asyncio.to_thread(scaler.wait)
    assert platform.live_slots == 0  # SIGTERM gave every one back
    assert platform.misuse == Misuse()
    await platform.stop()
    return result, len(platform.slots)


def virtual_span(
    trace: Trace, policy: Callable[[], Policy], create_ms: float
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Least and most cold starts, and slots, of replays whose requests come a little late each.

    Learned starts an instance just before it is needed: a few ms decide whether it was in time.
    """
    random = np.random.default_rng(1)
    cold, slots = [], []
    for latest_ms in [0, *[5] * 30, *[50] * 30]:
        arrival_ms = trace.arrival_ms + random.integers(0, latest_ms + 1, len(trace))
        order = np.argsort(arrival_ms, kind="stable")
        late = replace(
            trace,
            arrival_ms=arrival_ms[order],
            app=trace.app[order],
            duration_ms=trace.duration_ms[order],
        )
        result = replay(late, policy(), create_ms=create_ms)
        cold.append(int(result.cold.sum()))
        slots.append(len(result.slots))
    return (min(cold), max(cold)), (min(slots), max(slots))


@pytest.mark.parametrize("policy", ["fixed:60", "learned"])
def test_live_agrees_with_virtual(policy: str, tmp_path: Path) -> None:
    day = shared_day()
    stretch = compressed(busiest_stretch(day), SPEED)
    create_ms = CREATE_MS / SPEED
    if policy == "learned":
        model = model_before(day, SPEED)
        write_artifact(tmp_path / "model", model, {})
        arguments = ["--model", str(tmp_path / "model")]
        same_policy = partial(make_policy, "learned", model)
    else:
        window = f"fixed:{60.0 / SPEED:g}"
        arguments = ["--policy", window]
        same_policy = partial(make_policy, window)
    for left in reversed(range(ATTEMPTS)):
        try:
            compare(policy, stretch, create_ms, arguments, same_policy)
        except AssertionError:
            if not left:
                raise
        else:
            break


def compare(
    policy: str,
    stretch: Trace,
    create_ms: float,
    arguments: list[str],
    same_policy: Callable[[], Policy],
) -> None:
    live, slots = asyncio.run(play_live(stretch, create_ms, arguments))
    # Learned goes by the minute of the clock: the virtual replay begins when the live one did.
    shift_ms = round(live.start_time_s * 1_000.0) - stretch.arrival_ms[0]
    shifted = replace(stretch, arrival_ms=stretch.arrival_ms + shift_ms)
    virtual = replay(shifted, same_policy(), create_ms=create_ms)
    report(policy, stretch, live, slots, virtual)
    assert live.errors == {}
    assert live.finished == len(stretch)
    seen, expected = (int(live.cold.sum()), slots), (int(virtual.cold.sum()), len(virtual.slots))
    if not all(near(own, each, each) for own, each in zip(seen, expected, strict=True)):
        # Only then: what is near one replay is near what all of them span.
        spans = virtual_span(shifted, same_policy, create_ms)
        assert all(near(own, *span) for own, span in zip(seen, spans, strict=True)), (seen, spans)
    late_ms = live.wait_ms - virtual.wait_ms
    same = live.cold == virtual.cold  # which of two requests at one instant came first may differ
    assert np.median(np.abs(late_ms[same])) < OVERHEAD_MS / 4.0
    assert np.quantile(late_ms[same], 0.95) < OVERHEAD_MS


def near(count: int, least: int, most: int) -> bool:
    return least * (1.0 - WITHIN) <= count <= most * (1.0 + WITHIN)


def report(policy: str, stretch: Trace, live: LiveResult, slots: int, virtual: Replay) -> None:
    """What -s shows."""
    late_ms = live.wait_ms - virtual.wait_ms
    print(
        f"\n{policy}: {len(stretch):,} requests; cold live {live.cold.sum()},"
        f" virtual {virtual.cold.sum()}; slots live {slots}, virtual {len(virtual.slots)};"
        f" waited live {live.wait_ms.sum() / 1e3:.1f} s, virtual {virtual.wait_ms.sum() / 1e3:.1f} s;"
        f" overhead median {np.median(late_ms):.1f} ms, p95 {np.quantile(late_ms, 0.95):.1f} ms"
    )
