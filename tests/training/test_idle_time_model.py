"""The estimator follows scikit-learn's conventions, and knows more than the plain hazard.

What needs scikit-learn or LightGBM is imported where it is used: a second or two of each worker.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import warmscaler as ws
from tests.models.context.habits_trace import office_hours
from warmscaler.models.learned.context.ages import BINS
from warmscaler.models.learned.habits import Model
from warmscaler.models.learned.plan import Prior
from warmscaler.training.fitting.idle_times import IdleTime, idle_times


@cache
def told() -> list[IdleTime]:
    prior = Prior(Model().prior_ms, 0.6)
    return idle_times(office_hours(apps=3, days=4), prior, 300.0)


def test_conventions() -> None:
    from sklearn.base import clone
    from sklearn.exceptions import NotFittedError

    model = ws.IdleTimeModel(n_estimators=5)
    assert model.get_params()["n_estimators"] == 5
    assert model.set_params(n_estimators=8) is model
    copied = clone(model)
    assert copied.get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        copied.predict_survival_function(told())
    assert copied.fit(told()) is copied
    assert copied.fit(told()).text_ == clone(model).fit(told()).text_
    with pytest.raises(ValueError, match="no idle time"):
        model.fit([])
    with pytest.raises(ValueError, match="num_leaves is 99"):
        ws.IdleTimeModel(num_leaves=99).fit(told())


def test_survival_falls_from_one_to_none() -> None:
    survival = ws.IdleTimeModel(n_estimators=20).fit(told()).predict_survival_function(told()[:50])
    assert survival.shape == (50, BINS)
    assert (survival <= 1.0).all()
    assert (survival >= 0.0).all()
    assert (np.diff(survival, axis=1) <= 0.0).all()
    assert ws.IdleTimeModel(n_estimators=3).fit(told()).predict_survival_function([]).shape == (
        0,
        BINS,
    )


def test_knows_more_of_apps_that_it_was_not_fitted_on() -> None:
    from warmscaler.training.fitting.idle_time_model import by_app

    for fitted, others in by_app(told(), 2):
        apps = [{told()[each].app for each in side} for side in (fitted, others)]
        assert not apps[0] & apps[1]
        model = ws.IdleTimeModel().fit([told()[each] for each in fitted])
        assert model.score([told()[each] for each in others]) > 0.05


def test_an_idle_time_that_did_not_end_only_survived() -> None:
    from warmscaler.training.fitting.idle_time_model import log_likelihoods

    of = [each for each in told() if not each.ended]
    assert of  # each app's last
    logits = np.full((len(of), BINS), -2.0)
    bins = np.array([each.last_bin for each in of])
    expected = -(bins + 1) * np.log1p(np.exp(-2.0))
    np.testing.assert_allclose(log_likelihoods(of, logits), expected)


def test_the_same_idle_times_are_told_by_any_number_of_workers() -> None:
    prior = Prior(Model().prior_ms, 0.6)
    trace = office_hours(apps=2, days=2)
    one, two = (idle_times(trace, prior, 300.0, jobs=jobs) for jobs in (1, 2))
    assert len(one) == len(two) > 50
    for each, other in zip(one, two, strict=True):
        assert each.of == other.of
        np.testing.assert_array_equal(each.varying, other.varying)
        np.testing.assert_array_equal(each.fixed, other.fixed)
