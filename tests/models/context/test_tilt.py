"""A hazard with an offset gives a distribution again, and no offset changes nothing."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from warmscaler.models.learned.context.ages import (
    BINS,
    EDGES_MS,
    bins,
    hazard_logits,
    log_survival,
    prior_weights,
)
from warmscaler.models.learned.context.context import MOST_TILT, Tilt, Tilted, tilted
from warmscaler.models.learned.plan import Prior

PRIOR = Prior(np.geomspace(1_000.0, 4_000_000.0, 25), 0.6)


def test_bins_are_where_their_edges_are() -> None:
    assert (np.diff(EDGES_MS) > 0.0).all()
    inside = np.concatenate((EDGES_MS[:-1] * 1.001, EDGES_MS[1:] * 0.999))
    np.testing.assert_array_equal(bins(inside), np.tile(np.arange(BINS), 2))
    assert bins(np.array([-5.0, 0.0, 1e15])).tolist() == [0, 0, BINS - 1]


def test_the_prior_lies_in_the_bins() -> None:
    np.testing.assert_allclose(prior_weights(PRIOR).sum(), 0.6, rtol=0.02)


@given(
    ages=st.lists(st.floats(500.0, 1e9), max_size=30),
    offsets=st.lists(st.floats(-1.0, 1.0), min_size=BINS, max_size=BINS),
)
@settings(max_examples=60, deadline=None)
def test_the_tilted_distribution_sums_to_one(ages: list[float], offsets: list[float]) -> None:
    prior = prior_weights(PRIOR)
    at = np.array(ages)
    plain = hazard_logits(bins(at), np.ones(len(at)), prior)
    survival = np.exp(log_survival(plain))
    chance = -np.diff(survival, prepend=1.0)
    mass = np.bincount(bins(at), minlength=BINS) + prior
    np.testing.assert_allclose(chance, mass / mass.sum(), atol=0.01)
    ratio = tilted(plain, np.array(offsets))
    assert (np.abs(ratio) <= MOST_TILT).all()
    if (np.abs(ratio) < MOST_TILT).all():
        np.testing.assert_allclose((chance * np.exp(ratio)).sum(), 1.0, atol=0.02)


def test_no_offset_tilts_nothing() -> None:
    plain = hazard_logits(bins(np.array([2_000.0, 9_000.0])), np.ones(2), prior_weights(PRIOR))
    tilt = Tilt(tilted(plain, np.zeros(BINS)))
    np.testing.assert_array_equal(tilt.at(EDGES_MS), np.ones(BINS + 1))
    bounds = np.array([0.0, 10.0, 5_000.0, 1e6, np.inf])
    np.testing.assert_array_equal(Tilted(PRIOR, tilt, 0.0).shares(bounds), PRIOR.shares(bounds))
