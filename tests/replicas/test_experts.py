"""The forecasters' accounts and the newsvendor, and quantiles that cover what they say."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from warmscaler.replicas import experts, quantiles
from warmscaler.replicas.levels import THRESHOLDS, advance, fresh
from warmscaler.replicas.spec import AppSpec

falling = st.lists(st.floats(0, 1), min_size=1, max_size=24).map(
    lambda chances: np.array(sorted(chances, reverse=True))
)


def terms(price: float) -> experts.Terms:
    return experts.terms_of(AppSpec("app", start_s=30.0, memory_mb=1024, price=price))


@given(falling, st.floats(1e-6, 10), st.floats(1, 100), st.integers(0, 30))
def test_the_dearer_memory_is_the_fewer_replicas_are_worth_it(
    chances: np.ndarray[tuple[int], np.dtype[np.float64]], price: float, times: float, there: int
) -> None:
    cheap = experts.newsvendor(terms(price), chances, len(chances), 1.0, there)
    dear = experts.newsvendor(terms(price * times), chances, len(chances), 1.0, there)
    # What is there already saves its start, which is dearer too: let it be none for the order to hold.
    if there == 0:
        assert dear <= cheap
    assert 0.0 <= dear <= THRESHOLDS[len(chances) - 1]


def test_the_newsvendor_by_hand() -> None:
    # A look's hold is 0.15 s; a miss waits 32 s: worth it from p * 32 = (1 - p) * 0.15 on, 0.00467.
    at = terms(0.01)
    assert experts.newsvendor(at, np.array([0.9, 0.005, 0.004]), 3, 1.0, 0.0) == 2.0
    assert experts.newsvendor(at, np.array([0.9, 0.005, 0.004]), 3, 2.0, 0.0) == 3.0
    # One that is there saves 0.38 s of memory besides: from 0.00461 on.
    assert experts.newsvendor(at, np.array([0.9, 0.00465]), 2, 1.0, 0.0) == 1.0
    assert experts.newsvendor(at, np.array([0.9, 0.00465]), 2, 1.0, 2.0) == 2.0


def test_accounts_by_hand() -> None:
    at = terms(0.01)
    accounts, memory = experts.opened(at), fresh(8)
    nothing = np.zeros(0)
    for look, needed in enumerate([2.0, 0.0, 0.0, 2.0]):
        experts.charge(accounts, at, needed, needed)
        advance(memory, look, 0, needed)
        experts.propose(accounts, memory, at, look, nothing, 0)
    none, minute = experts.NAMES.index("last value, 0 s"), experts.NAMES.index("last value, 60 s")
    # All miss two replicas at first. Then a minute's window holds two for two looks, and misses none.
    miss, hold = 2 * (at.miss_s + at.restart_s), 2 * at.hold_s
    assert np.isclose(accounts.cost[none], 2 * miss, rtol=1e-3)
    assert np.isclose(accounts.cost[minute], miss + 2 * hold, rtol=1e-3)
    assert experts.cheapest(accounts) not in (none,)


def test_one_that_turns_bad_is_followed_no_longer() -> None:
    at = terms(0.01)
    accounts, memory = experts.opened(at), fresh(8)
    nothing = np.zeros(0)
    calm = experts.NAMES.index("last value, 0 s")
    for look in range(4_000):
        # A use of one look every five minutes, and later none: keeping pays, then letting go.
        needed = 1.0 if look < 1_000 and look % 20 == 0 else 0.0
        experts.charge(accounts, at, needed, needed)
        advance(memory, look, 0, needed)
        experts.propose(accounts, memory, at, look, nothing, 0)
        if look == 999:
            assert experts.followed(accounts)[1] == 1.0
    assert experts.followed(accounts)[1] == 0.0
    assert accounts.cost[calm] > 0.0


def test_quantiles_of_a_count_by_hand() -> None:
    chances = np.array([0.5, 0.1])  # 0 with 0.5, 1 with 0.4, 2 with 0.1
    assert quantiles.quantile(chances, 2, 0.25) == 0.5
    assert quantiles.quantile(chances, 2, 0.7) == 1.5
    assert np.isclose(quantiles.quantile(chances, 2, 0.95), 2.5)
    assert quantiles.covered(1.5, 1.0) == 0.5
    assert quantiles.covered(1.5, 0.0) == 1.0
    assert quantiles.covered(1.5, 2.0) == 0.0


def test_chances_that_are_wrong_still_cover_what_they_say() -> None:
    rng = np.random.default_rng(5)
    chances = np.array([0.4, 0.05])
    alpha, shares = quantiles.ALPHA, []
    for needed in (rng.random(6_000) < 0.03) + 2.0 * (rng.random(6_000) < 0.06):
        share = quantiles.covered(quantiles.quantile(chances, 2, 1.0 - alpha), float(needed))
        alpha = quantiles.adapted(alpha, share)
        shares.append(share)
    assert abs(float(np.mean(shares)) - 0.9) < 0.02
