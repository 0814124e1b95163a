"""What a planner holds whatever comes: bounds, in use, the same answer for the same past."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warmscaler.replicas.bounds import Bounds
from warmscaler.replicas.levels import LOOK_S
from warmscaler.replicas.overrides import Override
from warmscaler.replicas.planner import ReplicaPlanner, Wanted
from warmscaler.replicas.spec import AppSpec, SpecError

START = 1_795_762_800.0
looks = st.lists(st.integers(0, 40), min_size=1, max_size=60)
specs = st.builds(
    AppSpec,
    app=st.just("app"),
    start_s=st.sampled_from([0.0, 5.0, 40.0, 300.0]),
    memory_mb=st.just(1024),
    price=st.sampled_from([1e-4, 1e-2, 1.0]),
    container_concurrency=st.integers(1, 4),
    least=st.integers(0, 3),
    most=st.integers(3, 50),
    cool_down_s=st.sampled_from([0.0, 30.0, 300.0]),
    step_up=st.one_of(st.none(), st.integers(1, 5)),
    step_down=st.one_of(st.none(), st.integers(1, 5)),
)


def run(spec: AppSpec, seen: list[int], asked: int = 1) -> list[Wanted]:
    planner = ReplicaPlanner(spec, overrides=[Override("app", START + 200, START + 300, 2)])
    answers = []
    for look, concurrency in enumerate(seen):
        now_s = START + look * LOOK_S
        planner.observe(now_s, float(concurrency))
        for _ in range(asked):
            wanted = planner.wanted(now_s)
        answers.append(wanted)
    return answers


@settings(deadline=None)
@given(specs, looks)
def test_bounds_hold_and_nothing_in_use_is_let_go(spec: AppSpec, seen: list[int]) -> None:
    before = None
    for concurrency, wanted in zip(seen, run(spec, seen), strict=True):
        in_use = spec.replicas_for(concurrency)
        assert spec.least <= wanted.replicas <= spec.most
        assert wanted.replicas >= min(in_use, spec.most)
        values = [value for _, value in wanted.quantiles]
        assert values == sorted(values)
        if before is not None:
            if spec.step_down is not None:
                assert wanted.replicas >= before - spec.step_down
            if spec.step_up is not None:
                most = max(before + spec.step_up, in_use, spec.least, 2)
                assert wanted.replicas <= most
        before = wanted.replicas


@settings(deadline=None)
@given(specs, looks)
def test_the_same_past_gives_the_same_answer_however_often_asked(
    spec: AppSpec, seen: list[int]
) -> None:
    assert run(spec, seen) == run(spec, seen, asked=3)


def test_before_anything_is_seen_the_least_is_wanted() -> None:
    spec = AppSpec("app", start_s=30, memory_mb=512, price=0.01, least=2)
    assert ReplicaPlanner(spec).wanted(START).replicas == 2


def test_cool_down_keeps_what_was_wanted_and_then_lets_go() -> None:
    spec = AppSpec("app", start_s=0, memory_mb=512, price=1e6, cool_down_s=60)
    replicas = [each.replicas for each in run(spec, [5, 0, 0, 0, 0, 0, 0])]
    assert replicas[:5] == [5] * 5
    assert replicas[-1] == 0


@given(st.lists(st.floats(0.0, 0.9), min_size=12, max_size=12))
def test_each_look_has_its_step_though_none_comes_at_its_time(late_s: list[float]) -> None:
    bounds = Bounds(AppSpec("app", 30, 512, 0.01, step_down=2), LOOK_S)
    wanted = [
        bounds.apply(START + n * LOOK_S + late, 0 if n else 20, 0)[0]
        for n, late in enumerate(late_s)
    ]
    assert wanted == [max(20 - 2 * n, 0) for n in range(12)]


@pytest.mark.parametrize("objective", [0.5, 0.9, 0.99])
def test_an_objective_is_met_without_a_learned_forecast(objective: float) -> None:
    spec = AppSpec("app", start_s=30, memory_mb=512, price=0.01, objective=objective)
    seen = np.random.default_rng(7).poisson(5.0, 1_500)
    floors = [wanted.replicas for wanted in run(spec, seen.tolist())]
    enough = np.mean(np.array(floors[500:-2]) >= seen[502:])
    assert objective - 0.01 <= enough
    if objective <= 0.9:  # and no surer than it was asked for, as the default price makes it
        surest = run(AppSpec("app", start_s=30, memory_mb=512, price=0.01), seen.tolist())
        assert np.mean(floors) < 0.9 * np.mean([wanted.replicas for wanted in surest])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("start_s", -1.0),
        ("memory_mb", float("nan")),
        ("price", 0.0),
        ("container_concurrency", 0),
        ("container_concurrency", 1.5),
        ("least", 2_000),
        ("most", "many"),
        ("objective", 1.0),
        ("app", ""),
    ],
)
def test_a_field_that_cannot_be_is_named(field: str, value: object) -> None:
    given_ = {"app": "app", "start_s": 30.0, "memory_mb": 512, "price": 0.01} | {field: value}
    with pytest.raises(SpecError) as caught:
        AppSpec(**given_)  # type: ignore[arg-type]
    assert caught.value.field == field
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("concurrency", [-1.0, float("nan"), float("inf")])
def test_no_observation_that_is_no_number(concurrency: float) -> None:
    planner = ReplicaPlanner(AppSpec("app", start_s=30, memory_mb=512, price=0.01))
    with pytest.raises(ValueError, match="concurrency"):
        planner.observe(START, concurrency)


@settings(max_examples=20, deadline=None)
@given(specs, st.lists(st.none() | st.integers(0, 40), min_size=1, max_size=60))
def test_remembering_is_observing_each(spec: AppSpec, past: list[int | None]) -> None:
    seen = [(START + n * LOOK_S, float(v)) for n, v in enumerate(past) if v is not None]
    at_once, each = ReplicaPlanner(spec), ReplicaPlanner(spec)
    at_once.remember(*zip(*seen, strict=True)) if seen else at_once.remember((), ())
    for now_s, value in seen:
        each.observe(now_s, value)
    for n in range(5):
        now_s = START + (len(past) + n) * LOOK_S
        assert at_once.wanted(now_s) == each.wanted(now_s)
        for planner in (at_once, each):
            planner.observe(now_s, 3.0)


def test_the_past_comes_first() -> None:
    planner = ReplicaPlanner(AppSpec("app", 1.0, 512, 0.01))
    for times, values in (((2.0, 1.0), (1.0, 1.0)), ((1.0,), (-1.0,)), ((1.0,), (float("nan"),))):
        with pytest.raises(ValueError, match="times must rise"):
            planner.remember(times, values)
    planner.observe(START, 1.0)
    with pytest.raises(ValueError, match="observed already"):
        planner.remember((START,), (1.0,))
