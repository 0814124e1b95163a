"""Traces for tests: the shared one where it is, and small ones built by hand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from warmscaler.data.read import read_trace
from warmscaler.data.trace import App, Trace

_SHARED = os.environ.get("SCALER_SHARED_TRACES")
SHARED = Path(_SHARED) if _SHARED else Path(__file__).parents[1].parent / "shared/traces"
DAY = SHARED / "azure2019-day.tar.gz"


def shared_day() -> Trace:
    """The shared day of 62 apps; the test is skipped where it is not there."""
    if not DAY.exists():
        pytest.skip(f"{DAY} is not there")
    return read_trace(DAY)


def trace_of(
    requests: Sequence[tuple[int, int, int]],
    *,
    memory_mb: Sequence[int] = (128,),
    init_ms: int = 700,
    name: str = "by-hand",
) -> Trace:
    """A trace of (arrival_ms, app, duration_ms) rows; an app for each memory size."""
    rows = np.array(sorted(requests), dtype=np.int64).reshape(-1, 3)
    apps = tuple(
        App(f"app-{index}", "python", megabytes, 60, init_ms)
        for index, megabytes in enumerate(memory_mb)
    )
    arrival_ms, app, duration_ms = rows.T.copy()
    return Trace(name, apps, arrival_ms, app, duration_ms, np.full(len(rows), 200, np.int64))
