"""Clocks that apps are called by: a period of the wall clock, and the stretch of it in which calls come."""

from __future__ import annotations

import numpy as np

from warmscaler.data.trace import Trace
from warmscaler.models.advised.policy import Clock

PERIODS_S = (
    *(60, 120, 180, 300, 600, 900, 1_200, 1_800),
    *(3_600, 7_200, 10_800, 14_400, 21_600, 28_800, 43_200, 86_400, 604_800),
)
CALLS_WANTED = 4
"""Calls after an idle time, and turns of the clock, that it takes to believe in one."""
INSIDE = 0.9
"""The share of them that must fall into the stretch."""
WIDEST = 0.2
"""The stretch is at most this share of the period."""
MARGIN_MS = 500.0
IDLE_MS = 10_000.0
"""A call sooner after the last one was done needs no clock."""


def best_clock(trace: Trace, app: int) -> Clock | None:
    """The clock on which an instance is held for the least share of the time, if calls keep to one."""
    own = np.flatnonzero(trace.app == app)
    arrival_ms = trace.arrival_ms[own].astype(np.float64)
    done_ms = np.maximum.accumulate(arrival_ms + trace.duration_ms[own])
    after_idle = arrival_ms[1:][arrival_ms[1:] - done_ms[:-1] > IDLE_MS]
    if len(after_idle) < CALLS_WANTED:
        return None
    best: tuple[float, Clock] | None = None
    span_ms = arrival_ms[-1] - arrival_ms[0]
    for period_s in PERIODS_S:
        period_ms = period_s * 1000.0
        if span_ms < CALLS_WANTED * period_ms:
            break
        phase_ms = np.sort(after_idle % period_ms)
        wanted = int(np.ceil(INSIDE * len(phase_ms)))
        # The narrowest arc that holds so many: the phases go round, so twice.
        around = np.concatenate((phase_ms, phase_ms + period_ms))
        widths = around[wanted - 1 : wanted - 1 + len(phase_ms)] - phase_ms
        narrowest = int(widths.argmin())
        width_ms = float(widths[narrowest]) + 2.0 * MARGIN_MS
        share = width_ms / period_ms
        if share <= WIDEST and (best is None or share < best[0]):
            opens_ms = (float(phase_ms[narrowest]) - MARGIN_MS) % period_ms
            best = share, Clock(period_ms, opens_ms, width_ms)
    return None if best is None else best[1]
