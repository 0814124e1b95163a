"""Days of apps with office hours."""

from __future__ import annotations

import numpy as np

from tests.traces import trace_of
from warmscaler.data.trace import Trace

HOUR_MS = 3_600_000
START_MS = 19_724 * 24 * HOUR_MS  # a midnight


def office_hours(apps: int = 4, days: int = 8, seed: int = 0) -> Trace:
    """Each app is called every 6 minutes on average for some hours of each day, and every 3 hours in
    the others."""
    draw = np.random.default_rng(seed)
    rows: list[tuple[int, int, int]] = []
    for app in range(apps):
        opens = int(draw.integers(6, 11))
        for day in range(days):
            for hour in range(24):
                an_hour = 10.0 if opens <= hour < opens + 8 else 1.0 / 3.0
                for at in np.sort(draw.uniform(0.0, HOUR_MS, draw.poisson(an_hour))):
                    rows.append((START_MS + (24 * day + hour) * HOUR_MS + int(at), app, 400))
    return trace_of(rows, memory_mb=[1_024] * apps, init_ms=4_700)
