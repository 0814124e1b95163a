"""The figures of an evaluation: golden ones on the shared day, and honest windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.traces import shared_day, trace_of
from warmscaler.data.trace import Trace, TraceError
from warmscaler.models.learned.habits import Model
from warmscaler.models.registry import PolicyError
from warmscaler.training.evaluating.evaluate import (
    as_json,
    evaluate,
    find,
    folds,
    mean_and_spread,
    saving,
    train,
    tune,
    window,
)
from warmscaler.training.evaluating.settings import PRICES, chosen, sweep
from warmscaler.training.fitting.fit import fit

GOLDEN = {  # score, resource, cold start, rate, p75 of the apps, wasted GB·s, wait s
    "fixed:60": (45.09, 3.82, 41.27, 0.05602, 1.000, 159_058, 16_630),
    "fixed:300": (48.79, 2.25, 46.54, 0.01364, 0.503, 279_710, 5_839),
    "fixed:600": (50.71, 1.97, 48.75, 0.00578, 0.348, 321_290, 2_024),
    "fixed:1800": (51.06, 1.57, 49.48, 0.00270, 0.160, 404_728, 824),
    "clairvoyant": (70.85, 20.85, 50.00, None, None, 18_394, 0),
}


@pytest.fixture(scope="module")
def day() -> Trace:
    return shared_day()


@pytest.fixture(scope="module")
def small() -> Trace:
    rng = np.random.default_rng(5)
    at_ms = np.cumsum(rng.exponential(8_000, 900)).astype(int).tolist()
    rows = [(at, int(app), 300) for at, app in zip(at_ms, rng.integers(0, 5, 900), strict=True)]
    return trace_of(rows, memory_mb=[128, 256, 64, 192, 128])


@pytest.fixture(scope="module")
def model(small: Trace) -> Model:
    return train(window(small, 0.5), create_ms=300.0, jobs=1)


def test_golden_figures_of_the_shared_day(day: Trace) -> None:
    part = window(day, 0.5)
    for measured in evaluate(part, chosen(list(GOLDEN)), create_ms=300.0):
        figures = measured.figures
        score, resource, cold, rate, p75, wasted, wait = GOLDEN[measured.setting.policy]
        assert figures.requests == 117_445
        assert figures.score == pytest.approx(score, rel=0.003)
        assert figures.resource_score == pytest.approx(resource, rel=0.003)
        assert figures.cold_start_score == pytest.approx(cold, rel=0.003)
        assert figures.wasted_gb_s == pytest.approx(wasted, rel=0.003)
        assert figures.wait_s == pytest.approx(wait, rel=0.003)
        if rate is not None:
            assert figures.cold_start_rate == pytest.approx(rate, rel=0.003)
            assert figures.app_cold_start_rate_p75 == pytest.approx(p75, rel=0.003)


def test_figures_by_app_add_up(small: Trace) -> None:
    part = window(small, 0.5)
    (measured,) = evaluate(part, chosen(["fixed:60"]), create_ms=300.0, keep_requests=True)
    apps, figures = measured.apps, measured.figures
    assert apps is not None
    assert measured.wait_ms is not None
    assert measured.cold is not None
    assert apps.requests.sum() == figures.requests == len(measured.wait_ms)
    assert apps.cold_starts.sum() == figures.cold_starts == measured.cold.sum()
    assert apps.wait_s.sum() == pytest.approx(figures.wait_s)
    assert apps.wasted_gb_s.sum() == pytest.approx(figures.wasted_gb_s)


def test_parallel_is_the_same(small: Trace, model: Model) -> None:
    part = window(small, 0.5)
    settings = chosen(["fixed:60", "hybrid-histogram", "learned", "clairvoyant"])
    alone = list(evaluate(part, settings, create_ms=300.0, model=model))
    both = list(evaluate(part, settings, create_ms=300.0, model=model, jobs=2))
    assert [as_json(each) for each in alone] == [as_json(each) for each in both]


def test_training_sees_nothing_from_the_split_on(small: Trace, model: Model) -> None:
    part = window(small, 0.5)
    assert part.training.arrival_ms[-1] < part.split_ms
    before = small.between(0, part.split_ms)
    same = fit(before, create_ms=300.0)
    assert model.settings() == same.settings()
    for name, array in model.arrays().items():
        np.testing.assert_array_equal(array, same.arrays()[name])


def test_folds_roll_through_the_trace(small: Trace) -> None:
    parts = folds(small, 3)
    assert [part.split for part in parts] == [0.25, 0.5, 0.75]
    measured = [
        small_part.trace.arrival_ms[small_part.trace.arrival_ms >= small_part.split_ms]
        for small_part in parts
    ]
    # Every request after the first quarter is measured once.
    np.testing.assert_array_equal(
        np.concatenate(measured), small.arrival_ms[small.arrival_ms >= parts[0].split_ms]
    )


def test_mean_and_spread_of_folds(small: Trace) -> None:
    runs = [next(evaluate(part, chosen(["fixed:60"]), create_ms=300.0)) for part in folds(small, 3)]
    mean, spread = mean_and_spread(runs)
    waits = [run.figures.wait_s for run in runs]
    assert mean.figures.wait_s == pytest.approx(np.mean(waits))
    assert spread["wait_s"] == pytest.approx(np.std(waits, ddof=1))


def test_a_window_needs_both_sides() -> None:
    with pytest.raises(TraceError, match="split"):
        window(trace_of([(0, 0, 1)]), 0.5)


def test_greedy_dual_gets_a_capacity_from_the_training_part(small: Trace) -> None:
    part = window(small, 0.5)
    (setting,) = tune(part, chosen(["greedy-dual"]), create_ms=300.0)
    assert setting.policy == "greedy-dual"
    assert setting.knob == "capacity_gb"
    assert setting.knob_value is not None
    next(evaluate(part, [setting], create_ms=300.0))


def test_sweep_has_every_setting_once(small: Trace) -> None:
    settings = sweep(chosen(["fixed:60", "fixed:300", "learned", "knative", "reference"]), small)
    assert len(settings) == len({(each.policy, each.price) for each in settings})
    assert sum(each.family == "learned" for each in settings) == len(PRICES) + 1
    values = [each.knob_value for each in settings if each.family == "knative"]
    assert values == sorted(set(values), key=lambda value: value or 0.0)


def test_of_a_sweep_it_is_told_what_was_asked_for(small: Trace) -> None:
    (any_,) = evaluate(window(small, 0.5), chosen(["fixed:300"]), create_ms=300.0)
    for price in (0.03, 0.04):  # 0.04 is one of the grid's
        settings = sweep(chosen(["fixed:300", "learned"], price=price), small)
        found = find([replace(any_, setting=each) for each in settings], "learned")
        assert found is not None
        assert found.setting.price == price


def test_an_unknown_policy_names_the_known_before_any_replay(small: Trace) -> None:
    with pytest.raises(PolicyError, match="clairvoyant"):
        list(evaluate(window(small, 0.5), chosen(["fixed:1", "nosuch"]), create_ms=300.0))


def test_saving_compares_learned_with_five_minutes(small: Trace, model: Model) -> None:
    part = window(small, 0.5)
    measured = list(evaluate(part, chosen(["fixed:300", "learned"]), create_ms=300.0, model=model))
    line = saving(measured)
    assert line is None or "fixed:300" in line
    assert saving(measured[:1]) is None
