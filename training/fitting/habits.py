"""Habits: what a trace's idle times say of each app, and of the population.

The apps are fitted side by side by joblib.
"""

from __future__ import annotations

import numpy as np

from warmscaler.data.trace import App, IntArray, Trace
from warmscaler.models.learned.habits import (
    MEMORY_GAPS,
    PERIODS_MS,
    AppHabits,
    LevelHabits,
    Model,
)
from warmscaler.models.learned.level import SURE_MS
from warmscaler.models.learned.plan import TAIL, TAIL_MS, FloatArray
from warmscaler.training.cluster import share, task
from warmscaler.training.fitting.levels import uses
from warmscaler.training.fitting.misses import WINDOWS, behind_ms
from warmscaler.training.workers import parallel

PRIOR_POINTS = 32
BIN = 0.25
"""Of the population's hazard, a factor of e being 1."""
PRIOR_APPS = 20.0
"""What is believed of idle times never seen weighs as much as so many apps."""
CHUNKS = 32
"""Pieces of about equal work that the apps are fitted in, side by side."""
SIDE_BY_SIDE = 500_000
"""Requests from which on that pays."""


def habits(trace: Trace, create_ms: float, jobs: int) -> Model:
    """The apps and the population as every request of `trace` shows them, at the built-in price."""
    called = _called(trace)
    fitted = _all_habits(trace, called, create_ms, jobs if len(trace) > SIDE_BY_SIDE else 1)
    return Model(
        prior_ms=_prior(fitted),
        start_ms=float(np.median([app.start_ms for app in fitted])),
        apps={trace.apps[app].key: own for app, own in zip(called.tolist(), fitted, strict=True)},
    )


def app_habits(
    app: App,
    arrival_ms: IntArray,
    duration_ms: IntArray,
    create_ms: float,
    end_ms: float | None = None,
) -> AppHabits:
    """One app's levels, as if no request had ever waited. Columns of its requests, shapes (n,);
    they were watched until `end_ms`, else until the last of them came."""
    if end_ms is None:
        end_ms = float(arrival_ms.max())
    start_ms = create_ms + app.init_ms
    use_ms = float(np.maximum(duration_ms, 1).mean())
    levels = []
    order = np.argsort(arrival_ms, kind="stable")
    by_arrival = arrival_ms[order]
    by_done = by_arrival + np.maximum(duration_ms[order], 1)
    for number, taken_ms, left_ms in uses(arrival_ms, duration_ms):
        used_ms = (left_ms - taken_ms).astype(np.float64)
        gaps_ms = (taken_ms[1:] - left_ms[:-1]).astype(np.float64)
        excess_ms = np.maximum(used_ms - start_ms, 0.0)
        told = np.flatnonzero(gaps_ms > SURE_MS)[-MEMORY_GAPS:]
        covered = float(np.minimum(used_ms, start_ms).mean())
        behind = 1.0
        if number > 1 and len(told):
            longest = told[np.argsort(gaps_ms[told])[-WINDOWS:]]
            spared = behind_ms(by_arrival, by_done, taken_ms[1:][longest], number, start_ms)
            behind = spared / max(covered, 1.0)
        levels.append(
            LevelHabits(
                gaps_ms[told],
                left_ms[told].astype(np.float64) % PERIODS_MS[-1],
                covered,
                float(excess_ms.mean()),
                max(end_ms - float(left_ms[-1]), 0.0) if len(left_ms) else 0.0,
                len(taken_ms) - 1 - int(told[0]) if len(told) else 0,
                behind,
            )
        )
    return AppHabits(start_ms, tuple(levels), use_ms, _crowd(np.sort(arrival_ms), start_ms))


def _crowd(arrival_ms: IntArray, start_ms: float) -> float:
    """As the policy counts it: `AppHabits.crowd`."""
    total, windows, position = 0.0, 0, 0
    while position < len(arrival_ms):
        first = arrival_ms[position]
        end = int(np.searchsorted(arrival_ms, first + start_ms, side="left"))
        end = max(end, position + 1)
        behind_ms = arrival_ms[position:end] - first
        total += float((1.0 - behind_ms / max(start_ms, 1.0)).sum())
        windows += 1
        position = end
    return total / max(windows, 1)


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
        (
            app,
            app_habits(
                trace.apps[app],
                trace.arrival_ms[own],
                trace.duration_ms[own],
                create_ms,
                float(trace.arrival_ms[-1]),
            ),
        )
        for app, own in zip(present.tolist(), np.split(rows, starts[1:]), strict=True)
    ]


def _prior(habits: list[AppHabits]) -> FloatArray:
    """Quantiles of the first levels' idle times, each app counting the same. Shape (n,).

    From the hazard on a logarithmic scale of time, constant in each bin of it: idle times ended in the
    bin over time spent in it (M. Friedman, Annals of Statistics 10, 1982). One that had not ended by the
    end of the trace counts for the time it lasted. Where little was seen, or nothing, as beyond the
    longest, stands the hazard TAIL, as of a Pareto law.
    """
    gaps = [np.append(app.levels[0].gaps_ms, app.levels[0].open_ms) for app in habits]
    ended = np.concatenate([np.append(np.ones(len(g) - 1, bool), False) for g in gaps])
    logs = np.log(np.maximum(np.concatenate(gaps), SURE_MS) / SURE_MS)
    weights = np.concatenate([np.full(len(each), 1.0 / len(each)) for each in gaps])
    edges = np.arange(0.0, np.log(TAIL_MS / SURE_MS), BIN)
    in_bin = np.minimum((logs / BIN).astype(np.int64), len(edges) - 1)
    events = np.bincount(in_bin, np.where(ended & (logs > 0.0), weights, 0.0), len(edges))
    weight = np.bincount(in_bin, weights, len(edges))
    partly = np.bincount(in_bin, weights * (logs - edges[in_bin]), len(edges))
    beyond = weight[::-1].cumsum()[::-1] - weight
    spent = partly + beyond * BIN
    hazard = (events + PRIOR_APPS * TAIL * BIN) / (spent + PRIOR_APPS * BIN)
    reached = np.concatenate(([0.0], np.cumsum(hazard * BIN)))
    wanted = -np.log(1.0 - (np.arange(PRIOR_POINTS) + 0.5) / PRIOR_POINTS)
    log_ms = np.interp(wanted, reached, np.append(edges, edges[-1] + BIN))
    return np.asarray(SURE_MS * np.exp(log_ms), dtype=np.float64)
