"""Champion, challenger and fixed:300 on the stretch that is held out, and who wins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

import joblib

from warmscaler.data.trace import Trace
from warmscaler.models.learned.habits import Model
from warmscaler.models.objectives.price import exchange_rate
from warmscaler.models.objectives.words import Kind, Objective
from warmscaler.simulator.figures import Figures
from warmscaler.training.evaluating.evaluate import Window, measure
from warmscaler.training.evaluating.settings import BASELINE, LEARNED, Setting
from warmscaler.training.retraining.job import Steps
from warmscaler.training.retraining.options import DAY_MS, Options, RetrainError
from warmscaler.training.workers import parallel

MIN_REQUESTS = 500
"""In the training part and in the held-out part; fewer say nothing."""
MIN_HOLDOUT_S = 600.0
HELD_WITHIN = 0.1
"""An objective counts as held up to that share above what it allows: a short stretch is a sample."""
MOST_USED = 1e9
FIGURES = (
    *("score", "cost_s", "slot_gb_s", "wasted_gb_s", "wait_s", "wait_p99_ms"),
    *("cold_starts", "cold_start_rate", "start_rate", "requests", "objective_used"),
)


@dataclass(frozen=True, slots=True)
class Parts:
    """The window in three: what the challenger is trained on, and what all are judged by."""

    whole: Trace
    training: Trace
    judged: Window
    """From equally long before the held-out stretch on."""

    @property
    def held_out(self) -> Trace:
        return self.judged.trace.between(self.judged.split_ms, inf)


def split(log: Trace, options: Options) -> Parts:
    """Raises RetrainError where there is too little."""
    last_ms = float(log.arrival_ms[-1])
    recent = log.between(last_ms - options.window_ms, inf)
    span_ms = last_ms - float(recent.arrival_ms[0])
    holdout_ms = options.holdout_ms
    if holdout_ms is None:
        holdout_ms = min(span_ms / 5.0, DAY_MS)
    if not MIN_HOLDOUT_S * 1000.0 <= holdout_ms <= span_ms / 2.0:
        raise RetrainError(
            f"{log.name}: {holdout_ms / 3.6e6:.2f} h held out of {span_ms / 3.6e6:.2f} h recorded:"
            f" it must be {MIN_HOLDOUT_S / 60:g} minutes at least and half of it at most"
        )
    cut_ms = last_ms - holdout_ms
    training = recent.between(-inf, cut_ms)
    judged = recent.between(cut_ms - holdout_ms, inf)
    held_out = len(recent) - len(training)
    if min(len(training), held_out) < MIN_REQUESTS:
        raise RetrainError(
            f"{log.name}: {len(training):,} requests to train on and {held_out:,} to judge by:"
            f" {MIN_REQUESTS:,} of each are needed; record for longer"
        )
    return Parts(recent, training, Window(judged, cut_ms, cut_ms))


def judge(
    parts: Parts,
    champion: Model | None,
    challenger: Model,
    objective: Objective,
    options: Options,
    steps: Steps,
) -> tuple[float, dict[str, Any]]:
    """The price, and figures of champion, challenger and fixed:300 on the held-out stretch."""
    names = ["challenger", BASELINE, *(["champion"] if champion is not None else [])]
    models = {"challenger": challenger, "champion": champion}

    def replays() -> dict[str, Any]:
        calls = [
            joblib.delayed(replayed)(parts.judged, models.get(name), objective, options)
            for name in names
        ]
        figures = parallel(min(options.jobs, len(calls)))(calls)
        return dict(zip(names, figures, strict=True))

    judged = steps.json("judged", replays)
    ruler = judged.get("champion", judged["challenger"])
    price = objective.value if objective.kind is Kind.PRICE else 0.0
    price = price or ruler["exchange_rate"]
    for each in judged.values():
        costed(each, price, judged[BASELINE]["wait_s"], objective)
    return price, {name: {figure: judged[name][figure] for figure in FIGURES} for name in judged}


def costed(
    figures: dict[str, Any], price: float, window_wait_s: float, objective: Objective
) -> None:
    """Adds what it costs at the price, and how much of what the objective allows was spent."""
    figures["cost_s"] = price * figures["wasted_gb_s"] + figures["wait_s"]
    if objective.kind is Kind.SAFE:
        wait_s = figures["wait_s"]
        used = wait_s / window_wait_s if window_wait_s else float(wait_s > 0.0) * MOST_USED
        figures["objective_used"] = min(used, MOST_USED)


def replayed(
    judged: Window, model: Model | None, objective: Objective, options: Options
) -> dict[str, Any]:
    """The figures of a model as it would serve; of fixed:300 without one."""
    setting = Setting(BASELINE) if model is None else Setting(LEARNED, objective=objective)
    measured = measure(judged, setting, options.create_ms, model, judge=objective)
    found: Figures = measured.figures
    known: dict[str, Any] = {
        name: getattr(found, name) for name in FIGURES if name not in ("cost_s", "objective_used")
    }
    if not found.execution_s:
        raise RetrainError("no request held out took any time: there is nothing to judge by")
    known["objective_used"] = measured.used
    known["exchange_rate"] = exchange_rate(
        found.execution_gb_s, found.slot_gb_s, found.execution_s, found.wait_s
    )
    return known


def more_waiting(
    figures: Mapping[str, Any], champion: Mapping[str, Any] | None, guard: float
) -> str | None:
    """How much longer requests wait, or how many more of them for a start, than under the champion;
    None where it is by no more than the share `guard`, or where there is none."""
    if champion is None:
        return None
    texts = (("start_rate", "share of requests that wait for a start"), ("wait_s", "waiting in s"))
    for name, text in texts:
        ours, theirs = figures[name], champion[name]
        if ours > theirs * (1.0 + guard):
            return f"its {text} is {ours:.4g}, the champion's {theirs:.4g}"
    return None


def verdict(judged: Mapping[str, Any], objective: Objective, options: Options) -> tuple[bool, str]:
    """Whether the challenger wins, and why in words."""
    ours = judged["challenger"]
    for rival in ("champion", BASELINE):
        if rival in judged and (loses := behind(ours, judged[rival], objective, options.margin)):
            return False, f"the challenger {loses.format(rival=rival)}"
    what = f"by the objective {objective} the challenger is ahead of all others by the margin"
    more = more_waiting(ours, judged.get("champion"), options.guard)
    if more is not None:
        return False, (
            f"{what}, and makes requests wait more: {more}, more than {options.guard:.0%} above it;"
            " see --guard"
        )
    return True, what


def behind(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], objective: Objective, margin: float
) -> str | None:
    """Why one is not better than a `{rival}` by the margin, for an objective; None where it is.

    What holds the objective is better than what does not. Of two that hold it, that which holds less
    memory is (which waits less, where memory is the objective); of two that do not, that which comes
    nearer. For a price it is the cost, for the score the points that are missing.
    """
    used, rivals_used = ours.get("objective_used"), theirs.get("objective_used")
    if used is not None and rivals_used is not None:
        held, rival_held = used <= 1.0 + HELD_WITHIN, rivals_used <= 1.0 + HELD_WITHIN
        if held and not rival_held:
            return None
        if not held:
            return _below(used, rivals_used, "of what {objective} allows", margin, objective)
        if objective.kind is Kind.MEMORY:
            return _below(ours["wait_s"], theirs["wait_s"], "s waited", margin, objective)
        return _below(ours["slot_gb_s"], theirs["slot_gb_s"], "GB·s held", margin, objective)
    if objective.kind is Kind.SCORE:
        missing, rivals = 100.0 - ours["score"], 100.0 - theirs["score"]
        return _below(missing, rivals, "points of the score missing", margin, objective)
    return _below(ours["cost_s"], theirs["cost_s"], "s of cost", margin, objective)


def _below(
    ours: float, theirs: float, unit: str, margin: float, objective: Objective
) -> str | None:
    below = 1.0 - ours / theirs if theirs > 0.0 else -inf
    if below >= margin:
        return None
    unit = unit.format(objective=objective)
    return (
        f"has {ours:,.4g} {unit}, the {{rival}} {theirs:,.4g}: {below:+.1%} below it,"
        f" {margin:.1%} are needed"
    )
