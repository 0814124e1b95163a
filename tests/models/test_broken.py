"""An instance that broke is missed as one that was released is: the next request would wait for a start."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.traces import trace_of
from warmscaler.data.trace import Trace
from warmscaler.models.learned.habits import Model
from warmscaler.models.learned.policy import Learned
from warmscaler.simulator.replay import replay

CALLS = 300
START_MS = 3_000


def breaking(seed: int, share: float, gap_ms: int) -> Trace:
    """One app, called about so often; this share of its requests break their instances."""
    chance, at_ms = Random(seed), 1_700_000_000_000
    rows: list[tuple[int, int, int]] = []
    for _ in range(CALLS):
        at_ms += 2 * START_MS + int(chance.expovariate(1 / gap_ms))
        rows.append((at_ms, 0, 100))
    codes = np.array([500 if chance.random() < share else 200 for _ in rows], dtype=np.int64)
    return replace(trace_of(rows, memory_mb=(256,), init_ms=START_MS - 300), status_code=codes)


@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.05, 0.5, 1.0]))
@settings(max_examples=10, deadline=None)
def test_who_is_kept_for_is_started_for_when_it_breaks(seed: int, share: float) -> None:
    trace = breaking(seed, share, 20_000)
    waits_ms = replay(trace, Learned(Model(), price=0.0001), create_ms=300.0).wait_ms
    assert (waits_ms[30:] > 0.0).mean() < 0.03


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_where_none_would_be_kept_none_takes_its_place(share: float) -> None:
    trace = breaking(1, share, 3_600_000)
    result = replay(trace, Learned(Model(), price=10.0), create_ms=300.0)
    assert len(result.slots) <= len(trace)
    assert result.cold[30:].all()
