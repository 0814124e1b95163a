"""Advice with what it would save, why, and how sure that is.

What it would save is not taken from the past it was made of: advice from the first part of the trace is
replayed on the rest, beside what is done today. The advice given is then made of all of it. Each has the
price that `price_of` finds in what it is made of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from warmscaler.data.trace import Trace
from warmscaler.models.advised.policy import Advice, Advised, AppAdvice
from warmscaler.models.registry import make_policy
from warmscaler.simulator.figures import Figures
from warmscaler.simulator.replay import replay
from warmscaler.training.advising.clocks import IDLE_MS
from warmscaler.training.advising.hours import bounds_by_hour
from warmscaler.training.advising.search import find_advice
from warmscaler.training.evaluating.evaluate import AppFigures, FloatArray, measure, window
from warmscaler.training.evaluating.settings import Setting

SURE_CALLS = 30
PriceOf = Callable[[Trace, Callable[[float], None]], float]
"""Seconds of waiting that a GB·s is worth, going by what is known; tells its progress, 0 to 1."""
GB_S_PER_GB_H = 3_600.0


@dataclass(frozen=True, slots=True)
class Saving:
    """What following the advice would have saved on the part it was not made of; below 0 it costs."""

    gb_h: float
    cold_starts: int
    wait_s: float
    cost_s: float
    """Seconds of waiting, and GB·s at the price."""


@dataclass(frozen=True, slots=True)
class AppReport:
    """One app's advice."""

    key: str
    requests: int
    memory_mb: int
    advice: AppAdvice
    least: tuple[int, ...]
    """Instances that the advice has through each hour of the day (UTC); 0 where it is not known."""
    most: tuple[int | None, ...]
    """The most that it ever had in that hour; None where the trace has no such hour."""
    saving: Saving | None
    """None where the measured part has no request of the app."""
    why: str
    sure: str
    """"sure", "likely" or "a guess"."""


@dataclass(frozen=True, slots=True)
class Report:
    """Advice for a fleet."""

    trace: str
    price: float
    """That the advice was made at."""
    measured_price: float
    """That its savings were measured at, found before what is measured."""
    today: str
    split: float
    advice: Advice
    apps: tuple[AppReport, ...]
    """Those that save most first."""
    saving: Saving
    hours: float
    """How long the part is that the saving was measured on."""
    cost_ratio: float
    """The advice's cost over today's, there."""


def advise(
    trace: Trace,
    *,
    price_of: PriceOf,
    today: str = "fixed:300",
    split: float = 0.5,
    create_ms: float,
    jobs: int = 1,
    on_progress: Callable[[float], None] | None = None,
) -> Report:
    """Works out the advice from all of `trace`, and what it saves from a split of it.

    `today` is a policy as `scaler evaluate` names it. Raises PolicyError where it is none, TraceError
    where the split leaves nothing on a side.
    """
    policy = make_policy(today)
    part = window(trace, split)

    def told(begin: float, end: float) -> Callable[[float], None]:
        def at(share: float) -> None:
            if on_progress is not None:
                on_progress(begin + (end - begin) * share)

        return at

    def made_of(known: Trace, begin: float, end: float) -> tuple[float, Advice]:
        middle = 0.5 * (begin + end)
        price = price_of(known, told(begin, middle))
        return price, find_advice(
            known, price=price, create_ms=create_ms, jobs=jobs, on_progress=told(middle, end)
        )

    measured_price, first = made_of(part.training, 0.0, 0.3)
    ours = measure(part, Setting("advice"), create_ms, own=Advised(first))
    theirs = measure(part, Setting(today), create_ms, own=policy)
    price, final = made_of(trace, 0.3, 0.95)
    bounds = bounds_by_hour(trace, replay(trace, Advised(final), create_ms=create_ms))
    assert ours.apps is not None  # noqa: S101 - only the clairvoyant reference has none
    assert theirs.apps is not None  # noqa: S101
    requests = np.bincount(trace.app, minlength=len(trace.apps))
    reports = []
    for app in np.flatnonzero(requests).tolist():
        about = trace.apps[app]
        saving = _of_app(ours.apps, theirs.apps, app, measured_price)
        own = final.apps[about.key]
        gaps_s = _gaps_s(trace, app)
        least, most = bounds[about.key]
        reports.append(
            AppReport(
                about.key,
                int(requests[app]),
                about.memory_mb,
                own,
                least,
                most,
                saving,
                _why(own, gaps_s, (create_ms + about.init_ms) / 1000.0),
                _how_sure(len(gaps_s), saving),
            )
        )
    reports.sort(key=lambda each: -(each.saving.cost_s if each.saving else 0.0))
    cost_ours, cost_theirs = (_cost_s(each.figures, measured_price) for each in (ours, theirs))
    return Report(
        trace.name,
        price,
        measured_price,
        today,
        split,
        final,
        tuple(reports),
        _of_fleet(ours.figures, theirs.figures, measured_price),
        (float(trace.arrival_ms[-1]) - part.split_ms) / 3_600_000.0,
        cost_ours / cost_theirs if cost_theirs else 1.0,
    )


def _cost_s(figures: Figures, price: float) -> float:
    return figures.wait_s + price * figures.wasted_gb_s


def _of_fleet(ours: Figures, theirs: Figures, price: float) -> Saving:
    return Saving(
        (theirs.slot_gb_s - ours.slot_gb_s) / GB_S_PER_GB_H,
        (theirs.cold_starts or 0) - (ours.cold_starts or 0),
        theirs.wait_s - ours.wait_s,
        _cost_s(theirs, price) - _cost_s(ours, price),
    )


def _of_app(ours: AppFigures, theirs: AppFigures, app: int, price: float) -> Saving | None:
    if not ours.requests[app]:
        return None
    gb_s = float(theirs.slot_gb_s[app] - ours.slot_gb_s[app])
    wait_s = float(theirs.wait_s[app] - ours.wait_s[app])
    cold = int(theirs.cold_starts[app] - ours.cold_starts[app])
    return Saving(gb_s / GB_S_PER_GB_H, cold, wait_s, wait_s + price * gb_s)


def _gaps_s(trace: Trace, app: int) -> FloatArray:
    """Idle times of the app as a whole, without those that any window covers."""
    own = np.flatnonzero(trace.app == app)
    arrival_ms = trace.arrival_ms[own]
    done_ms = np.maximum.accumulate(arrival_ms + trace.duration_ms[own])
    gaps_ms = arrival_ms[1:] - done_ms[:-1]
    return np.asarray(gaps_ms[gaps_ms > IDLE_MS] / 1000.0, dtype=np.float64)


def _why(advice: AppAdvice, gaps_s: FloatArray, start_s: float) -> str:
    if len(gaps_s) == 0:
        seen = "never idle for over 10 s"
    else:
        middle, long = np.quantile(gaps_s, [0.5, 0.9])
        seen = f"idle {spell(float(middle))} at a time (9 of 10 within {spell(float(long))})"
    if advice.clock is not None:
        every = spell(advice.clock.period_ms / 1000.0)
        held = spell(advice.clock.open_ms / 1000.0)
        return f"called every {every}, within {held}: started just before"
    if len(gaps_s) == 0:
        return f"{seen}: as its start and the others' habits are"
    keep_s = advice.keep_ms / 1000.0
    covered = float((gaps_s <= keep_s).mean())
    if covered < 0.2:
        return f"{seen}: waiting {spell(start_s)} for a start is cheaper than keeping it longer"
    return f"{seen}: {spell(keep_s)} covers {covered:.0%} of them"


def _how_sure(gaps: int, saving: Saving | None) -> str:
    if saving is None or gaps < 3:
        return "a guess"
    held = saving.cost_s >= 0.0
    if held and gaps >= SURE_CALLS:
        return "sure"
    return "likely" if held else "a guess"


def spell(seconds: float) -> str:
    """A duration as a person says it: 0.5 s, 45 s, 5 min, 2 h, 1 day."""
    for size, word in ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min")):
        if seconds >= 2.0 * size or seconds == size:
            return f"{seconds / size:.3g} {word}"
    return f"{seconds:.3g} s"
