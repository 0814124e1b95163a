"""`scaler simulate`: the platform and the requests, against a scaler that listens."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from warmscaler.cli import loop
from warmscaler.cli.console import out, print_json, progress, say
from warmscaler.cli.errors import UserError
from warmscaler.cli.health import address_of, channel_tls
from warmscaler.cli.listening import server_tls
from warmscaler.cli.trace import (
    READ,
    AppsFile,
    InitMs,
    Json,
    Map,
    MemoryMb,
    SetName,
    date_of,
    layout,
)
from warmscaler.cli.train import CreateMs
from warmscaler.data.read import read_trace
from warmscaler.data.trace import Trace
from warmscaler.service.front.tls import PlatformTls, ServerTls, TlsError
from warmscaler.simulator.live import LiveResult, ScalerUnreachable, connect, play
from warmscaler.simulator.platform import SimulatedPlatform
from warmscaler.simulator.replay import CREATE_MS
from warmscaler.simulator.statistics import StatisticsPage


def simulate(
    path: Annotated[Path, typer.Argument(metavar="TRACE", envvar="SCALER_TRACE", help=READ)],
    scaler: Annotated[str, typer.Option(help="The scaler's HOST:PORT.")] = "127.0.0.1:9001",
    platform_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Where our platform listens.")
    ] = 50051,
    statistics_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Where the statistics page is.")
    ] = 9000,
    start: Annotated[float, typer.Option(min=0, help="Seconds into the trace to start at.")] = 0.0,
    duration: Annotated[
        float | None, typer.Option(help="Seconds of the trace to play; else to its end.")
    ] = None,
    speed: Annotated[float, typer.Option(help="Times faster than real time.")] = 1.0,
    create_ms: CreateMs = CREATE_MS,
    wait_s: Annotated[
        float, typer.Option("--wait", min=0.1, help="Seconds the scaler may take to come up.")
    ] = 10.0,
    scaler_ca: Annotated[
        Path | None, typer.Option(help="Call the scaler over TLS; it must be signed by this one.")
    ] = None,
    scaler_name: Annotated[
        str | None, typer.Option(help="The name in its certificate, where that is not HOST.")
    ] = None,
    scaler_cert: Annotated[
        Path | None, typer.Option(help="The certificate to show to the scaler.")
    ] = None,
    scaler_key: Annotated[Path | None, typer.Option(help="Its key.")] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Our platform's certificate (PEM): it listens over TLS.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(help="The scaler must show a certificate signed by this one.")
    ] = None,
    set_name: SetName = None,
    roles: Map = None,
    memory_mb: MemoryMb = None,
    init_ms: InitMs = None,
    apps: AppsFile = None,
    json: Json = False,
) -> None:
    """Plays a trace in real time against any scaler at the contest's interface.

    Serves the simulated platform, and the contest's statistics as JSON while it runs. At its end,
    or on Ctrl-C, it prints them; a request that fails is counted, and said: exit code 1.
    """
    for option, given in (("--speed", speed), ("--duration", duration)):
        if given is not None and not (isfinite(given) and given > 0):
            raise UserError(f"{option} {given:g}: must be a number above 0")
    if not isfinite(start):
        raise UserError(f"--start {start:g}: must be a number of seconds")
    target = str(address_of(scaler, "--scaler"))
    if scaler_name is not None and scaler_ca is None:
        raise UserError("--scaler-name goes with --scaler-ca")
    wires = _Wires(
        target,
        platform_port,
        channel_tls(
            *(scaler_ca, scaler_cert, scaler_key),
            *("--scaler-ca", "--scaler-cert", "--scaler-key"),
        ),
        scaler_name,
        server_tls(tls_cert, tls_key, tls_client_ca),
    )
    if speed > 1.0:
        say(
            f"warning: at --speed {speed:g} what calls take counts {speed:g} times, and the scaler's"
            " own windows do not run faster: the figures compare with none of real time"
        )
    said = layout(roles, memory_mb, init_ms, apps)
    trace = read_trace(path, set_name=set_name, layout=said)
    first_ms = int(trace.arrival_ms[0]) + start * 1000.0
    end_ms = int(trace.arrival_ms[-1]) + 1.0 if duration is None else first_ms + duration * 1000.0
    stretch = trace.between(first_ms, end_ms)
    if not len(stretch):
        raise UserError(
            f"{path}: no request in the stretch from second {start:g}; see scaler trace info"
        )
    statistics = loop.run(_simulate(stretch, wires, statistics_port, speed, create_ms, wait_s))
    if json:
        print_json(statistics)
    else:
        table = Table(title=f"{stretch.name}: {len(stretch):,} requests", show_header=False)
        for name, value in statistics.items():
            table.add_row(name, _shown(name, value))
        out.print(table)
    if failed := statistics["failedRequestsCount"]:
        say(f"warning: {failed:,} requests failed: {statistics['errors']}")
    if statistics["totalRequestsCount"] != len(stretch):
        say(f"stopped after {statistics['totalRequestsCount']:,} of {len(stretch):,} requests")
        sys.exit(130)
    if failed:
        sys.exit(1)


@dataclass(frozen=True, slots=True)
class _Wires:
    """How the scaler is called, and how our platform listens; None of a TLS is in the clear."""

    scaler: str
    platform_port: int
    scaler_tls: PlatformTls | None
    scaler_name: str | None
    platform_tls: ServerTls | None


def _shown(name: str, value: object) -> str:
    """A figure as a person reads it: moments as dates, numbers with separators."""
    if name in ("startTime", "endTime") and isinstance(value, float):
        return date_of(value * 1000.0)
    if isinstance(value, float):
        return f"{value:,.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


async def _simulate(
    trace: Trace,
    wires: _Wires,
    statistics_port: int,
    speed: float,
    create_ms: float,
    wait_s: float,
) -> dict[str, object]:
    init_ms = {app.key: float(app.init_ms) for app in trace.apps}
    platform = SimulatedPlatform(init_ms, create_ms=create_ms, speed=speed)
    result = LiveResult(trace)

    def statistics() -> dict[str, object]:
        return result.statistics(trace.name, platform.slot_gb_s(), platform.live_slots)

    page = _page(statistics, statistics_port)
    try:
        await _listen(platform, wires)
        channel = await connect(wires.scaler, wait_s, tls=wires.scaler_tls, name=wires.scaler_name)
        with progress("playing", len(trace)) as on_progress:
            playing = asyncio.create_task(
                play(trace, channel, result, ready=platform.ready, speed=speed)
            )
            try:
                while not playing.done():
                    await asyncio.wait({playing}, timeout=0.5)
                    on_progress(result.finished + result.failed)
                await playing
            except asyncio.CancelledError:  # Ctrl-C, SIGTERM: what was seen so far is shown
                playing.cancel()
                await asyncio.wait({playing})
        figures = statistics() | {
            "coldStarts": int(result.cold.sum()),
            "waitP99InMs": float(np.quantile(result.wait_ms, 0.99)),
            "slots": len(platform.slots),
            "misuse": asdict(platform.misuse),
            "errors": dict(result.errors),
        }
        await channel.close(None)
        return figures
    except (ScalerUnreachable, TlsError) as error:
        raise UserError(str(error)) from None
    finally:
        page.close()
        await platform.stop()


async def _listen(platform: SimulatedPlatform, wires: _Wires) -> None:
    try:
        await platform.start(f"127.0.0.1:{wires.platform_port}", wires.platform_tls)
    except OSError as error:
        raise UserError(f"--platform-port {wires.platform_port}: {error}") from None


def _page(statistics: Callable[[], dict[str, object]], port: int) -> StatisticsPage:
    try:
        return StatisticsPage(statistics, port)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--statistics-port {port}: cannot listen there: {error}; choose another"
        ) from None
