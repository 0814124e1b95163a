"""The account of a replay: what is left of waste and waiting, and what it consists of, app by app.

Everything is told in seconds of waiting, a GB·s counted at the price, so that waste and waiting of
an app add up. What could be done about it is bounded from two sides: by a plan fitted in hindsight
to the very idle times it is judged on, and by the clairvoyant reference.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from warmscaler.data.trace import Trace
from warmscaler.models.learned.habits import MAX_LEVELS, PERIODS_MS
from warmscaler.models.learned.plan import DRIFT_SHARE, Prior, plan, spread
from warmscaler.simulator.figures import charged_gaps_ms, memory_gb
from warmscaler.simulator.replay import Replay

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
HINDSIGHT_GAPS = 4_000
"""Idle times of a level that the plan in hindsight is fitted to; more are thinned out evenly."""

_NO_PRIOR = Prior(np.empty(0), 0.0)  # a plan in hindsight believes nothing that was not


@dataclass(frozen=True, slots=True)
class Account:
    """Seconds of waiting by app, each of shape (apps,); memory is counted at the price."""

    kept_used: FloatArray
    """Idle between two requests, and the second came in time."""
    kept_unused: FloatArray
    """Idle after the last request that it ever served: kept for too long."""
    prewarmed_used: FloatArray
    """Idle after its start, and a request came."""
    prewarmed_unused: FloatArray
    """Started, and never needed."""
    starting: FloatArray
    """Memory of instances on their way."""
    wait_first: FloatArray
    """Waits of requests that needed more instances at once than the app had ever needed."""
    wait_none: FloatArray
    """Waits for an instance started because of that request or a later one: it was released too soon,
    or not started in time."""
    wait_starting: FloatArray
    """Waits for an instance that was on its way already."""
    wait_busy: FloatArray
    """Waits for an instance that served another request."""

    @property
    def total(self) -> FloatArray:
        """All of it, shape (apps,)."""
        parts = np.stack([getattr(self, field.name) for field in fields(self)])
        return np.asarray(parts.sum(axis=0), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Spells:
    """The idle spells of a replay, a row each. Times in ms."""

    slot: IntArray
    from_ms: FloatArray
    to_ms: FloatArray
    used: npt.NDArray[np.bool_]
    """It ended with a request, not with the slot."""
    prewarmed: npt.NDArray[np.bool_]
    """It began with the start, not with a request."""


def spells(trace: Trace, result: Replay, create_ms: float) -> Spells:
    """Every stretch in which an instance was ready and served nobody."""
    created_ms, destroyed_ms, app = _slots(result)
    init_ms = np.array([each.init_ms for each in trace.apps], dtype=np.float64)
    ready_ms = np.minimum(created_ms + create_ms + init_ms[app], destroyed_ms)
    begin_ms = trace.arrival_ms + result.wait_ms
    order = np.lexsort((begin_ms, result.slot))
    slot, begin, end = result.slot[order], begin_ms[order], (begin_ms + trace.duration_ms)[order]
    first = np.ones(len(slot), dtype=np.bool_)
    first[1:] = slot[1:] != slot[:-1]
    final = np.ones(len(slot), dtype=np.bool_)
    final[:-1] = first[1:]
    before = np.where(first, ready_ms[slot], np.concatenate(([0.0], end[:-1])))
    never = np.setdiff1d(np.arange(len(created_ms)), slot)
    return Spells(
        slot=np.concatenate((slot, slot[final], never)),
        from_ms=np.concatenate((before, end[final], ready_ms[never])),
        to_ms=np.concatenate((begin, destroyed_ms[slot[final]], destroyed_ms[never])),
        used=np.repeat([True, False], [len(slot), int(final.sum()) + len(never)]),
        prewarmed=np.concatenate((first, np.zeros(int(final.sum()), np.bool_), never >= 0)),
    )


def account(
    trace: Trace, result: Replay, split_ms: float, *, price: float, create_ms: float
) -> Account:
    """What the measured part of a replay cost, at `price` seconds of waiting for a GB·s."""
    created_ms, destroyed_ms, app = _slots(result)
    apps = len(trace.apps)
    worth = price * memory_gb(trace) / 1_000.0  # seconds for a ms of an instance
    idle = spells(trace, result, create_ms)
    own = app[idle.slot]
    cost = (idle.to_ms - np.maximum(idle.from_ms, split_ms)).clip(min=0.0) * worth[own]

    def memory(rows: npt.NDArray[np.bool_]) -> FloatArray:
        return _sum_by(own[rows], cost[rows], apps)

    init_ms = np.array([each.init_ms for each in trace.apps], dtype=np.float64)
    ready_ms = np.minimum(created_ms + create_ms + init_ms[app], destroyed_ms)
    starting = (ready_ms - np.maximum(created_ms, split_ms)).clip(min=0.0) * worth[app]

    waited_s = np.where(trace.arrival_ms >= split_ms, result.wait_ms, 0.0) / 1_000.0
    slot_created, slot_ready = created_ms[result.slot], ready_ms[result.slot]
    first = _at_once(trace, result) > _most_before(trace, result)
    none = ~first & (slot_created >= trace.arrival_ms)
    on_its_way = ~first & ~none & (slot_ready > trace.arrival_ms)

    def waiting(rows: npt.NDArray[np.bool_]) -> FloatArray:
        return _sum_by(trace.app[rows], waited_s[rows], apps)

    return Account(
        kept_used=memory(idle.used & ~idle.prewarmed),
        kept_unused=memory(~idle.used & ~idle.prewarmed),
        prewarmed_used=memory(idle.used & idle.prewarmed),
        prewarmed_unused=memory(~idle.used & idle.prewarmed),
        starting=_sum_by(app, starting, apps),
        wait_first=waiting(first),
        wait_none=waiting(none),
        wait_starting=waiting(on_its_way),
        wait_busy=waiting(~first & ~none & ~on_its_way),
    )


def clairvoyant_cost(
    trace: Trace, split_ms: float, *, price: float, create_ms: float
) -> FloatArray:
    """What perfect knowledge of arrivals would cost, in the same seconds; shape (apps,)."""
    memory = memory_gb(trace)
    cost = np.zeros(len(trace.apps))
    for index, app in enumerate(trace.apps):
        own = np.flatnonzero(trace.app == index)
        charged_ms = charged_gaps_ms(
            trace.arrival_ms[own].tolist(),
            trace.duration_ms[own].tolist(),
            create_ms + app.init_ms,
            split_ms,
        )
        cost[index] = charged_ms / 1_000.0 * memory[index] * price
    return cost


def hindsight_cost(trace: Trace, split_ms: float, *, price: float, create_ms: float) -> FloatArray:
    """What the best plan for each level would cost, fitted to the idle times it is judged on.

    In the same seconds; shape (apps,). No policy that goes by a level's idle times, or by their
    times on a clock, can be expected to do better; what lies above it is learning and bursts.
    """
    cost = np.zeros(len(trace.apps))
    for index, app in enumerate(trace.apps):
        own = trace.app == index
        start_ms = create_ms + app.init_ms
        hold = price * app.memory_mb / 1_024.0
        for left_ms, gap_ms, covered_ms in _gaps(trace, own, split_ms, start_ms):
            thinned = np.linspace(0, len(gap_ms) - 1, min(len(gap_ms), HINDSIGHT_GAPS))
            rows = thinned.round().astype(np.int64)
            cost[index] += (
                _best_plan_ms(left_ms[rows], gap_ms[rows], hold, start_ms, covered_ms)
                / 1_000.0
                * (len(gap_ms) / len(rows))
            )
    return cost


def _best_plan_ms(
    left_ms: FloatArray, gap_ms: FloatArray, hold: float, start_ms: float, covered_ms: float
) -> float:
    best = np.inf
    miss_ms = covered_ms + hold * start_ms
    for period_ms in PERIODS_MS:
        past_ms = left_ms % period_ms if period_ms else np.zeros(len(left_ms))
        points = spread(
            gap_ms + past_ms,
            np.ones(len(gap_ms)),
            drift_share=0.0 if period_ms else DRIFT_SHARE,
        )
        fitted = plan(*points, _NO_PRIOR, hold_cost=hold, miss_cost=miss_ms, start_ms=start_ms)
        pairs = zip(gap_ms.tolist(), past_ms.tolist(), strict=True)
        best = min(best, sum(fitted.cost_of(gap, past, 0.0, hold, miss_ms) for gap, past in pairs))
    return best


def _gaps(
    trace: Trace, own: npt.NDArray[np.bool_], split_ms: float, start_ms: float
) -> list[tuple[FloatArray, FloatArray, float]]:
    """Per level, when it was left, the idle times that end in the measured part, and what a miss
    waits; as if no request had ever waited."""
    arrival, gone = trace.arrival_ms[own], (trace.arrival_ms + trace.duration_ms.clip(min=1))[own]
    if not len(arrival):
        return []
    times = np.concatenate((arrival, gone))
    steps = np.repeat([1, -1], len(arrival))
    order = np.lexsort((steps, times))
    times, steps = times[order], steps[order]
    at_once = np.cumsum(steps)
    levels = []
    for number in range(1, min(int(at_once.max()), MAX_LEVELS) + 1):
        taken = times[(steps > 0) & (at_once == number)].astype(np.float64)
        left = times[(steps < 0) & (at_once == number - 1)].astype(np.float64)
        measured = taken[1:] >= split_ms
        if measured.any():
            used = np.minimum((left - taken)[1:][measured], start_ms)
            covered_ms = start_ms if number == 1 else float(used.mean())
            levels.append((left[:-1][measured], (taken[1:] - left[:-1])[measured], covered_ms))
    return levels


def _sum_by(app: IntArray, cost: FloatArray, apps: int) -> FloatArray:
    return np.asarray(np.bincount(app, weights=cost, minlength=apps), dtype=np.float64)


def _slots(result: Replay) -> tuple[FloatArray, FloatArray, IntArray]:
    """Created, destroyed and app of each slot, shapes (slots,)."""
    return (
        np.array([slot.created_ms for slot in result.slots], dtype=np.float64),
        np.array([slot.destroyed_ms for slot in result.slots], dtype=np.float64),
        np.array([slot.app for slot in result.slots], dtype=np.int64),
    )


def _at_once(trace: Trace, result: Replay) -> IntArray:
    """How many requests of its app were there when each came, itself among them. Shape (n,)."""
    gone_ms = trace.arrival_ms + result.wait_ms + trace.duration_ms
    there = np.zeros(len(trace), dtype=np.int64)
    for index in range(len(trace.apps)):
        own = np.flatnonzero(trace.app == index)
        left = np.searchsorted(np.sort(gone_ms[own]), trace.arrival_ms[own], side="right")
        there[own] = np.arange(1, len(own) + 1) - left
    return there


def _most_before(trace: Trace, result: Replay) -> IntArray:
    """The most requests of its app that were ever there at once before each came. Shape (n,)."""
    there = _at_once(trace, result)
    most = np.zeros(len(trace), dtype=np.int64)
    for index in range(len(trace.apps)):
        own = np.flatnonzero(trace.app == index)
        if len(own):
            most[own[1:]] = np.maximum.accumulate(there[own])[:-1]
    return most
