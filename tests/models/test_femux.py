"""FeMux: its forecasters on series that they must continue, its features, its measure, its choice."""

from __future__ import annotations

import numpy as np
import pytest

from warmscaler.models.published.block_features import Features, features
from warmscaler.models.published.femux import LEAST_BLOCKS, Experience, rum_s
from warmscaler.models.published.forecasters import (
    Autoregression,
    ExponentialSmoothing,
    KeepAlive,
    MarkovChain,
    SlowHarmonics,
    instances,
)
from warmscaler.models.published.per_minute import Minute

AT = np.arange(121)


def test_autoregression_continues_an_oscillation() -> None:
    series = 2.0 + np.sin(AT / 3.0) + 0.5 * np.cos(AT / 1.7)
    assert Autoregression().next(series[:120]) == pytest.approx(series[120], abs=1e-3)


def test_autoregression_bears_a_series_that_repeats_itself_and_a_short_one() -> None:
    assert Autoregression().next(np.full(120, 0.25)) == pytest.approx(0.25, abs=1e-3)
    assert Autoregression().next(np.array([0.0, 1.0])) == 1.0


def test_slow_harmonics_continue_a_trend_and_a_wave() -> None:
    series = 1.0 + 0.05 * AT + np.cos(2.0 * np.pi * AT / 20.0)
    assert SlowHarmonics().next(series[:120]) == pytest.approx(series[120], abs=0.2)
    straight = np.asarray(1.0 + 0.05 * AT, dtype=np.float64)
    assert SlowHarmonics().next(straight[:11]) == pytest.approx(straight[11], abs=0.7)


def test_the_markov_chain_learns_how_long_a_state_lasts() -> None:
    chain = MarkovChain()
    series = [1.0 if at % 7 == 0 else 0.0 for at in range(70)]
    for value in series[:-1]:
        chain.observe(value)
    foreseen = chain.next(np.array(series))
    assert foreseen == 1.0  # the seventieth: six minutes of nothing are over
    chain.observe(series[-1])
    assert chain.next(np.array([*series, 1.0])) == 0.0


def test_exponential_smoothing_follows_a_jump_and_averages_noise() -> None:
    rng = np.random.default_rng(2)
    noise, walk = 5.0 + rng.standard_normal(300), np.cumsum(rng.standard_normal(300))
    smooth, fast = ExponentialSmoothing(), ExponentialSmoothing()
    for of_noise, of_walk in zip(noise[:-1], walk[:-1], strict=True):
        smooth.observe(of_noise)
        fast.observe(of_walk)
    assert smooth.next(noise[-1:]) == pytest.approx(5.0, abs=0.8)
    assert abs(fast.next(walk[-1:]) - walk[-1]) < 0.6


def test_keeping_alive_is_the_most_of_so_many_minutes() -> None:
    values = np.array([9.0] + [1.0] * 4 + [0.0])
    assert KeepAlive(5).next(values) == 1.0
    assert KeepAlive(10).next(values) == 9.0


def test_features_tell_series_apart() -> None:
    rng = np.random.default_rng(4)
    noises = rng.standard_normal((20, 120))  # a test at 5 % errs now and then
    walks = 50.0 + np.cumsum(noises, axis=1)
    assert sum(features(np.abs(noise)).stationary for noise in noises) >= 18
    assert sum(features(walk).stationary for walk in walks) <= 5
    bends = [0.3]
    for _ in range(119):
        bends.append(3.9 * bends[-1] * (1.0 - bends[-1]))  # the logistic map: chaos
    assert not features(np.array(bends)).linear
    assert features(10.0 + 0.1 * np.cumsum(rng.standard_normal(120))).linear
    assert features(1.0 + np.sin(2.0 * np.pi * np.arange(120) / 10.0)).harmonics >= 1
    assert features(np.full(120, 4.0)) == Features(2, True, True, 0)
    assert features(np.zeros(3)).density < -20


def test_rum_by_hand() -> None:
    # 1.5 at once on average takes two; one was foreseen: one starts, and half an instance is wasted.
    minute = Minute(1.5, 2, 7)
    assert rum_s(1, minute, 0.808, 2.0, 0.01) == pytest.approx(0.808 + 0.01 * 0.5 * 2.0 * 60.0)
    # Nobody is called in the minute: what is missing does not start.
    assert rum_s(0, Minute(0.4, 1, 0), 0.808, 2.0, 0.01) == 0.0
    assert rum_s(3, Minute(0.0, 0, 0), 0.808, 0.5, 0.01) == pytest.approx(0.01 * 3 * 0.5 * 60.0)
    assert instances(1e-9) == 0
    assert instances(1e-4) == 1


def test_the_forecaster_that_cost_least_after_such_blocks_is_chosen() -> None:
    here, there = Features(-3, True, True, 1), Features(2, False, True, 0)
    alike = Features(-3, False, False, 3)
    experience = Experience(3)
    assert experience.best(here) == 0
    for _ in range(LEAST_BLOCKS):
        experience.add(here, np.array([3.0, 1.0, 2.0]))
        experience.add(there, np.array([30.0, 20.0, 10.0]))
    assert experience.best(here) == 1
    assert experience.best(there) == 2
    assert experience.best(alike) == 1  # of its density
    assert experience.best(Features(7, True, True, 0)) == 2  # of all
