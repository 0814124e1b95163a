"""Fitting the learned policy's model: habits per app, the population's prior, the price.

Everything in the trace given is training data; a caller that measures gives what lies before its
split. The apps are fitted side by side by joblib, the price is found by replaying the same trace.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import numpy as np

from warmscaler.data.trace import App, IntArray, Trace
from warmscaler.models.learned.habits import (
    MAX_LEVELS,
    MEMORY_GAPS,
    PERIODS_MS,
    AppHabits,
    LevelHabits,
    Model,
)
from warmscaler.models.learned.plan import FloatArray
from warmscaler.models.learned.policy import SURE_MS, Learned
from warmscaler.simulator.figures import figures
from warmscaler.simulator.replay import replay
from warmscaler.training.cluster import share, task
from warmscaler.training.workers import parallel

PRIOR_POINTS = 32
CHUNKS = 32
"""Pieces of about equal work that the apps are fitted in, side by side."""
PRICES = (0.00005, 0.0004, 0.0032, 0.0256, 0.2048)
"""Seconds of waiting per GB·s to begin the search with: fleets differ by so much."""
PRICE_STEPS = (8.0**0.5, 8.0**0.25)
"""Then the neighbours of the best, so many times dearer and cheaper: the score is flat there."""
PRICE_REQUESTS = 80_000
"""The latest so many training requests find the price: the price is a habit of the fleet."""
PRICE_SPLIT = 0.35
"""The part of them, in time, in which the policy only learns."""


def fit(
    trace: Trace,
    *,
    create_ms: float,
    price: float | None = None,
    jobs: int = 1,
    on_progress: Callable[[float], None] | None = None,
) -> Model:
    """Fits on every request of `trace`. `on_progress` gets the fraction done, now and then.

    A `price` (seconds of waiting per GB·s) that is given is not looked for.
    """
    called = _called(trace)
    habits = _all_habits(trace, called, create_ms, jobs if len(trace) > 500_000 else 1)
    if on_progress is not None:
        on_progress(0.2)
    prior_ms = _prior(habits)
    start_ms = float(np.median([app.start_ms for app in habits]))
    apps = {trace.apps[app].key: own for app, own in zip(called.tolist(), habits, strict=True)}
    unpriced = Model(prior_ms=prior_ms, start_ms=start_ms)
    if price is None:
        price = _best_price(trace, unpriced, create_ms, jobs, on_progress)
    return Model(price, prior_ms, start_ms, apps)


def app_habits(
    app: App, arrival_ms: IntArray, duration_ms: IntArray, create_ms: float
) -> AppHabits:
    """One app's levels, as if no request had ever waited. Columns of its requests, shapes (n,)."""
    start_ms = create_ms + app.init_ms
    # A request of no duration still comes before it goes.
    times = np.concatenate((arrival_ms, arrival_ms + np.maximum(duration_ms, 1)))
    steps = np.concatenate((np.ones_like(arrival_ms), -np.ones_like(arrival_ms)))
    order = np.lexsort((steps, times))  # at one instant completions come first
    times, steps = times[order], steps[order]
    at_once = np.cumsum(steps)
    levels = []
    for number in range(1, min(int(at_once.max()), MAX_LEVELS) + 1):
        taken_ms = times[(steps > 0) & (at_once == number)]
        left_ms = times[(steps < 0) & (at_once == number - 1)]
        used_ms = (left_ms - taken_ms).astype(np.float64)
        gaps_ms = (taken_ms[1:] - left_ms[:-1]).astype(np.float64)
        excess_ms = np.maximum(used_ms - start_ms, 0.0)
        told = np.flatnonzero(gaps_ms > SURE_MS)[-MEMORY_GAPS:]
        levels.append(
            LevelHabits(
                gaps_ms[told],
                left_ms[told].astype(np.float64) % PERIODS_MS[-1],
                float((used_ms - excess_ms).mean()),
                float(excess_ms.mean()),
            )
        )
    return AppHabits(start_ms, tuple(levels))


def _called(trace: Trace) -> IntArray:
    """The apps with a request, as indices in order."""
    return np.unique(trace.app)


def _all_habits(trace: Trace, called: IntArray, create_ms: float, jobs: int) -> list[AppHabits]:
    """The habits of the apps `called`, in that order."""
    calls = np.bincount(trace.app, minlength=len(trace.apps))[called]
    busiest_first = called[np.argsort(-calls, kind="stable")]
    # Dealt like cards, so that no chunk gets all the busy ones.
    chunks = [busiest_first[n::CHUNKS] for n in range(min(CHUNKS, len(called)))]
    shared = share(trace)
    done = parallel(jobs)(task(_habits_of, shared, chunk, create_ms) for chunk in chunks)
    by_app = {app: own for habits in done for app, own in habits}
    return [by_app[app] for app in called.tolist()]


def _habits_of(trace: Trace, apps: IntArray, create_ms: float) -> list[tuple[int, AppHabits]]:
    rows = np.flatnonzero(np.isin(trace.app, apps))
    rows = rows[np.argsort(trace.app[rows], kind="stable")]
    present, starts = np.unique(trace.app[rows], return_index=True)
    return [
        (app, app_habits(trace.apps[app], trace.arrival_ms[own], trace.duration_ms[own], create_ms))
        for app, own in zip(present.tolist(), np.split(rows, starts[1:]), strict=True)
    ]


def _prior(habits: list[AppHabits]) -> FloatArray:
    """Quantiles of the first levels' idle times, each app counting the same. Shape (n,)."""
    gaps = [app.levels[0].gaps_ms for app in habits if len(app.levels[0].gaps_ms)]
    if not gaps:
        return Model().prior_ms
    pooled = np.concatenate(gaps)
    weights = np.concatenate([np.full(len(each), 1.0 / len(each)) for each in gaps])
    order = np.argsort(pooled)
    reached = np.cumsum(weights[order]) / weights.sum()
    wanted = (np.arange(PRIOR_POINTS) + 0.5) / PRIOR_POINTS
    return np.asarray(np.interp(wanted, reached, pooled[order]), dtype=np.float64)


def _best_price(
    trace: Trace,
    model: Model,
    create_ms: float,
    jobs: int,
    on_progress: Callable[[float], None] | None,
) -> float:
    """The price of the best score on the latest stretch, from the population's prior alone."""
    latest = trace
    if len(trace) > PRICE_REQUESTS:
        latest = trace.between(float(trace.arrival_ms[-PRICE_REQUESTS]), inf)
    stretch, known = share(latest), share(model)
    score_of: dict[float, float] = {}
    best = model.price_s_per_gb_s
    with parallel(jobs) as side_by_side:
        for stage in range(len(PRICE_STEPS) + 1):
            step = PRICE_STEPS[stage - 1]
            prices = (best / step, best * step) if stage else PRICES
            rounded = [float(f"{price:.3g}") for price in prices]
            scores = side_by_side(
                task(_score, stretch, known, price, create_ms) for price in rounded
            )
            score_of.update(zip(rounded, scores, strict=True))
            best = max(score_of, key=score_of.__getitem__)
            if on_progress is not None:
                on_progress(0.2 + 0.8 * (stage + 1) / (len(PRICE_STEPS) + 1))
    return best


def _score(trace: Trace, model: Model, price: float, create_ms: float) -> float:
    result = replay(trace, Learned(model, price), create_ms=create_ms)
    return figures(trace, result, trace.split_ms(PRICE_SPLIT)).score
