"""`scaler trace`: look at a trace, convert it, make one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from warmscaler.cli.console import counted, out, print_json, say
from warmscaler.cli.errors import UserError
from warmscaler.data.generate import KINDS, generate
from warmscaler.data.read import (
    STDIN,
    formats_text,
    read_app_facts,
    read_trace,
    write_trace,
)
from warmscaler.data.tables.build import Layout, layout_of
from warmscaler.data.trace import Trace

app = typer.Typer(
    help="Look at a trace, convert it, make one.", no_args_is_help=True, add_completion=False
)

READ = (
    "CSV, JSON lines or Parquet of any columns, OpenWhisk, AWS Lambda, Envoy and Knative logs, the"
    " contest's and Azure's formats, a recording, or - for stdin: see `scaler trace formats`."
)
Source = Annotated[Path, typer.Argument(metavar="TRACE", help=READ)]
SetName = Annotated[
    str | None, typer.Option("--set", help="Which data set, where a folder or archive has several.")
]
Target = "*.parquet for our own format; a name without ending for a folder in the contest's."
Seed = Annotated[
    int, typer.Option(help="For what is drawn: the same seed, the same draw. Any number.")
]
Map = Annotated[
    str | None,
    typer.Option(
        "--map", help="Which column is what: app=fn,arrival=ts,duration=took:ms; else guessed."
    ),
]
MemoryMb = Annotated[
    int | None, typer.Option("--memory-mb", help="For apps whose memory the trace does not say.")
]
InitMs = Annotated[
    int | None,
    typer.Option("--init-ms", help="For apps whose start-up time the trace does not say."),
]
AppsFile = Annotated[
    Path | None,
    typer.Option("--apps", help="A small file of apps: app,memory_mb,init_ms; above the trace."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def layout(
    roles: str | None, memory_mb: int | None, init_ms: int | None, apps: Path | None
) -> Layout:
    """What the options say of a table. Raises TraceError."""
    facts = None if apps is None else read_app_facts(apps)
    return layout_of(roles, memory_mb=memory_mb, init_ms=init_ms, apps=facts)


def refuse_layout_on_a_cluster(path: Path, *said: object) -> None:
    """Workers read the file themselves and are told nothing of it. Raises UserError."""
    if str(path) == STDIN or any(each is not None for each in said):
        raise UserError(
            "--cluster: workers read the trace themselves, without --map and its like; convert it"
            " first: scaler trace convert TRACE trace.parquet --map …"
        )


@app.command("info", epilog="Example: scaler trace info calls.csv --map app=fn,arrival=ts --json")
def info(
    path: Source,
    set_name: SetName = None,
    roles: Map = None,
    memory_mb: MemoryMb = None,
    init_ms: InitMs = None,
    apps: AppsFile = None,
    json: Json = False,
) -> None:
    """What a trace holds: apps, requests, span, rates, durations, and what was taken for what."""
    said = layout(roles, memory_mb, init_ms, apps)
    summary = summarise(read_trace(path, set_name=set_name, layout=said))
    if json:
        print_json(summary)
        return
    table = Table(title=escape(summary["name"]), show_header=False)
    for name, value in summary.items():
        if name == "first_arrival_ms":
            table.add_row("first_arrival", date_of(value))
        elif name not in ("name", "notes"):
            table.add_row(name, f"{value:,.3f}" if isinstance(value, float) else f"{value:,}")
    out.print(table)
    for note in summary["notes"]:
        say(f"note: {note}", out)


@app.command("convert", epilog="Example: scaler trace convert azure2019/ trace.parquet --seed 1")
def convert(
    source: Source,
    target: Annotated[Path, typer.Argument(metavar="TARGET", help=Target)],
    set_name: SetName = None,
    seed: Seed = 0,
    roles: Map = None,
    memory_mb: MemoryMb = None,
    init_ms: InitMs = None,
    apps: AppsFile = None,
) -> None:
    """Reads any known format; writes `*.parquet` in our own, anything else as a contest folder."""
    said = layout(roles, memory_mb, init_ms, apps)
    trace = read_trace(source, set_name=set_name, seed=seed, layout=said)
    write_trace(trace, target)
    for note in trace.notes:
        say(f"note: {note}")
    say(f"{_told(trace)} written to {target}")


@app.command("formats")
def formats() -> None:
    """Every format that is read, which names are known, and what is assumed of what is not said."""
    print(formats_text(), end="")


@app.command(
    "generate",
    epilog="Example: scaler trace generate azure --apps 400 --days 14 --requests 2000000"
    " --out big.parquet",
)
def generate_command(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="One of: " + ", ".join(KINDS))],
    target: Annotated[Path, typer.Option("--out", help=Target)],
    apps: Annotated[
        int | None, typer.Option(help="How many; else 100 (azure) or 400 (contest-3).")
    ] = None,
    days: Annotated[float, typer.Option(help="The trace's span.")] = 1.0,
    requests: Annotated[
        int | None, typer.Option(help="About how many in all (azure only); else as apps give.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Makes a look-alike of the contest's sets or of an Azure-like population."""
    trace = generate(kind, apps=apps, days=days, requests=requests, seed=seed)
    write_trace(trace, target)
    say(f"{_told(trace)} written to {target}")


def _told(trace: Trace) -> str:
    return f"{counted(len(trace), 'request')} of {counted(len(trace.apps), 'app')}"


def date_of(ms: float) -> str:
    """Milliseconds since 1970 as a person reads them."""
    return datetime.fromtimestamp(ms / 1000.0, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def summarise(trace: Trace) -> dict[str, Any]:
    """The figures that `info` shows."""
    span_s = (int(trace.arrival_ms[-1]) - int(trace.arrival_ms[0])) / 1000.0
    calls = np.bincount(trace.app, minlength=len(trace.apps))
    memory_mb = [app.memory_mb for app in trace.apps]
    return {
        "name": trace.name,
        "requests": len(trace),
        "apps": len(trace.apps),
        "apps_called": int((calls > 0).sum()),
        "first_arrival_ms": int(trace.arrival_ms[0]),
        "span_s": span_s,
        "requests_per_s": len(trace) / span_s if span_s else float(len(trace)),
        "calls_per_app_median": float(np.median(calls)),
        "calls_per_app_max": int(calls.max()),
        "duration_ms_median": float(np.median(trace.duration_ms)),
        "duration_ms_p99": float(np.quantile(trace.duration_ms, 0.99)),
        "init_ms_median": float(np.median([app.init_ms for app in trace.apps])),
        "memory_mb_min": min(memory_mb),
        "memory_mb_max": max(memory_mb),
        "failed_requests": int(((trace.status_code < 200) | (trace.status_code > 299)).sum()),
        "notes": list(trace.notes),
    }
