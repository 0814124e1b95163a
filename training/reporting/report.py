"""The report: one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from warmscaler.data.files import whole
from warmscaler.models.learned.habits import Model
from warmscaler.models.objectives.price import exchange_rate
from warmscaler.training.evaluating.account import account, clairvoyant_cost, hindsight_cost
from warmscaler.training.evaluating.calibration import calibration
from warmscaler.training.evaluating.evaluate import Measured, Window, find
from warmscaler.training.evaluating.settings import BASELINE, LEARNED
from warmscaler.training.reporting import plots
from warmscaler.training.reporting.app_plots import PARTS, draw_parts, draw_timeline
from warmscaler.training.reporting.drawing import chart
from warmscaler.training.reporting.headline import GB_HOUR, headline
from warmscaler.training.reporting.origin import Origin

HERE = Path(__file__).parent
TEMPLATE = "report.html.j2"
SCRIPTS = ("vendor/sortable.auto.min.js", "report.js")
"""sortable-tablesort 4.1.7 (Unlicense, vendor/sortable.LICENSE), and our tooltips."""
ACCOUNTED_APPS = 24
"""How many apps the picture of the account shows: those that cost most."""
TIMELINE_MS = 1_800_000.0
TIMELINE_REQUESTS = 30
LISTED_APPS = 200
"""How many apps the table lists: those that gain and that lose most."""
SHORT_KEY = 12


class ReportError(Exception):
    """The page cannot be written. Its text is one line."""


@dataclass(frozen=True, slots=True)
class AppChange:
    """One app under the baseline and under learned."""

    key: str
    memory_mb: int
    requests: int
    cold_before: float
    cold_after: float
    wait_before_s: float
    wait_after_s: float
    wasted_before_gb_s: float
    wasted_after_gb_s: float
    gain_s: float
    """Seconds of waiting saved, wasted memory counted at the price; negative where it loses."""


def write_report(
    path: Path,
    part: Window,
    measured: Sequence[Measured],
    *,
    create_ms: float,
    origin: Origin,
    model: Model | None = None,
    baseline: str = BASELINE,
    gb_hour: float = GB_HOUR,
) -> None:
    """Writes the page for one evaluation to `path`, whole or not at all.

    `model` is what learned went by, `baseline` the policy that learned is told against, `gb_hour`
    what a GB·h costs. The account, the timeline and the calibration are shown where the evaluation
    kept the replays. Raises ReportError.
    """
    page = render(
        part,
        measured,
        create_ms=create_ms,
        origin=origin,
        model=model,
        baseline=baseline,
        gb_hour=gb_hour,
    )
    try:
        with whole(path) as file:
            file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ReportError(f"{path}: cannot be written: {error.strerror or error}") from None


def render(
    part: Window,
    measured: Sequence[Measured],
    *,
    create_ms: float,
    origin: Origin,
    model: Model | None = None,
    baseline: str = BASELINE,
    gb_hour: float = GB_HOUR,
) -> str:
    """The page's text. Everything from the trace is escaped."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    main = _one_a_policy(measured, baseline)
    changes, price = app_changes(part, measured, baseline)
    trace = part.trace
    context: dict[str, Any] = {
        "origin": origin,
        "name": trace.name,
        "notes": [*trace.notes, *origin.notes],
        "apps": len(trace.apps),
        "requests": measured[0].figures.requests,
        "split": part.split,
        "split_at": _date(part.split_ms),
        "last": _date(float(trace.arrival_ms[-1])),
        "hours": (float(trace.arrival_ms[-1]) - part.split_ms) / 3_600_000.0,
        "create_ms": create_ms,
        "headline": headline(measured, baseline, gb_hour),
        "measured": main,
        "swept": len(measured) - len(main),
        "frontier": chart(
            "frontier",
            "Waiting against wasted memory: a point for each setting of each policy",
            lambda narrow: plots.frontier(measured, baseline=baseline, narrow=narrow),
        ),
        "cold_by_app": _cold_by_app(main, baseline),
        "waste_by_app": _waste_by_app(main, baseline),
        "price": price,
        "changes": _listed(changes),
        "unlisted": max(len(changes) - LISTED_APPS, 0),
        "losers": sum(each.gain_s < 0.0 for each in changes),
        "baseline": baseline,
        "style": Markup((HERE / "report.css").read_text(encoding="utf-8")),  # noqa: S704 - our own
        "scripts": [
            Markup((HERE / name).read_text(encoding="utf-8"))  # noqa: S704 - ours, or vendored
            for name in SCRIPTS
        ],
    }
    context |= _rest(part, measured, price, create_ms)
    context |= _timeline(part, measured, changes, create_ms, baseline)
    context |= _used_by_the_model(part, measured, model)
    return environment.get_template(TEMPLATE).render(context)


def _date(ms: float) -> str:
    return datetime.fromtimestamp(ms / 1_000.0, UTC).strftime("%Y-%m-%d %H:%M")


def _rest(
    part: Window, measured: Sequence[Measured], price: float | None, create_ms: float
) -> dict[str, Any]:
    """What is left of waste and waiting under learned, and what it consists of."""
    ours = find(measured, LEARNED)
    if ours is None or ours.replayed is None or price is None:
        return {"rest": None}
    trace, split_ms = part.trace, part.split_ms
    of = account(trace, ours.replayed, split_ms, price=price, create_ms=create_ms)
    hindsight = hindsight_cost(trace, split_ms, price=price, create_ms=create_ms)
    clairvoyant = clairvoyant_cost(trace, split_ms, price=price, create_ms=create_ms)
    total = of.total
    most = np.argsort(-total)[:ACCOUNTED_APPS]
    most = most[total[most] > 0.0]
    names = [_short(trace.apps[index].key) for index in most]
    whole_s = max(float(total.sum()), 1e-9)
    return {
        "rest": chart(
            "parts",
            "What each app costs under learned, by its parts",
            lambda narrow: draw_parts(of, hindsight, most.tolist(), names, narrow=narrow),
        ),
        "rest_parts": [
            (label, float(getattr(of, name).sum()), float(getattr(of, name).sum()) / whole_s)
            for name, (label, _) in PARTS.items()
        ],
        "rest_total": whole_s,
        "rest_hindsight": float(hindsight.sum()),
        "rest_clairvoyant": float(clairvoyant.sum()),
        "rest_shown": float(total[most].sum()) / whole_s,
    }


def _short(key: str) -> str:
    """An app's key beside a picture: its first characters, those that print."""
    shown = "".join(
        each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in key[:SHORT_KEY]
    )
    return shown if len(key) <= SHORT_KEY else f"{shown}…"


def _timeline(
    part: Window,
    measured: Sequence[Measured],
    changes: Sequence[AppChange],
    create_ms: float,
    baseline: str,
) -> dict[str, Any]:
    """The app that gains most, in the half hour whose requests are nearest to TIMELINE_REQUESTS."""
    base, ours = find(measured, baseline), find(measured, LEARNED)
    if (
        base is None
        or ours is None
        or base.replayed is None
        or ours.replayed is None
        or not changes
    ):
        return {"timeline": None}
    trace = part.trace
    index = next(i for i, app in enumerate(trace.apps) if app.key == changes[0].key)
    arrivals = trace.arrival_ms[(trace.app == index) & (trace.arrival_ms >= part.split_ms)]
    starts = np.arange(part.split_ms, float(trace.arrival_ms[-1]), TIMELINE_MS)
    counts = np.diff(np.searchsorted(arrivals, [*starts, starts[-1] + TIMELINE_MS]))
    from_ms = float(starts[np.abs(counts - TIMELINE_REQUESTS).argmin()])
    lanes = {baseline: base.replayed, LEARNED: ours.replayed}
    return {
        "timeline": chart(
            "timeline",
            f"Half an hour of one app's instances under {baseline} and under learned",
            lambda narrow: draw_timeline(
                trace, lanes, index, from_ms, from_ms + TIMELINE_MS, create_ms, narrow=narrow
            ),
        ),
        "timeline_app": changes[0],
        "timeline_from": _date(from_ms),
        "timeline_start_s": (create_ms + trace.apps[index].init_ms) / 1_000.0,
    }


def _used_by_the_model(
    part: Window, measured: Sequence[Measured], model: Model | None
) -> dict[str, Any]:
    """What the model knows, which clocks its levels go by, and how well its forecasts hold."""
    ours = find(measured, LEARNED)
    if model is None or ours is None or ours.clocks is None:
        return {"model": None}
    of = calibration(part.trace, part.split_ms, model)
    seen = max(sum(ours.clocks.values()), 1)
    levels = [level for app in model.apps.values() for level in app.levels]
    return {
        "model": model,
        "model_levels": len(levels),
        "model_gaps": sum(len(level.gaps_ms) for level in levels),
        "model_prior_s": [float(np.quantile(model.prior_ms, q)) / 1e3 for q in (0.1, 0.5, 0.9)],
        "clocks": [(period / 1000.0, count / seen) for period, count in ours.clocks.items()],
        "calibration": chart(
            "calibration",
            "How often requests came, against how likely they were said to be",
            lambda narrow: plots.draw_calibration(of, narrow=narrow),
        ),
        "calibration_error": of.error,
        "calibration_forecasts": int(of.forecasts.sum()),
    }


def app_changes(
    part: Window, measured: Sequence[Measured], baseline: str = BASELINE
) -> tuple[list[AppChange], float | None]:
    """Each app called, the one that gains most from learned first; and the price used."""
    base, ours = find(measured, baseline), find(measured, LEARNED)
    if base is None or ours is None or base.apps is None or ours.apps is None:
        return [], None
    at = ours.figures
    price = ours.setting.knob_value or exchange_rate(
        at.execution_gb_s, at.slot_gb_s, at.execution_s, at.wait_s
    )
    before, after = base.apps, ours.apps
    changes = []
    for index in np.flatnonzero(before.requests + after.requests).tolist():
        app, requests = part.trace.apps[index], int(before.requests[index])
        wasted = float(before.wasted_gb_s[index] - after.wasted_gb_s[index])
        changes.append(
            AppChange(
                key=app.key,
                memory_mb=app.memory_mb,
                requests=requests,
                cold_before=float(before.cold_starts[index]) / max(requests, 1),
                cold_after=float(after.cold_starts[index]) / max(requests, 1),
                wait_before_s=float(before.wait_s[index]),
                wait_after_s=float(after.wait_s[index]),
                wasted_before_gb_s=float(before.wasted_gb_s[index]),
                wasted_after_gb_s=float(after.wasted_gb_s[index]),
                gain_s=float(before.wait_s[index] - after.wait_s[index]) + price * wasted,
            )
        )
    return sorted(changes, key=lambda each: -each.gain_s), price


def _listed(changes: Sequence[AppChange]) -> list[AppChange]:
    """Those that gain most and those that lose most."""
    if len(changes) <= LISTED_APPS:
        return list(changes)
    half = LISTED_APPS // 2
    return [*changes[:half], *changes[-half:]]


def _one_a_policy(measured: Sequence[Measured], baseline: str) -> list[Measured]:
    """Without the settings that only a sweep added: each policy as named, or at its default."""
    if len(measured) <= plots.MANY:
        return list(measured)
    best: dict[str, Measured] = {}
    for each in measured:
        family = each.setting.family
        if family not in best or each.figures.score > best[family].figures.score:
            best[family] = each
    ours = find(measured, LEARNED)
    if ours is not None:
        best[LEARNED] = ours
    base = find(measured, baseline)
    rows = list(best.values())
    return rows if base is None or base in rows else [base, *rows]


def _cold_by_app(measured: Sequence[Measured], baseline: str) -> Markup:
    rates = {}
    for each in measured:
        if each.apps is not None:
            called = each.apps.requests > 0
            rates[each.setting.policy] = each.apps.cold_starts[called] / each.apps.requests[called]
    return chart(
        "cold",
        "For each policy the share of apps by their rate of cold starts",
        lambda narrow: plots.draw_distribution(
            rates, "cold-start rate of the app", baseline=baseline, log=False, narrow=narrow
        ),
    )


def _waste_by_app(measured: Sequence[Measured], baseline: str) -> Markup:
    waste = {}
    for each in measured:
        if each.apps is not None:
            waste[each.setting.policy] = each.apps.wasted_gb_s[each.apps.requests > 0]
    return chart(
        "waste",
        "For each policy the share of apps by the memory they waste",
        lambda narrow: plots.draw_distribution(
            waste, "wasted memory of the app, GB·s", baseline=baseline, log=True, narrow=narrow
        ),
    )
