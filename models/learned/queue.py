"""What one more start saves the requests that wait, those there and those that will come meanwhile."""

from __future__ import annotations

from math import inf

from warmscaler.models.policy import Pool


def saved_ms(now_ms: float, pool: Pool, more: int, *, use_ms: float, coming: float) -> float:
    """Waiting that an instance started now, after `more` others, spares, in ms; a fluid approximation.

    `use_ms` is an execution, `coming` the arrivals while one starts. What the instances there, and
    those on their way, have not served by the time this one would be ready, is the backlog; it then
    goes at the pace of all instances, less what arrives.
    """
    started_ago_ms = pool.starting * now_ms - pool.started_sum_ms
    served = (pool.busy * pool.start_ms + started_ago_ms) / use_ms
    backlog = len(pool.waiting) + coming - served
    if backlog <= 0.0:
        return 0.0
    spare = pool.busy + pool.starting + more - coming * use_ms / pool.start_ms
    if spare <= 0.0:
        return inf
    # A backlog of n is gone after n uses over the spare instances; the mean of them waits half of that.
    return use_ms * backlog**2 / (2.0 * spare * (spare + 1.0))
