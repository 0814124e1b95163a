"""Champion, challenger and fixed:300 on the stretch that is held out, and who wins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

import joblib

from warmscaler.data.trace import Trace
from warmscaler.models.learned.habits import Model
from warmscaler.simulator.figures import Figures, price_s_per_gb_s
from warmscaler.training.evaluating.evaluate import Window, measure
from warmscaler.training.evaluating.settings import BASELINE, Setting
from warmscaler.training.retraining.job import Steps
from warmscaler.training.retraining.options import DAY_MS, Options, RetrainError
from warmscaler.training.workers import parallel

MIN_REQUESTS = 500
"""In the training part and in the held-out part; fewer say nothing."""
MIN_HOLDOUT_S = 600.0
MORE_WAITING = 0.1
"""Nothing is promoted by itself that raises the cold-start rate or the waiting by a larger share."""
FIGURES = ("score", "cost_s", "wasted_gb_s", "wait_s", "cold_starts", "cold_start_rate", "requests")


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
    parts: Parts, champion: Model | None, challenger: Model, options: Options, steps: Steps
) -> tuple[float, dict[str, Any]]:
    """The price, and figures of champion, challenger and fixed:300 on the held-out stretch."""
    names = ["challenger", BASELINE, *(["champion"] if champion is not None else [])]
    models = {"challenger": challenger, "champion": champion}

    def replays() -> dict[str, Any]:
        calls = [
            joblib.delayed(replayed)(parts.judged, models.get(name), options) for name in names
        ]
        figures = parallel(min(options.jobs, len(calls)))(calls)
        return dict(zip(names, figures, strict=True))

    judged = steps.json("judged", replays)
    ruler = judged.get("champion", judged["challenger"])
    price = options.price if options.price is not None else ruler["exchange_rate"]
    for each in judged.values():
        each["cost_s"] = price * each["wasted_gb_s"] + each["wait_s"]
    return price, {name: {figure: judged[name][figure] for figure in FIGURES} for name in judged}


def replayed(judged: Window, model: Model | None, options: Options) -> dict[str, Any]:
    setting = Setting(BASELINE) if model is None else Setting("learned", price=options.price)
    found: Figures = measure(judged, setting, options.create_ms, model).figures
    known: dict[str, Any] = {name: getattr(found, name) for name in FIGURES if name != "cost_s"}
    if not found.execution_s:
        raise RetrainError("no request held out took any time: there is nothing to judge by")
    known["exchange_rate"] = price_s_per_gb_s(
        found.execution_gb_s, found.slot_gb_s, found.execution_s, found.wait_s
    )
    return known


def more_waiting(figures: Mapping[str, Any], champion: Mapping[str, Any] | None) -> str | None:
    """How much longer, or how much oftener, requests wait than under the champion; None where it is
    by no more than MORE_WAITING, or where there is none."""
    if champion is None:
        return None
    for name, text in (("cold_start_rate", "cold-start rate"), ("wait_s", "waiting in s")):
        ours, theirs = figures[name], champion[name]
        if ours > theirs * (1.0 + MORE_WAITING):
            return f"its {text} is {ours:.4g}, the champion's {theirs:.4g}"
    return None


def verdict(judged: Mapping[str, Any], options: Options) -> tuple[bool, str]:
    """Whether the challenger wins, and why in words."""
    margin = options.margin
    cost_s = judged["challenger"]["cost_s"]
    for rival in ("champion", BASELINE):
        if rival not in judged:
            continue
        rival_s = judged[rival]["cost_s"]
        below = 1.0 - cost_s / rival_s if rival_s > 0.0 else -inf
        if below < margin:
            return False, (
                f"the challenger costs {cost_s:,.1f} s, the {rival} {rival_s:,.1f} s:"
                f" {below:+.1%} below it, {margin:.1%} are needed"
            )
    more = more_waiting(judged["challenger"], judged.get("champion"))
    if more is not None and not options.allow_more_waiting:
        return False, (
            f"the challenger costs {cost_s:,.1f} s, less than all others, and makes requests wait more:"
            f" {more}, more than {MORE_WAITING:.0%} above it; see --allow-more-waiting"
        )
    return True, f"the challenger costs {cost_s:,.1f} s, less than all others by the margin"
