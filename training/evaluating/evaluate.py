"""Evaluation: policies replayed on one trace, measured from the split on, side by side.

What is learned comes from the requests before the split only; the policies of one evaluation run
in parallel, each a pure function of trace, setting and model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import inf
from typing import Any

import numpy as np
import numpy.typing as npt

from warmscaler.data.trace import Trace, TraceError
from warmscaler.models.learned.habits import Model
from warmscaler.models.learned.policy import Learned
from warmscaler.models.objectives.words import DEFAULT, Objective
from warmscaler.models.policy import Policy
from warmscaler.models.registry import make_policy
from warmscaler.service.scheduler.scheduler import Scheduler
from warmscaler.simulator.figures import Figures, clairvoyant, figures, memory_gb, slot_gb_s_by_app
from warmscaler.simulator.replay import Replay, replay
from warmscaler.training.cluster import share, task
from warmscaler.training.evaluating.settings import (
    BASELINE,
    CLAIRVOYANT,
    GREEDY_DUAL,
    LEARNED,
    Setting,
    capacities_gb,
)
from warmscaler.training.fitting.fit import fit
from warmscaler.training.objective_met import spent_of_allowed
from warmscaler.training.workers import parallel

FloatArray = npt.NDArray[np.float64]

JSON_FIGURES = (
    "score",
    "resource_score",
    "cold_start_score",
    "cold_start_rate",
    "app_cold_start_rate_p75",
    "slot_gb_s",
    "wasted_gb_s",
    "wait_s",
    "wait_p99_ms",
    "cold_starts",
    "queued",
    "start_rate",
    "mean_gb",
    "requests",
    "execution_gb_s",
    "execution_s",
)
"""What a policy's JSON object holds besides its name and knob."""


@dataclass(frozen=True, slots=True)
class AppFigures:
    """The measured part by app; each of shape (apps,), in the order of the trace's apps."""

    requests: npt.NDArray[np.int64]
    cold_starts: npt.NDArray[np.int64]
    wait_s: FloatArray
    slot_gb_s: FloatArray
    wasted_gb_s: FloatArray


@dataclass(frozen=True, slots=True)
class Measured:
    """One setting's figures. `apps` is None for the clairvoyant reference."""

    setting: Setting
    figures: Figures
    apps: AppFigures | None = None
    wait_ms: FloatArray | None = None
    """A value for each measured request, in order of arrival, where asked for; so is `cold`."""
    cold: npt.NDArray[np.bool_] | None = None
    replayed: Replay | None = None
    """The whole replay, where asked for."""
    clocks: Mapping[float, int] | None = None
    """For learned: idle times seen, by the period in ms of the clock they were told on."""
    used: float | None = None
    """For learned: of what its objective allows, the share that was spent; at most 1 is met."""


@dataclass(frozen=True, slots=True)
class Window:
    """What is measured: arrivals from `split_ms` to the end of `trace`; before it is training."""

    trace: Trace
    split_ms: float
    split: float
    until: float = 1.0

    @property
    def training(self) -> Trace:
        """The requests that arrive before the split."""
        return self.trace.between(-inf, self.split_ms)


def window(trace: Trace, split: float) -> Window:
    """The whole of `trace`, measured from `split` on. Raises TraceError where a part is empty."""
    split_ms = trace.split_ms(split)
    before = int(np.searchsorted(trace.arrival_ms, split_ms))
    if not 0 < before < len(trace):
        raise TraceError(
            f"{trace.name}: the split {split:g} leaves nothing on one side of it:"
            f" {before} of {len(trace)} requests come before; move it, or give a longer trace"
        )
    return Window(trace, split_ms, split)


def folds(trace: Trace, count: int) -> list[Window]:
    """Rolling windows: the k-th trains on k/(count+1) of the span and measures the next such part.

    A fold's trace ends where its measured part does, so that a fold is what an evaluation of a
    shorter trace is.
    """
    windows = []
    for k in range(1, count + 1):
        split, until = k / (count + 1), (k + 1) / (count + 1)
        # between() leaves out its end, and the last arrival of all belongs to the last fold
        cut = trace if k == count else trace.between(-inf, trace.split_ms(until))
        split_ms = trace.split_ms(split)
        before = int(np.searchsorted(cut.arrival_ms, split_ms))
        if not 0 < before < len(cut):
            raise TraceError(f"{trace.name}: fold {k} of {count} is empty: ask for fewer folds")
        windows.append(Window(cut, split_ms, split, until))
    return windows


def train(
    part: Window,
    *,
    create_ms: float,
    jobs: int,
    objective: Objective = DEFAULT,
    on_progress: Callable[[float], None] | None = None,
    context: bool = False,
) -> Model:
    """The model learned from what lies before the window's split, and from nothing else."""
    return fit(
        part.training,
        create_ms=create_ms,
        objective=objective,
        jobs=jobs,
        on_progress=on_progress,
        context=context,
    )


def evaluate(
    part: Window,
    settings: Sequence[Setting],
    *,
    create_ms: float,
    model: Model | None = None,
    jobs: int = 1,
    keep_requests: bool = False,
    keep_replays: bool = False,
    baseline: str = BASELINE,
) -> Iterator[Measured]:
    """Yields the figures of each setting, in order, as they are known.

    `keep_requests` keeps wait and cold start of every measured request, `keep_replays` the whole
    replays of `baseline` and of learned (one of each). Raises PolicyError before
    the first replay where a policy cannot be made.
    """
    for setting in settings:
        if setting.policy != CLAIRVOYANT:
            _policy(setting, model)
    trace, known = share(part), share(model)
    whole = _to_keep(settings, baseline) if keep_replays else []
    calls = (
        task(measure, trace, each, create_ms, known, keep_requests, each in whole)
        for each in settings
    )
    workers = max(min(jobs, len(settings)), 1)
    yield from parallel(workers, return_as="generator")(calls)


def measure(
    part: Window,
    setting: Setting,
    create_ms: float,
    model: Model | None = None,
    keep_requests: bool = False,
    keep_replay: bool = False,
    own: Policy | None = None,
    judge: Objective | None = None,
) -> Measured:
    """Replays the window's trace from its start with one setting, or with a policy of one's `own`
    that nothing has used yet. `judge` is the objective to tell `used` of; else learned's own."""
    trace, split_ms = part.trace, part.split_ms
    if setting.policy == CLAIRVOYANT:
        return Measured(setting, clairvoyant(trace, split_ms, create_ms=create_ms))
    policy = _policy(setting, model) if own is None else own
    scheduler = Scheduler(policy)
    result = replay(trace, policy, create_ms=create_ms, make_scheduler=lambda _: scheduler)
    clocks = None
    if isinstance(policy, Learned):
        clocks = policy.clocks(scheduler.pools.values())
        # Where an objective moved it: where it came to.
        setting = replace(
            setting, knob="price", knob_value=policy.price, objective=policy.objective
        )
        judge = judge or policy.objective
    used = None if judge is None else spent_of_allowed(judge, trace, result, split_ms)
    rows = trace.arrival_ms >= split_ms
    wait_ms, cold, app = result.wait_ms[rows], result.cold[rows], trace.app[rows]
    slot_gb_s = slot_gb_s_by_app(trace, result, split_ms)

    def by_app(weights: npt.NDArray[Any]) -> FloatArray:
        summed = np.bincount(app, weights=weights, minlength=len(trace.apps))
        return np.asarray(summed, dtype=np.float64)

    apps = AppFigures(
        requests=np.bincount(app, minlength=len(trace.apps)),
        cold_starts=by_app(cold).astype(np.int64),
        wait_s=by_app(wait_ms) / 1000.0,
        slot_gb_s=slot_gb_s,
        wasted_gb_s=slot_gb_s - by_app(trace.duration_ms[rows]) / 1000.0 * memory_gb(trace),
    )
    return Measured(
        setting,
        figures(trace, result, split_ms),
        apps,
        wait_ms if keep_requests else None,
        cold if keep_requests else None,
        result if keep_replay else None,
        clocks,
        used,
    )


def tune(
    part: Window, settings: Sequence[Setting], *, create_ms: float, jobs: int = 1
) -> list[Setting]:
    """Gives greedy-dual its default capacity: the one of the best score on the training part.

    The paper has no default, and the right one is the size of the fleet.
    """
    if all(setting.policy != GREEDY_DUAL for setting in settings):
        return list(settings)
    training = part.training
    candidates = [
        Setting(f"{GREEDY_DUAL}:{gb:g}", "capacity_gb", gb)
        for gb in capacities_gb(training, step=1.0)
    ]
    try:
        inner = window(training, 0.5)
    except TraceError:
        inner = Window(training, float(training.arrival_ms[0]), 0.0)
    measured = evaluate(inner, candidates, create_ms=create_ms, jobs=jobs)
    best = max(measured, key=lambda each: each.figures.score).setting
    return [
        replace(best, policy=GREEDY_DUAL) if setting.policy == GREEDY_DUAL else setting
        for setting in settings
    ]


def as_json(measured: Measured) -> dict[str, Any]:
    """A policy's object of `scaler evaluate --json`; None where a figure has no meaning."""
    setting = measured.setting
    result: dict[str, Any] = {"policy": setting.policy}
    result |= {name: getattr(measured.figures, name) for name in JSON_FIGURES}
    result |= {"knob": setting.knob, "knob_value": setting.knob_value}
    if setting.objective is not None:
        result |= {"objective": str(setting.objective), "objective_used": measured.used}
    return result


def mean_and_spread(runs: Sequence[Measured]) -> tuple[Measured, Mapping[str, float | None]]:
    """The mean of one setting's figures over the folds, and their standard deviations.

    Counts are rounded means. A standard deviation of one fold is 0. A knob that was set anew for
    each fold is None.
    """
    setting = runs[0].setting
    if any(run.setting != setting for run in runs):
        setting = replace(setting, knob_value=None)
    mean: dict[str, Any] = {}
    spread: dict[str, float | None] = {}
    own = [field.name for field in fields(Figures)]
    for name in dict.fromkeys([*own, *JSON_FIGURES]):  # those that follow from others as well
        values = [getattr(run.figures, name) for run in runs]
        if any(value is None for value in values):
            mean[name] = spread[name] = None
            continue
        mean[name] = float(np.mean(values))
        spread[name] = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        if name in ("requests", "cold_starts", "queued"):
            mean[name] = round(mean[name])
    return Measured(setting, Figures(**{name: mean[name] for name in own})), spread


def _to_keep(settings: Sequence[Setting], baseline: str) -> list[Setting]:
    """Of the baseline and of learned the one that `find` will find."""
    of = [[each for each in settings if each.policy == name] for name in (baseline, LEARNED)]
    return [min(each, key=lambda one: one.swept) for each in of if each]


def find(measured: Sequence[Measured], policy: str) -> Measured | None:
    """The first of these with this policy, one that was asked for before any of a sweep."""
    found = [each for each in measured if each.setting.policy == policy]
    return min(found, key=lambda each: each.setting.swept) if found else None


def saving(measured: Sequence[Measured], baseline: str = BASELINE) -> str | None:
    """One line: what learned wastes and waits against the baseline, and how many start cold."""
    base, ours = find(measured, baseline), find(measured, LEARNED)
    if base is None or ours is None or not base.figures.wasted_gb_s or not base.figures.wait_s:
        return None
    before, after = base.figures, ours.figures
    return (
        f"learned against {baseline}: {_less(after.wasted_gb_s / before.wasted_gb_s - 1.0)} wasted"
        f" memory, {_less(after.wait_s / before.wait_s - 1.0)} waiting, cold starts"
        f" {before.cold_start_rate or 0.0:.2%} → {after.cold_start_rate or 0.0:.2%} of requests,"
        f" score {before.score:.2f} → {after.score:.2f}"
    )


def _less(change: float) -> str:
    return f"{abs(change):.0%} {'less' if change <= 0.0 else 'more'}"


def _policy(setting: Setting, model: Model | None) -> Policy:
    tuned = setting.policy == GREEDY_DUAL and setting.knob_value is not None
    name = f"{GREEDY_DUAL}:{setting.knob_value:g}" if tuned else setting.policy
    return make_policy(name, model, setting.price, objective=setting.objective)
