"""A policy sees only the past, training only what lies before the split, and both are repeatable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from warmscaler.data.generate import generate
from warmscaler.data.trace import Trace
from warmscaler.models.advised.policy import Advised
from warmscaler.models.learned.habits import Model
from warmscaler.models.learned.policy import Learned
from warmscaler.models.policy import Policy
from warmscaler.models.published.cidre import Cidre
from warmscaler.models.published.femux import FeMux
from warmscaler.models.published.greedy_dual import GreedyDual
from warmscaler.models.published.hybrid_histogram import HybridHistogram
from warmscaler.models.published.icebreaker import IceBreaker
from warmscaler.models.published.knative import Knative
from warmscaler.models.published.spes import Spes
from warmscaler.service.scheduler.scheduler import Scheduler
from warmscaler.simulator.replay import replay
from warmscaler.training.advising.search import find_advice
from warmscaler.training.evaluating.evaluate import train, window

CREATE_MS = 300.0


class Log(Scheduler):
    """Notes every action with its time."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self.lines: list[tuple[float, str]] = []

    def note(self, now_ms: float, actions: object) -> None:
        for action in actions:  # type: ignore[attr-defined]
            of = getattr(action, "request", None), action.instance.id
            self.lines.append((now_ms, f"{type(action).__name__} {of}"))


for _name in ("arrival", "idle", "wake", "slot_created", "instance_ready"):

    def _noted(
        self: Log, now_ms: float, *args: object, _name: str = _name, **more: object
    ) -> object:
        actions = getattr(Scheduler, _name)(self, now_ms, *args, **more)
        self.note(now_ms, actions)
        return actions

    setattr(Log, _name, _noted)


def decisions(trace: Trace, policy: Policy) -> list[tuple[float, str]]:
    logs: list[Log] = []

    def make(policy: Policy) -> Scheduler:
        logs.append(Log(policy))
        return logs[0]

    replay(trace, policy, create_ms=CREATE_MS, make_scheduler=make)
    return logs[0].lines


def other_future(trace: Trace, from_ms: float) -> Trace:
    """The same until then; afterwards other apps are called, at other times, for longer."""
    later = trace.arrival_ms >= from_ms
    rng = np.random.default_rng(1)
    count = int(later.sum())
    arrival_ms = trace.arrival_ms.copy()
    last_ms = int(trace.arrival_ms[-1])
    arrival_ms[later] = np.sort(rng.integers(int(from_ms) + 1, last_ms, count))
    app, duration_ms = trace.app.copy(), trace.duration_ms.copy()
    app[later] = rng.integers(0, len(trace.apps), count)
    duration_ms[later] = duration_ms[later] * 3 + 7
    return replace(trace, arrival_ms=arrival_ms, app=app, duration_ms=duration_ms)


@pytest.fixture(scope="module")
def population() -> Trace:
    return generate("azure", apps=10, days=0.25, requests=2_000, seed=11)


@pytest.fixture(scope="module")
def model(population: Trace) -> Model:
    return train(window(population, 0.5), create_ms=CREATE_MS, jobs=1)


def test_another_future_changes_no_earlier_decision(population: Trace, model: Model) -> None:
    advice = find_advice(window(population, 0.5).training, price=0.03, create_ms=CREATE_MS)
    policies: list[Callable[[], Policy]] = [
        lambda: Learned(model),
        lambda: Advised(advice),
        HybridHistogram,
        Knative,
        lambda: GreedyDual(4.0),
        lambda: Cidre(4.0),
        IceBreaker,
        FeMux,
        Spes,
    ]
    for make in policies:
        decided = decisions(population, make())
        for fraction in (0.3, 0.6, 0.9):
            from_ms = population.split_ms(fraction)
            changed = other_future(population, from_ms)
            before = [line for line in decided if line[0] < from_ms]
            after = [line for line in decisions(changed, make()) if line[0] < from_ms]
            assert before == after
            assert before  # else there is nothing to compare


def test_training_twice_or_for_another_future_is_the_same(population: Trace, model: Model) -> None:
    other = other_future(population, population.split_ms(0.5))
    again = train(replace(window(population, 0.5), trace=other), create_ms=CREATE_MS, jobs=1)
    assert again.settings() == model.settings()
    for name, array in again.arrays().items():
        assert np.array_equal(array, model.arrays()[name]), name
    once, twice = (decisions(population, Learned(each)) for each in (model, again))
    assert once == twice
