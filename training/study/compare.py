"""Policies side by side on a trace, as a frame and a picture: `compare`, `backtest`, `fit`."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import joblib
import polars as pl

from warmscaler.data.trace import Trace, TraceError
from warmscaler.models.learned.habits import Model
from warmscaler.models.objectives.words import (
    DEFAULT,
    Kind,
    Objective,
    ObjectiveError,
    at_price,
    parse,
)
from warmscaler.models.policy import Policy
from warmscaler.models.registry import PolicyError
from warmscaler.simulator.replay import CREATE_MS
from warmscaler.training.evaluating import evaluate as evaluation
from warmscaler.training.evaluating.evaluate import JSON_FIGURES, Measured, Window, measure
from warmscaler.training.evaluating.settings import LEARNED, Setting, chosen
from warmscaler.training.fitting.fit import fit as fit_all
from warmscaler.training.workers import parallel

PolicyLike = str | Policy
SHOWN = ("score", "cold_start_rate", "cold_starts", "wait_s", "wait_p99_ms", "wasted_gb_s")
"""The columns that come first in a frame."""


@dataclass(frozen=True, slots=True, repr=False)
class Comparison:
    """What each policy cost on the requests from the split on."""

    measured: tuple[Measured, ...]
    price: float
    """Seconds of waiting that a GB·s is worth: what `cost_s` counts waste at."""
    model: Model | None = None
    """What `learned` went by."""

    @property
    def frame(self) -> pl.DataFrame:
        """A row a policy, the cheapest first: policy, cost_s, and the figures of `scaler evaluate`.

        `cost_s` is seconds waited and, at the price, GB·s wasted; `score` is the contest's, of 100.
        """
        return _frame(self.measured, self.price).sort("cost_s")

    def plot(self, ax: Any = None) -> Any:
        """Seconds waited against GB·s wasted, both logarithmic: down and left is better. Returns
        matplotlib's axes, new ones unless given. Needs the extra `report`."""
        import matplotlib.pyplot as plt

        from warmscaler.training.reporting.drawing import Drawing
        from warmscaler.training.reporting.plots import draw_frontier

        if ax is None:
            _, ax = plt.subplots(figsize=(9.0, 5.6), layout="constrained")
        draw_frontier(Drawing(ax), self.measured)
        return ax

    def __repr__(self) -> str:
        return repr(self.frame)

    def _repr_html_(self) -> str:
        return self.frame._repr_html_()


@dataclass(frozen=True, slots=True, repr=False)
class Backtest:
    """Comparisons on rolling splits of one trace."""

    folds: tuple[Comparison, ...]

    @property
    def frame(self) -> pl.DataFrame:
        """A row a policy and fold: fold (from 1), and what `Comparison.frame` has."""
        numbered = [
            each.frame.select(pl.lit(number).alias("fold"), pl.all())
            for number, each in enumerate(self.folds, start=1)
        ]
        return pl.concat(numbered)

    @property
    def summary(self) -> pl.DataFrame:
        """A row a policy, the cheapest first: mean and standard deviation over the folds."""
        values = [name for name in ("cost_s", *SHOWN) if name in self.frame.columns]
        both = [pl.col(name).mean() for name in values]
        both += [pl.col(name).std().alias(f"{name}_std") for name in values]
        return self.frame.group_by("policy", maintain_order=True).agg(both).sort("cost_s")

    def __repr__(self) -> str:
        return repr(self.summary)

    def _repr_html_(self) -> str:
        return self.summary._repr_html_()


def fit(
    trace: Trace,
    *,
    price: float | None = None,
    objective: str | Objective | None = None,
    create_ms: float = CREATE_MS,
    jobs: int = 1,
    context: bool = False,
) -> Model:
    """The learned policy's model, of every request in `trace`.

    `price` is how many seconds of waiting a GB·s of memory is worth, and stays as it is; or
    `objective`, in words as `"score"` or `"wait-p99=500ms"`, finds and moves it; without either that is
    `"safe"`. Raises ValueError for words or a price that there are not, TraceError for no requests.

    `create_ms` is what the platform takes for a slot, besides an app's own start-up time. `context` fits
    what all apps teach of when calls come (`IdleTimeModel`) as well; it is used where that pays.

    >>> import warmscaler as ws
    >>> trace = ws.generate("azure", apps=3, days=0.1, seed=1)
    >>> sorted(ws.fit(trace, price=0.03).apps) == sorted({trace.apps[app].key for app in trace.app})
    True
    """
    wanted = _asked(price, objective) or DEFAULT
    return fit_all(
        _checked(trace), create_ms=create_ms, objective=wanted, jobs=jobs, context=context
    )


def compare(
    trace: Trace,
    policies: Sequence[PolicyLike] | PolicyLike,
    *,
    split: float = 0.5,
    price: float | None = None,
    objective: str | Objective | None = None,
    model: Model | None = None,
    create_ms: float = CREATE_MS,
    jobs: int | None = None,
) -> Comparison:
    """Replays every policy on `trace`, and measures from `split` (a fraction of its span) on.

    A policy is a name as `scaler evaluate --policy` takes it, or a Policy of one's own; an object is
    copied for each replay, and never changed. `learned` is fitted on what lies before the split,
    unless `model` is given. `price` (seconds of waiting per GB·s) is what learned decides by and
    what `cost_s` counts waste at; `objective` is what learned aims at instead, in words. Without either
    that is the model's, or `"safe"`, and waste is counted at the price it began with. Raises PolicyError
    for what is none, ValueError for an objective or a price that is none, TraceError where the split
    leaves nothing on a side.

    >>> import warmscaler as ws
    >>> trace = ws.generate("azure", apps=4, days=0.2, seed=1)
    >>> found = ws.compare(trace, ["fixed:60", "fixed:600", "learned"], jobs=1)
    >>> found.frame.columns[:3]
    ['policy', 'cost_s', 'score']
    >>> found.frame.height
    3
    """
    part = evaluation.window(_checked(trace), split)
    return _compare(part, policies, _asked(price, objective), model, create_ms, jobs)


def backtest(
    trace: Trace,
    policies: Sequence[PolicyLike] | PolicyLike,
    *,
    folds: int = 4,
    price: float | None = None,
    objective: str | Objective | None = None,
    create_ms: float = CREATE_MS,
    jobs: int | None = None,
) -> Backtest:
    """`compare` on rolling splits: the k-th of n folds learns from the first k parts of n + 1, and
    measures the next one. Raises as `compare`, and TraceError where a fold is empty.

    >>> import warmscaler as ws
    >>> trace = ws.generate("azure", apps=4, days=0.2, seed=1)
    >>> ws.backtest(trace, ["fixed:60", "fixed:600"], folds=2, jobs=1).frame.height
    4
    """
    if folds < 1:
        raise TraceError(f"{folds} folds: ask for one at least")
    windows = evaluation.folds(_checked(trace), folds)
    wanted = _asked(price, objective)
    done = [_compare(each, policies, wanted, None, create_ms, jobs) for each in windows]
    return Backtest(tuple(done))


def _checked(trace: Any) -> Trace:
    if not isinstance(trace, Trace):
        raise TraceError(
            f"a {type(trace).__name__} is no trace; make one: ws.read_trace(path), or"
            " ws.Trace.from_frame(frame)"
        )
    if not len(trace):
        raise TraceError(f"{trace.name}: no requests in it; give a trace that has some")
    return trace


def _policies(given: Any) -> list[PolicyLike]:
    """One or many, each once."""
    found = [given] if isinstance(given, str | Policy) else list(given)
    if not found:
        raise PolicyError('no policy to compare: name one, as "fixed:300"')
    for each in found:
        if not isinstance(each, str | Policy):
            what = f"the class {each.__name__}" if isinstance(each, type) else f"{each!r}"
            raise PolicyError(f"{what} is no policy: give a name, or an object of a Policy's class")
    return list(dict.fromkeys(found))


def _asked(price: float | None, objective: str | Objective | None) -> Objective | None:
    """Raises ObjectiveError, a ValueError."""
    if price is not None and objective is not None:
        raise ObjectiveError("a price and an objective ask for different things: give one of them")
    if price is not None:
        return at_price(price)
    return parse(objective) if isinstance(objective, str) else objective


def _compare(
    part: Window,
    policies: Sequence[PolicyLike] | PolicyLike,
    objective: Objective | None,
    model: Model | None,
    create_ms: float,
    jobs: int | None,
) -> Comparison:
    given = _policies(policies)
    named = chosen([each for each in given if isinstance(each, str)], objective=objective)
    workers = jobs or os.cpu_count() or 1
    if model is None and any(each.policy == LEARNED for each in named):
        model = fit_all(
            part.training, create_ms=create_ms, objective=objective or DEFAULT, jobs=workers
        )
    by_name = {each.policy: each for each in named}
    tuned = {
        each.policy: each
        for each in evaluation.tune(part, named, create_ms=create_ms, jobs=workers)
    }
    calls = []
    for each in given:
        if isinstance(each, str):
            setting, own = tuned[by_name[each].policy], None
        else:
            setting, own = Setting(each.name or type(each).__name__), copy.deepcopy(each)
        calls.append(joblib.delayed(measure)(part, setting, create_ms, model, own=own))
    measured = parallel(max(min(workers, len(calls)), 1))(calls)
    price = objective.value if objective is not None and objective.kind is Kind.PRICE else 0.0
    price = price or (model or Model()).price_s_per_gb_s
    return Comparison(tuple(measured), price, model)


def _frame(measured: Sequence[Measured], price: float) -> pl.DataFrame:
    rows: list[Mapping[str, Any]] = []
    for each in measured:
        of = {name: getattr(each.figures, name) for name in JSON_FIGURES}
        cost_s = each.figures.wait_s + price * each.figures.wasted_gb_s
        rows.append({"policy": each.setting.label, "cost_s": cost_s, **of})
    frame = pl.DataFrame(rows, infer_schema_length=None)
    first = ["policy", "cost_s", *SHOWN]
    return frame.select(first + [name for name in frame.columns if name not in first])
