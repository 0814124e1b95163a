"""`scaler advise`: settings for each app, and what they would save, from a trace."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from warmscaler.cli.console import counted, out, progress, say
from warmscaler.cli.errors import UserError
from warmscaler.cli.objective import SecondWaited, asked
from warmscaler.cli.trace import AppsFile, InitMs, Map, MemoryMb, SetName, Source, layout
from warmscaler.cli.train import CreateMs
from warmscaler.data.files import whole
from warmscaler.data.read import read_trace
from warmscaler.data.trace import Trace
from warmscaler.models.objectives.words import KNOWN, SAFE, Kind
from warmscaler.models.registry import PolicyError
from warmscaler.simulator.replay import CREATE_MS
from warmscaler.training.advising import exports
from warmscaler.training.advising.report import AppReport, Report, spell
from warmscaler.training.advising.report import advise as work_out
from warmscaler.training.advising.safe import safe_price
from warmscaler.training.evaluating.settings import BASELINE
from warmscaler.training.fitting.fit import fit

SHOWN = 25
"""Apps that the table shows: those that save most."""
DAYS = ("Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed")
"""In the order of a week's clock: 1970 began on a Thursday."""


class Format(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    KNATIVE = "knative"
    KEDA = "keda"
    AWS = "aws"


def advise(
    trace: Source,
    today: Annotated[
        str, typer.Option(help="What is done today, as `scaler evaluate --policy` names it.")
    ] = BASELINE,
    price: Annotated[
        float | None,
        typer.Option(help="Seconds of waiting a GB·s is worth."),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(
            help=f"By the price at which learned would meet it: {KNOWN}. Without any, safe: requests"
            " wait no longer than by --today, then the least memory."
        ),
    ] = None,
    gb_hour: Annotated[
        float | None,
        typer.Option(
            "--gb-hour",
            help="What a GB·hour costs, to tell it in money; with --second-waited the price.",
        ),
    ] = None,
    second_waited: SecondWaited = None,
    split: Annotated[
        float, typer.Option(help="Savings are measured from this fraction of the span on.")
    ] = 0.5,
    until: Annotated[
        float, typer.Option(help="Use this fraction of the span alone, above 0 to 1.")
    ] = 1.0,
    form: Annotated[Format, typer.Option("--format", help="As what it is printed.")] = Format.TABLE,
    target: Annotated[
        Path | None, typer.Option("--out", help="A file to write it to; else stdout.")
    ] = None,
    create_ms: CreateMs = CREATE_MS,
    jobs: Annotated[
        int, typer.Option(min=1, help="Processes at once; else one a core.")
    ] = os.cpu_count() or 1,
    set_name: SetName = None,
    roles: Map = None,
    memory_mb: MemoryMb = None,
    init_ms: InitMs = None,
    apps: AppsFile = None,
) -> None:
    """Works out settings for each app: how long to keep, when to pre-warm, least instances.

    What they save is measured on the part of the trace they were not made of. The replay judges
    what it prints: `scaler evaluate TRACE --policy advice:FILE` with the file of --format json.
    """
    wanted = asked(price, objective, gb_hour, second_waited, gb_hour_alone=True) or SAFE
    if not 0.0 < split < 1.0:
        raise UserError(f"--split {split:g}: it must lie between 0 and 1")
    if not 0.0 < until <= 1.0:
        raise UserError(f"--until {until:g}: it must lie above 0 and not above 1")
    if target is not None and not target.absolute().parent.is_dir():
        raise UserError(f"--out {target}: there is no folder {target.absolute().parent}")
    loaded = read_trace(trace, set_name=set_name, layout=layout(roles, memory_mb, init_ms, apps))
    for note in loaded.notes:
        say(f"note: {note}")
    part = loaded if until == 1.0 else loaded.between(-inf, loaded.split_ms(until))
    if not len(part):
        raise UserError(f"{trace}: no request before {until:g} of its span")

    def price_of(known: Trace, show: Callable[[float], None]) -> float:
        if wanted.kind is Kind.PRICE:
            return wanted.value
        if wanted.kind is Kind.SAFE:
            return safe_price(known, today=today, create_ms=create_ms, jobs=jobs, on_progress=show)
        model = fit(known, create_ms=create_ms, objective=wanted, jobs=jobs, on_progress=show)
        return model.price_s_per_gb_s

    try:
        with progress("replaying", 1) as show:
            report = work_out(
                part,
                price_of=price_of,
                today=today,
                split=split,
                create_ms=create_ms,
                jobs=jobs,
                on_progress=show,
            )
    except PolicyError as error:
        raise UserError(f"--today: {error}") from None
    if form is Format.TABLE and target is None:
        print_table(report, gb_hour)
        return
    text = _text(report, form, gb_hour)
    if target is None:
        print(text, end="")
        return
    with whole(target) as file:
        file.write_text(text, encoding="utf-8")
    say(f"advice for {counted(len(report.apps), 'app')} written to {target}")


def print_table(report: Report, gb_hour: float | None) -> None:
    """A row an app, those that save most first, and what all of it saves."""
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("app", "keep", "pre-warm (UTC)", "instances"):
        table.add_column(heading)
    for heading in ("saves GB·h", "cold starts", "waiting"):
        table.add_column(heading, justify="right")
    table.add_column("sure")
    table.add_column("why", overflow="fold")
    for each in report.apps[:SHOWN]:
        saving = each.saving
        table.add_row(
            escape(each.key if len(each.key) <= 24 else f"{each.key[:21]}..."),
            spell(each.advice.keep_ms / 1000.0),
            _times(each),
            _instances(each),
            *(
                ("-", "-", "-")
                if saving is None
                else (f"{saving.gb_h:,.2f}", f"{saving.cold_starts:,}", f"{saving.wait_s:,.0f} s")
            ),
            each.sure,
            each.why,
        )
    out.width = max(out.width, 160)
    out.print(table)
    if len(report.apps) > SHOWN:
        out.print(f"{len(report.apps) - SHOWN:,} more apps: see --format csv")
    print_saving(report, gb_hour)


def print_saving(report: Report, gb_hour: float | None) -> None:
    """What the whole fleet saves, in the units of whoever pays."""
    saving, ratio = report.saving, report.cost_ratio
    money = "" if gb_hour is None else f" ({abs(saving.gb_h) * gb_hour:,.2f} at {gb_hour:g} a GB·h)"
    say(
        f"Against {report.today}, in the {report.hours:,.1f} h measured:"
        f" {abs(saving.gb_h):,.1f} GB·h {'saved' if saving.gb_h >= 0.0 else 'more'}{money},"
        f" {abs(saving.cold_starts):,} cold starts {'fewer' if saving.cold_starts >= 0 else 'more'} and"
        f" {abs(saving.wait_s):,.0f} s of waiting {'less' if saving.wait_s >= 0.0 else 'more'}.",
        out,
    )
    say(
        f"At {report.measured_price:.3g} s of waiting a GB·s it costs {ratio:.2f} of what"
        f" {report.today} does there. The advice for them was made of what came before.",
        out,
    )


def _times(app: AppReport) -> str:
    clock = app.advice.clock
    if clock is None:
        return ""
    every, at_s = spell(clock.period_ms / 1000.0), clock.opens_ms / 1000.0
    if clock.period_ms < 3_600_000.0:
        at = f"{int(at_s // 60)}:{at_s % 60:04.1f}"
    else:
        days, rest = divmod(at_s, 86_400.0)
        day = DAYS[int(days)] + " " if clock.period_ms > 86_400_000.0 else ""
        at = f"{day}{int(rest // 3600):02}:{int(rest % 3600 // 60):02}:{int(rest % 60):02}"
    return f"every {every} from {at}, {spell(clock.open_ms / 1000.0)}"


def _instances(app: AppReport) -> str:
    most = max((each for each in app.most if each is not None), default=0)
    least = app.advice.least
    if not any(least):
        return f"0 to {most}"
    return (
        f"{min(least)}/{max(least)} to {most}"
        if min(least) != max(least)
        else f"{min(least)} to {most}"
    )


def _text(report: Report, form: Format, gb_hour: float | None) -> str:
    if form in (Format.CSV, Format.TABLE):
        rows = exports.as_rows(report, gb_hour)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()
    if form is Format.JSON:
        return _json(exports.as_json(report, gb_hour))
    if form is Format.KNATIVE:
        return _json(exports.knative(report.apps))
    if form is Format.KEDA:
        return _json(exports.keda(report.apps))
    return _json(exports.aws(report.apps))


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
