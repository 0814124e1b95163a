"""What is written down of an app and read back; and bytes that are none of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmscaler.models.learned.habits import AppHabits, LevelHabits, Model
from warmscaler.models.learned.policy import Learned
from warmscaler.models.learned.remembered import MOST_GAPS, LevelSeen, pack, unpack
from warmscaler.models.policy import Pool

NUMBERS = st.floats(0.0, 2.0**50, width=32)
SEEN = st.builds(
    lambda covered_ms, excess_ms, pairs: LevelSeen(
        covered_ms, excess_ms, [gap for gap, _ in pairs], [left for _, left in pairs]
    ),
    st.just(-1.0) | NUMBERS,
    NUMBERS,
    st.lists(st.tuples(NUMBERS, NUMBERS), max_size=MOST_GAPS),
)


@given(NUMBERS, st.lists(SEEN, max_size=4))
def test_there_and_back(crowd: float, levels: list[LevelSeen]) -> None:
    again_crowd, again = unpack(pack(crowd, levels))
    assert again_crowd == crowd
    for there, back in zip(levels, again, strict=True):
        assert (back.covered_ms, back.excess_ms) == (there.covered_ms, there.excess_ms)
        assert list(back.gaps_ms) == there.gaps_ms
        assert list(back.lefts_ms) == there.lefts_ms


@given(st.binary(max_size=200), st.integers(0, 10_000), st.integers(1, 255))
def test_what_is_not_whole_is_refused(noise: bytes, at: int, flip: int) -> None:
    with pytest.raises(ValueError, match=r"damaged|short|format|cannot be"):
        unpack(noise)
    whole = pack(1.0, [LevelSeen(1.0, 2.0, [3.0, 4.0], [5.0, 6.0])])
    at %= len(whole)
    damaged = whole[:at] + bytes((whole[at] ^ flip,)) + whole[at + 1 :]
    for bad in (damaged, whole[:at]):
        with pytest.raises(ValueError, match=r"damaged|short|format|cannot be"):
            unpack(bad)


def pool_of(policy: Learned) -> Pool:
    pool = Pool("app", 256, 1_000.0)
    pool.policy = policy.app("app", 256, "")
    return pool


def live(pool: Pool, begin_ms: float, gap_ms: float, turns: int) -> float:
    """Requests of 50 ms, so far apart; returns until when the last left its instance kept."""
    now_ms, until_ms = begin_ms, 0.0
    for _ in range(turns):
        pool.busy = 1
        pool.policy.arrival(now_ms, pool)
        pool.busy = 0
        now_ms += 50.0
        pool.policy.completion(now_ms, pool)
        until_ms = pool.policy.idle(now_ms, pool)
        now_ms += gap_ms
    return until_ms - now_ms + gap_ms


def test_an_app_recalled_is_kept_as_long_as_before() -> None:
    known = LevelHabits(np.full(3, 5_000.0), np.full(3, 5_000.0), 50.0, 0.0)
    model = Model(apps={"app": AppHabits(1_000.0, (known,))})
    policy = Learned(model)
    old = pool_of(policy)
    live(old, 1e12, 2_000.0, 60)
    learned = policy.learned(old)
    assert learned is not None
    new = pool_of(policy)
    policy.recall(new, learned)
    assert policy.learned(new) == learned
    fresh = pool_of(policy)
    later_ms = 1e12 + 3_600_000.0
    kept_ms = [live(pool, later_ms, 2_000.0, 1) for pool in (old, new)]
    assert kept_ms[0] == pytest.approx(kept_ms[1], rel=0.01)
    assert policy.learned(fresh) != learned
    with pytest.raises(ValueError, match="damaged"):
        policy.recall(fresh, learned[:-1])
