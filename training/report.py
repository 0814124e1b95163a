"""The report: one HTML page that needs nothing but itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from simulator.figures import price_s_per_gb_s
from training import plots
from training.evaluate import Measured, Window, find, saving
from training.settings import BASELINE, LEARNED

TEMPLATE = "report.html.j2"
SHOWN_APPS = 8
"""How many of the apps that gain, and that lose, most."""


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
    path: Path, part: Window, measured: Sequence[Measured], *, create_ms: float
) -> None:
    """Writes the page for one evaluation to `path`, whole or not at all."""
    page = render(part, measured, create_ms=create_ms)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise ReportError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def render(part: Window, measured: Sequence[Measured], *, create_ms: float) -> str:
    """The page's text. Everything from the trace is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    main = _one_a_policy(measured)
    changes, price = app_changes(part, measured)
    trace = part.trace
    split_at, last = (
        datetime.fromtimestamp(ms / 1000.0, UTC).strftime("%Y-%m-%d %H:%M")
        for ms in (part.split_ms, float(trace.arrival_ms[-1]))
    )
    context: dict[str, Any] = {
        "name": trace.name,
        "notes": trace.notes,
        "apps": len(trace.apps),
        "requests": measured[0].figures.requests,
        "split": part.split,
        "split_at": split_at,
        "last": last,
        "create_ms": create_ms,
        "saving": saving(measured),
        "measured": main,
        "swept": len(measured) - len(main),
        "frontier": Markup(plots.frontier(measured)),  # noqa: S704 - our own SVG
        "cold_by_app": Markup(_cold_by_app(main)),  # noqa: S704
        "waste_by_app": Markup(_waste_by_app(main)),  # noqa: S704
        "price": price,
        "gainers": [each for each in changes[:SHOWN_APPS] if each.gain_s > 0.0],
        "losers": [each for each in changes[::-1][:SHOWN_APPS] if each.gain_s < 0.0],
        "baseline": BASELINE,
    }
    return environment.get_template(TEMPLATE).render(context)


def app_changes(part: Window, measured: Sequence[Measured]) -> tuple[list[AppChange], float | None]:
    """Each app called, the one that gains most from learned first; and the price used."""
    base, ours = find(measured, BASELINE), find(measured, LEARNED)
    if base is None or ours is None or base.apps is None or ours.apps is None:
        return [], None
    at = ours.figures
    price = ours.setting.knob_value or price_s_per_gb_s(
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


def _one_a_policy(measured: Sequence[Measured]) -> list[Measured]:
    """Without the settings that only a sweep added: each policy as named, or at its default."""
    if len(measured) <= 20:
        return list(measured)
    best: dict[str, Measured] = {}
    for each in measured:
        family = each.setting.family
        if family not in best or each.figures.score > best[family].figures.score:
            best[family] = each
    ours = find(measured, LEARNED)
    if ours is not None:
        best[LEARNED] = ours
    base = find(measured, BASELINE)
    rows = list(best.values())
    return rows if base is None or base in rows else [base, *rows]


def _cold_by_app(measured: Sequence[Measured]) -> str:
    rates = {}
    for each in measured:
        if each.apps is not None:
            called = each.apps.requests > 0
            rates[each.setting.policy] = each.apps.cold_starts[called] / each.apps.requests[called]
    return plots.distribution(rates, "cold-start rate of the app", log=False, name="cold")


def _waste_by_app(measured: Sequence[Measured]) -> str:
    waste = {}
    for each in measured:
        if each.apps is not None:
            waste[each.setting.policy] = each.apps.wasted_gb_s[each.apps.requests > 0]
    return plots.distribution(waste, "wasted memory of the app, GB·s", log=True, name="waste")
