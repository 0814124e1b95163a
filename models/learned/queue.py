"""What one more start saves the requests that wait, those there and those that will come meanwhile."""

from __future__ import annotations

from math import inf


def saved_ms(
    *,
    waiting: int,
    busy: int,
    starting: int,
    started_ago_ms: float,
    use_ms: float,
    coming: float,
    start_ms: float,
) -> float:
    """Waiting that an instance started now spares, in ms; a fluid approximation.

    `started_ago_ms` is the sum of how long ago the `starting` ones were started, `use_ms` an
    execution, `coming` the arrivals while one starts. What the instances there, and those on their
    way, have not served by the time this one would be ready, is the backlog; it then goes at the pace
    of all instances, less what arrives.
    """
    served = (busy * start_ms + started_ago_ms) / use_ms
    backlog = waiting + coming - served
    if backlog <= 0.0:
        return 0.0
    spare = busy + starting - coming * use_ms / start_ms
    if spare <= 0.0:
        return inf
    # A backlog of n is gone after n uses over the spare instances; the mean of them waits half of that.
    return use_ms * backlog**2 / (2.0 * spare * (spare + 1.0))
