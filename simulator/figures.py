"""A policy's figures from its replay: the measured part of the trace only, from the split on."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np
import numpy.typing as npt

from warmscaler.data.trace import Trace
from warmscaler.simulator.replay import CREATE_MS, Replay

FloatArray = npt.NDArray[np.float64]
MB_PER_GB = 1024.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What a policy cost on the requests that arrived at or after the split."""

    requests: int
    score: float
    resource_score: float
    cold_start_score: float
    cold_starts: int | None
    """Requests that found no idle instance, whatever served them in the end."""
    queued: int | None
    """Those of them that an instance served which was busy when they came: they waited for no start."""
    cold_start_rate: float | None
    app_cold_start_rate_p75: float | None
    slot_gb_s: float
    wasted_gb_s: float
    execution_gb_s: float
    execution_s: float
    wait_s: float
    wait_p99_ms: float
    span_s: float
    """How long it took, from the split or the first arrival to the end."""

    @property
    def start_rate(self) -> float | None:
        """The share of the requests that waited for an instance to start."""
        if self.cold_starts is None or self.queued is None:
            return None
        return (self.cold_starts - self.queued) / max(self.requests, 1)

    @property
    def mean_gb(self) -> float:
        """Memory of the slots, on average."""
        return self.slot_gb_s / self.span_s if self.span_s else 0.0


def scores(
    execution_gb_s: float, slot_gb_s: float, execution_s: float, wait_s: float
) -> tuple[float, float]:
    """The contest's resource and cold-start scores, 50 at most each."""
    resource = 50.0 * execution_gb_s / slot_gb_s if slot_gb_s else 0.0
    busy_s = execution_s + wait_s
    return resource, 50.0 * execution_s / busy_s if busy_s else 0.0


def memory_gb(trace: Trace) -> FloatArray:
    """Memory of each app in GB, shape (apps,)."""
    return np.array([app.memory_mb / MB_PER_GB for app in trace.apps], dtype=np.float64)


def slot_gb_s_by_app(trace: Trace, result: Replay, split_ms: float) -> FloatArray:
    """GB·s of slot time from the split to the end of the replay, shape (apps,)."""
    if not result.slots:
        return np.zeros(len(trace.apps))
    app = np.array([slot.app for slot in result.slots], dtype=np.int64)
    created_ms = np.array([slot.created_ms for slot in result.slots])
    destroyed_ms = np.array([slot.destroyed_ms for slot in result.slots])
    lived_s = (destroyed_ms - np.maximum(created_ms, split_ms)).clip(min=0.0) / 1000.0
    seconds = np.bincount(app, weights=lived_s, minlength=len(trace.apps))
    return np.asarray(seconds * memory_gb(trace), dtype=np.float64)


def queued(trace: Trace, result: Replay) -> npt.NDArray[np.bool_]:
    """Which requests waited for an instance that was busy when they came; shape (requests,).

    Such an instance had begun to serve the request before it by then.
    """
    begin_ms = trace.arrival_ms + result.wait_ms
    order = np.lexsort((begin_ms, result.slot))
    before_ms = np.full(len(trace), np.inf)
    same = result.slot[order][1:] == result.slot[order][:-1]
    before_ms[order[1:]] = np.where(same, begin_ms[order[:-1]], np.inf)
    return np.asarray(result.cold & (before_ms <= trace.arrival_ms))


def figures(trace: Trace, result: Replay, split_ms: float) -> Figures:
    """The figures of a replay of the whole of `trace`, measured from `split_ms` on."""
    rows = trace.arrival_ms >= split_ms
    app = trace.app[rows]
    cold = result.cold[rows]
    requests = np.bincount(app, minlength=len(trace.apps))
    seen = requests > 0
    rates = np.bincount(app, weights=cold, minlength=len(trace.apps))[seen] / requests[seen]
    return _figures(
        trace,
        rows,
        slot_gb_s=float(slot_gb_s_by_app(trace, result, split_ms).sum()),
        wait_ms=result.wait_ms[rows],
        cold_starts=int(cold.sum()),
        queued=int((queued(trace, result) & rows).sum()),
        rate_p75=float(np.quantile(rates, 0.75)) if len(rates) else 0.0,
        span_s=_span_s(trace, split_ms, result.end_ms),
    )


def clairvoyant(trace: Trace, split_ms: float, *, create_ms: float = CREATE_MS) -> Figures:
    """What perfect knowledge of arrivals buys without making a request wait.

    Each request takes the lowest-numbered free place of its app; before each use the place is
    charged the smaller of the gap since its last use and the start-up time. Only gaps and
    executions of requests from the split on are charged.
    """
    rows = trace.arrival_ms >= split_ms
    memory = memory_gb(trace)
    idle_gb_s = 0.0
    for index, app in enumerate(trace.apps):
        own = np.flatnonzero(trace.app == index)
        start_ms = create_ms + app.init_ms
        charged_ms = charged_gaps_ms(
            trace.arrival_ms[own].tolist(), trace.duration_ms[own].tolist(), start_ms, split_ms
        )
        idle_gb_s += charged_ms / 1000.0 * float(memory[index])
    execution_gb_s = float((trace.duration_ms[rows] / 1000.0 * memory[trace.app[rows]]).sum())
    return _figures(
        trace,
        rows,
        slot_gb_s=execution_gb_s + idle_gb_s,
        wait_ms=np.zeros(int(rows.sum())),
        cold_starts=None,
        queued=None,
        rate_p75=None,
        span_s=_span_s(trace, split_ms, float((trace.arrival_ms + trace.duration_ms).max())),
    )


def charged_gaps_ms(
    arrivals_ms: list[int], durations_ms: list[int], start_ms: float, split_ms: float
) -> float:
    """What the clairvoyant reference holds one app's idle instances for, in ms from the split on."""
    free: list[int] = []
    free_since: list[float] = []
    in_use: list[tuple[float, int]] = []
    charged_ms = 0.0
    for arrival_ms, duration_ms in zip(arrivals_ms, durations_ms, strict=True):
        while in_use and in_use[0][0] <= arrival_ms:
            end_ms, place = heappop(in_use)
            free_since[place] = end_ms
            heappush(free, place)
        if free:
            place = heappop(free)
            gap_ms = min(arrival_ms - free_since[place], start_ms)
        else:
            place = len(free_since)
            free_since.append(0.0)
            gap_ms = start_ms
        if arrival_ms >= split_ms:
            charged_ms += gap_ms
        heappush(in_use, (arrival_ms + duration_ms, place))
    return charged_ms


def _span_s(trace: Trace, split_ms: float, end_ms: float) -> float:
    return max(end_ms - max(split_ms, float(trace.arrival_ms[0])), 0.0) / 1000.0


def _figures(
    trace: Trace,
    rows: npt.NDArray[np.bool_],
    *,
    slot_gb_s: float,
    wait_ms: FloatArray,
    cold_starts: int | None,
    queued: int | None,
    rate_p75: float | None,
    span_s: float,
) -> Figures:
    execution_s = trace.duration_ms[rows] / 1000.0
    execution_gb_s = float((execution_s * memory_gb(trace)[trace.app[rows]]).sum())
    wait_s = float(wait_ms.sum()) / 1000.0
    total_s = float(execution_s.sum())
    resource, cold_start = scores(execution_gb_s, slot_gb_s, total_s, wait_s)
    requests = int(rows.sum())
    return Figures(
        requests=requests,
        score=resource + cold_start,
        resource_score=resource,
        cold_start_score=cold_start,
        cold_starts=cold_starts,
        queued=queued,
        cold_start_rate=None if cold_starts is None else cold_starts / max(requests, 1),
        app_cold_start_rate_p75=rate_p75,
        slot_gb_s=slot_gb_s,
        wasted_gb_s=slot_gb_s - execution_gb_s,
        execution_gb_s=execution_gb_s,
        execution_s=total_s,
        wait_s=wait_s,
        wait_p99_ms=float(np.quantile(wait_ms, 0.99)) if requests else 0.0,
        span_s=span_s,
    )
