"""`scaler trace`: look at a trace, convert it, make one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from warmscaler.cli.console import out, print_json, say
from warmscaler.data.generate import KINDS, generate
from warmscaler.data.read import read_trace, write_trace
from warmscaler.data.trace import Trace

app = typer.Typer(
    help="Look at a trace, convert it, make one.", no_args_is_help=True, add_completion=False
)

READ = (
    "A folder or .tar.gz in the contest's format, Azure Functions 2019 (a folder) or 2021 (CSV),"
    " our own *.parquet, or what `scaler serve --record` wrote."
)
Source = Annotated[Path, typer.Argument(metavar="TRACE", help=READ)]
SetName = Annotated[
    str | None, typer.Option("--set", help="Which data set, where a folder or archive has several.")
]
Target = "*.parquet for our own format; a name without ending for a folder in the contest's."
Seed = Annotated[
    int, typer.Option(help="For what is drawn: the same seed, the same draw. Any number.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command("info", epilog="Example: scaler trace info trace.tar.gz --json")
def info(path: Source, set_name: SetName = None, json: Json = False) -> None:
    """What a trace holds: apps, requests, span, rates, durations, and what was drawn."""
    summary = summarise(read_trace(path, set_name=set_name))
    if json:
        print_json(summary)
        return
    table = Table(title=escape(summary["name"]), show_header=False)
    for name, value in summary.items():
        if name not in ("name", "notes"):
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
) -> None:
    """Reads any known format; writes `*.parquet` in our own, anything else as a contest folder."""
    trace = read_trace(source, set_name=set_name, seed=seed)
    write_trace(trace, target)
    for note in trace.notes:
        say(f"note: {note}")
    say(f"{len(trace):,} requests of {len(trace.apps):,} apps written to {target}")


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
    say(f"{len(trace):,} requests of {len(trace.apps):,} apps written to {target}")


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
