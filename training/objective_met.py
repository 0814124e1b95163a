"""How far an objective is met in a replay."""

from __future__ import annotations

from math import inf

from warmscaler.data.trace import Trace
from warmscaler.models.objectives.words import Kind, Objective
from warmscaler.simulator.figures import figures
from warmscaler.simulator.replay import Replay


def spent_of_allowed(
    objective: Objective,
    trace: Trace,
    result: Replay,
    split_ms: float,
    window_wait_s: float | None = None,
) -> float | None:
    """Of what is allowed, the share that was spent from `split_ms` on: at most 1 is met. None for
    SCORE and PRICE, which allow nothing, and for SAFE without what requests waited under fixed:300."""
    if objective.kind in (Kind.SCORE, Kind.PRICE):
        return None
    if objective.kind is Kind.WAIT:
        waits_ms = result.wait_ms[trace.arrival_ms >= split_ms]
        return float((waits_ms > objective.value).mean()) / objective.allowed_share
    of = figures(trace, result, split_ms)
    if objective.kind is Kind.MEMORY:
        return of.mean_gb / objective.value
    if objective.kind is Kind.COLD_STARTS:
        return (of.start_rate or 0.0) / objective.allowed_share
    if window_wait_s is None:
        return None
    return of.wait_s / window_wait_s if window_wait_s else (inf if of.wait_s else 0.0)
