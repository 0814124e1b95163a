"""`scaler evaluate --replicas`: replicas ahead of time against reactive rules, and the table of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from warmscaler.cli.console import out, print_json, print_wide, progress, say
from warmscaler.cli.errors import UserError
from warmscaler.cli.pages import check_target
from warmscaler.data.files import whole
from warmscaler.data.trace import Trace
from warmscaler.replicas.compiled import IS_INSTALLED
from warmscaler.training.replicas import statistical
from warmscaler.training.replicas.judge import GPU_GB, PLATFORMS, PRICES, Judgement, as_json, judge

SaveForecast = Annotated[
    Path | None,
    typer.Option(
        help="For --replicas: *.txt to write, the forecast learned before the split; see scaler keda"
        " --forecast."
    ),
]
Statsforecast = Annotated[
    bool,
    typer.Option(
        "--statsforecast",
        help="For --replicas: models of statsforecast too, each level in hindsight; takes minutes.",
    ),
]

PLATFORM, PLACES = "knative", 1
DAY_MS = 86_400_000.0
MOST_DAYS = 400


@dataclass(frozen=True, slots=True)
class ReplicaOptions:
    """How to judge."""

    split: float
    create_ms: float
    platform: str = PLATFORM
    places: int = PLACES
    gpu_gb: float = GPU_GB
    save_forecast: Path | None = None
    statsforecast: bool = False


def check(options: ReplicaOptions, *, asked: bool) -> None:
    """Raises UserError where an option of `--replicas` cannot be, or comes without it."""
    if not asked:
        if options != ReplicaOptions(options.split, options.create_ms):
            raise UserError(
                "--on, --container-concurrency, --gpu-gb, --save-forecast and --statsforecast go with"
                " --replicas"
            )
        return
    platform, places, gpu_gb = options.platform, options.places, options.gpu_gb
    if platform not in PLATFORMS:
        raise UserError(f"--on {platform}: it must be one of {', '.join(PLATFORMS)}")
    if not 1 <= places <= 1_000_000:
        raise UserError(f"--container-concurrency {places}: it must be from 1 to 1,000,000")
    if not gpu_gb > 0.0:
        raise UserError(f"--gpu-gb {gpu_gb:g}: it must be above 0")
    if options.statsforecast and not statistical.IS_INSTALLED:
        raise UserError(
            "--statsforecast: it is not installed: pip install 'warmscaler[statsforecast]'"
        )
    check_target("--save-forecast", options.save_forecast, ".txt")


def _untold(_: float) -> None:
    """Nothing to tell."""


def run(
    trace: Trace, prices: Sequence[float] | None, options: ReplicaOptions, *, json: bool
) -> None:
    """Judges and prints. Raises UserError."""
    days = float(trace.arrival_ms[-1] - trace.arrival_ms[0]) / DAY_MS
    if days > MOST_DAYS:
        raise UserError(
            f"{trace.name}: it spans {days:,.0f} days, and --replicas looks every 15 s: give it at most"
            f" {MOST_DAYS}; is there a request with a wrong time?"
        )
    if not IS_INSTALLED:
        say("note: without numba (pip install 'warmscaler[replicas]') this takes far longer")
    with (
        progress("learning", 1) as learning,
        progress("replaying", 1) as replaying,
        progress("statsforecast", 1)
        if options.statsforecast
        else nullcontext(_untold) as forecasting,
    ):
        found = judge(
            trace,
            prices or PRICES,
            split=options.split,
            platform=options.platform,
            places=options.places,
            create_ms=options.create_ms,
            gpu_gb=options.gpu_gb,
            statsforecast=options.statsforecast,
            learning=learning,
            replaying=replaying,
            forecasting=forecasting,
        )
    if options.save_forecast is not None:
        if found.forecast is None:
            raise UserError("--save-forecast: nothing was called before the split to learn from")
        with whole(options.save_forecast) as file:
            file.write_text(found.forecast.as_text(), encoding="utf-8")
    if json:
        print_json(as_json(found))
        return
    out.print(
        f"{found.trace}: {found.requests:,} requests from {100 * options.split:g}% of the span on;"
        f" replicas of {options.gpu_gb:g} GB and more count as GPUs",
        highlight=False,
        soft_wrap=True,
    )
    for each in found.judged:
        print_wide(table_of(each))
        ratio = each.statistical_ratio
        besides = "" if ratio is None else f", {ratio:.2f} of statsforecast's best"
        out.print(
            f"ours costs {each.ratio:.2f} of the best reactive setting in hindsight{besides}; its 90 %"
            f" quantile of the peak covered {each.coverage:.1%}\n",
            highlight=False,
            soft_wrap=True,
        )


def table_of(judged: Judgement) -> Table:
    """A row a rule."""
    table = Table(
        title=f"price {judged.price:g} s per GB·s",
        box=box.SIMPLE,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    table.add_column("replicas by", no_wrap=True)
    for heading in ("cost s", "waited s", "waited", "wasted GB·s", "replica·h", "GPU·h"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in judged.rows:
        table.add_row(
            row.label,
            f"{row.cost_s:,.0f}",
            f"{row.wait_s:,.0f}",
            f"{row.waited_share:.2%}",
            f"{row.waste_gb_s:,.0f}",
            f"{row.replica_hours:,.1f}",
            f"{row.gpu_hours:,.1f}",
        )
    return table
