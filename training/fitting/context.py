"""What is learned across apps: fitted, and judged on a later part of the training and on apps not seen.

Judged is the cost of an idle time, gap by gap, when its plan is tilted against when it is not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from warmscaler.data.trace import Trace
from warmscaler.models.learned.context.ages import bins
from warmscaler.models.learned.context.context import Context, Tilt, Tilted, tilted
from warmscaler.models.learned.level import SURE_MS
from warmscaler.models.learned.plan import FloatArray, Prior, plan
from warmscaler.training.cluster import task
from warmscaler.training.fitting.idle_time_model import IdleTimeModel, by_app
from warmscaler.training.fitting.idle_times import IdleTime, believed, idle_times
from warmscaler.training.workers import parallel

DAY_MS = 86_400_000.0
LEAST_DAYS = 2.0
"""On less there is no calendar to learn: nothing is tried."""
LEAST_IDLE_TIMES = 500
PRICES = (0.0003, 0.001, 0.003, 0.01)
"""Seconds of waiting per GB·s that it must pay at."""
LATER = 0.65
"""Judged is what comes after this share of the idle times."""
MOST_JUDGED = 2_000
BELIEVED = 300.0
"""An app's own gain is shrunk to that of all with the weight of so many idle times (the normal-means
estimator of W. James and C. Stein, 1961, with a common spread)."""
LEAST_GAIN = 0.005
"""Where less of the cost is spared it is not worth its plans."""
FOLDS = 2
CHUNKS = 8


def fit_context(
    trace: Trace, prior: Prior, create_ms: float, *, jobs: int = 1, seed: int = 0
) -> Context | None:
    """What every app of `trace` teaches; None where there is too little, or it does not pay."""
    if float(trace.arrival_ms[-1] - trace.arrival_ms[0]) < LEAST_DAYS * DAY_MS:
        return None
    known = idle_times(trace, prior, create_ms, seed=seed, jobs=jobs)
    if sum(each.ended for each in known) < LEAST_IDLE_TIMES:
        return None
    model = IdleTimeModel(n_jobs=jobs)
    began_ms = np.array([each.of.left_ms for each in known])
    cut_ms = float(np.quantile(began_ms, LATER))
    earlier = [each for each in known if each.of.left_ms + each.gap_ms < cut_ms]
    later = [each for each in known if each.of.left_ms >= cut_ms and each.ended]
    if not earlier or not later:
        return None
    if len(later) > MOST_JUDGED:
        told = np.random.default_rng(seed).choice(len(later), MOST_JUDGED, replace=False)
        later = [later[each] for each in sorted(told.tolist())]
    costs = _costs(later, model.fit(earlier).offset(later), prior, jobs)
    weights = np.array([each.weight for each in later])
    overall = _gain(costs, weights)
    if overall < LEAST_GAIN:
        return None
    gains = _gains_by_app(later, costs, weights, overall)
    new = _new_apps_gain(model, earlier, later, prior, jobs)
    text = model.fit(known).text_
    keys = {trace.apps[app].key: gain for app, gain in gains.items()}
    return Context(text, keys, new)


def _new_apps_gain(
    model: IdleTimeModel,
    earlier: Sequence[IdleTime],
    later: Sequence[IdleTime],
    prior: Prior,
    jobs: int,
) -> float:
    """On later idle times of apps that it was not fitted on."""
    costs, weights = [], []
    for fitted, _ in by_app(earlier, FOLDS):
        apps = {earlier[each].app for each in fitted.tolist()}
        others = [each for each in later if each.app not in apps]
        if others:
            model.fit([earlier[each] for each in fitted.tolist()])
            costs.append(_costs(others, model.offset(others), prior, jobs))
            weights += [each.weight for each in others]
    return _gain(np.concatenate(costs, axis=2), np.array(weights)) if costs else 0.0


def _gain(costs: FloatArray, weights: FloatArray) -> float:
    """The share of the cost that is spared, as the mean over the prices. `costs` as `_costs`."""
    plain, own = costs @ weights
    return float(np.mean(1.0 - own / np.maximum(plain, 1e-9)))


def _gains_by_app(
    later: Sequence[IdleTime], costs: FloatArray, weights: FloatArray, overall: float
) -> dict[int, float]:
    apps = np.array([each.app for each in later])
    # At every price the costs of all together count the same.
    scaled = (costs / np.maximum(costs[0] @ weights, 1e-9)[:, None]).sum(axis=1) * weights
    gains = {}
    for app in np.unique(apps).tolist():
        own = apps == app
        plain, tilted_ = scaled[:, own].sum(axis=1)
        believed = BELIEVED * plain / max(int(own.sum()), 1)
        gains[app] = float((plain - tilted_ + believed * overall) / max(plain + believed, 1e-12))
    return gains


def _costs(of: Sequence[IdleTime], offsets: FloatArray, prior: Prior, jobs: int) -> FloatArray:
    """What each idle time costs, planned without and with its offset: shape (2, prices, n)."""
    size = max(-(-len(of) // CHUNKS), 1)
    calls = (
        task(_cost, of[begin : begin + size], offsets[begin : begin + size], prior)
        for begin in range(0, len(of), size)
    )
    return np.concatenate(list(parallel(jobs)(calls)), axis=2)


def _cost(of: Sequence[IdleTime], offsets: FloatArray, prior: Prior) -> FloatArray:
    costs = np.zeros((2, len(PRICES), len(of)))
    for number, (each, offset) in enumerate(zip(of, offsets, strict=True)):
        given, points, weight, reaches = believed(each.before_ms, prior)
        tilt = Tilt(tilted(each.plain, offset))
        ways = ((weight, given), (weight * tilt.of(bins(points)), Tilted(given, tilt, 0.0)))
        start_ms = each.of.start_ms
        for priced, price in enumerate(PRICES):
            hold = price * each.of.memory_mb / 1024.0
            miss = start_ms * (1.0 + hold) if each.of.level == 1 else each.of.use_ms
            for way, (weights, by) in enumerate(ways):
                todo = plan(
                    points, weights, reaches, by, hold_cost=hold, miss_cost=miss, start_ms=start_ms
                )
                costs[way, priced, number] = todo.cost_of(each.gap_ms, 0.0, SURE_MS, hold, miss)
    return costs
