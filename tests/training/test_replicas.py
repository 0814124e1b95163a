"""Ours judged at replica level: planner and judge agree, nothing later is seen, what cannot be is said."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import InHere, in_here
from tests.traces import trace_of
from warmscaler.cli.errors import UserError
from warmscaler.cli.following import forecast_of
from warmscaler.data.read import write_trace
from warmscaler.data.trace import Trace
from warmscaler.replicas.experts import LEARNED, NAMES
from warmscaler.replicas.forecast import Forecast, ForecastError
from warmscaler.replicas.levels import LOOK_S
from warmscaler.replicas.planner import ReplicaPlanner
from warmscaler.replicas.spec import AppSpec
from warmscaler.simulator.replicas.rules import bases, grid
from warmscaler.training.replicas import judge as judging
from warmscaler.training.replicas import statistical
from warmscaler.training.replicas.baselines import clairvoyant, seasonal
from warmscaler.training.replicas.fit import chances_of, fit, row_starts
from warmscaler.training.replicas.judge import as_json, judge
from warmscaler.training.replicas.load import Load, by_look, load_of
from warmscaler.training.replicas.ours import _Walk

__all__ = ["in_here"]
HOUR_MS = 3_600_000


def bursts_and_some(hours: int) -> Trace:
    """One app in bursts every ten minutes, one at random."""
    rng = np.random.default_rng(2)
    bursts = [
        (at + int(rng.integers(0, 20_000)), 0, 8_000)
        for at in range(0, hours * HOUR_MS, 600_000)
        for _ in range(3)
    ]
    some = [(int(at), 1, 20_000) for at in rng.uniform(0, hours * HOUR_MS, 50 * hours)]
    return trace_of(bursts + some, memory_mb=(8_192, 2_048), init_ms=20_000)


@pytest.fixture(scope="module")
def trace() -> Trace:
    return bursts_and_some(hours=2)


@pytest.fixture(autouse=True)
def _coarse_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the reactive rules to beat every seventh: without numba each takes a good part of a second."""
    monkeypatch.setattr(judging, "grid", lambda: grid()[::7])


@pytest.fixture(scope="module")
def load(trace: Trace) -> Load:
    return load_of(trace, 0.5, places=1, create_ms=300.0, reaction_s=2.0)


@pytest.fixture(scope="module")
def forecast(load: Load) -> Forecast:
    found = fit(load, load.split_look)
    assert found is not None
    return found


def test_peaks_and_means_by_hand() -> None:
    # One from 5 to 20 s and one from 10 to 12 s: two at once in the first look, one in the second.
    peak, mean = by_look(np.array([5.0, 10.0]), np.array([15.0, 2.0]), 0.0, 4)
    assert peak.tolist() == [0, 2, 1, 0]
    assert np.allclose(mean, [0, 12 / 15, 5 / 15, 0])


def test_a_planner_fed_look_by_look_does_what_was_judged(load: Load, forecast: Forecast) -> None:
    app = replace(load.apps[1], spec=replace(load.apps[1].spec, price=0.003))
    alone = load_of(
        trace_of([(0, 0, 1)]), 0.5, places=1, create_ms=300.0, reaction_s=2.0
    )  # only its frame is used
    fleet = np.ones(load.looks)
    from warmscaler.replicas.fleet import levels_of

    levels_of(app.needed, fleet)
    own = replace(alone, apps=(app,), from_s=load.from_s, looks=load.looks, fleet=fleet)
    starts = row_starts(app, own.first, own.looks)
    starts, chances = chances_of(own, app, forecast, starts, 0, own.looks)
    floors, _, upper, _ = _Walk(app).go(own, 0, own.looks, starts, chances)

    planner = ReplicaPlanner(app.spec, forecast=forecast)
    for look in range(own.looks):
        now_s = own.from_s + look * LOOK_S
        planner.observe(now_s, app.needed[look], mean=app.mean[look])
        wanted = planner.wanted(now_s)
        assert wanted.replicas == max(floors[look], app.needed[look]), look
        assert wanted.quantiles[1][1] >= np.ceil(upper[look] - 1.0)


def test_what_comes_later_changes_no_floor_before(trace: Trace) -> None:
    from warmscaler.simulator.replicas.rules import Knative
    from warmscaler.training.replicas.ours import floors_at, learn

    cut_ms = trace.split_ms(0.8)
    rows = np.flatnonzero(trace.arrival_ms < cut_ms)
    other = Trace(
        trace.name,
        trace.apps,
        np.concatenate((trace.arrival_ms[rows], [trace.arrival_ms[-1]])),
        np.concatenate((trace.app[rows], [1])),
        np.concatenate((trace.duration_ms[rows], [trace.duration_ms[-1]])),
        np.concatenate((trace.status_code[rows], [200])),
    )
    seen = []
    for each in (trace, other):
        load = load_of(each, 0.5, places=1, create_ms=300.0, reaction_s=2.0)
        floors = floors_at(load, learn(load), 0.003, [Knative()])
        look = int((cut_ms / 1_000.0 - load.from_s) / LOOK_S)
        seen.append([floor[:look].tolist() for floor in floors.floors])
    assert seen[0] == seen[1]


def test_it_learns_bursts_that_recur(trace: Trace) -> None:
    found = judge(trace, [0.001, 0.01])
    for judged in found.judged:
        assert judged.ratio < 1.0
        assert judged.ours.wait_s < judged.rows[1].wait_s  # Knative's as it comes
        clair = judged.rows[-1]
        assert clair.wait_s == 0.0
        assert clair.waste_gb_s <= min(row.waste_gb_s for row in judged.rows[:-1])
    assert found.judged[0].ours.wait_s <= found.judged[1].ours.wait_s
    assert found.judged[0].ours.waste_gb_s >= found.judged[1].ours.waste_gb_s
    told = as_json(found)
    assert json.loads(json.dumps(told)) == told
    assert [each["price"] for each in told["prices"]] == [0.001, 0.01]


def test_references_by_hand() -> None:
    trace = trace_of(
        [(0, 0, 10_000), (30_000, 0, 10_000), (200_000, 0, 10_000)], memory_mb=(1024,), init_ms=700
    )
    load = load_of(trace, 0.1, places=1, create_ms=300.0, reaction_s=2.0)  # from 20 s on
    found = clairvoyant(load)
    # Before each of the two a start of 1 s; held for them and in use.
    assert np.isclose(found.waste_gb_s.sum(), 2.0)
    assert np.isclose(found.held_s.sum(), 22.0)
    day = np.zeros(6_000)
    day[10] = 3.0
    shifted = seasonal(replace(load.apps[0], needed=day))
    assert shifted[5_769] == 3.0
    assert shifted[5_772] == 0.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("num_leaves", "num_leafs", 1), "altered"),
        (lambda text: text[:-20], "altered"),
        (lambda text: "tree\n" + text, "no model"),
        (lambda _: "", "no model"),
    ],
)
def test_a_model_that_was_altered_is_refused(forecast: Forecast, change: object, said: str) -> None:
    assert callable(change)
    text = forecast.as_text()
    assert Forecast(text).as_text() == text
    with pytest.raises(ForecastError, match=said):
        Forecast(change(text))


def test_a_planner_begins_with_what_each_forecaster_cost(forecast: Forecast) -> None:
    costs = np.full(len(NAMES), 9.0)
    costs[3] = 0.0
    dearer = np.full(len(NAMES), 9.0)
    dearer[LEARNED] = 0.0
    judged = Forecast(forecast.judged({0.001: costs, 0.1: dearer}).as_text())
    assert judged.costs_at(1e-6).tolist() == costs.tolist()
    assert np.allclose(judged.costs_at(0.01), (costs + dearer) / 2)  # halfway by its logarithm
    assert forecast.costs_at(0.01) is None

    def followed(price: float, *, remembers: bool) -> str:
        planner = ReplicaPlanner(AppSpec("app", 10.0, 1024, price=price), forecast=judged)
        if remembers:
            planner.remember([LOOK_S * n for n in range(40)], [1.0] * 40)
        planner.observe(LOOK_S * 40, 1.0)
        return planner.wanted(LOOK_S * 40).forecaster

    for remembers in (False, True):
        assert followed(0.001, remembers=remembers) == NAMES[3]
        assert followed(0.1, remembers=remembers) == NAMES[LEARNED]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"forecasters": ["oracle"], "misses": []}', "other forecasters"),
        ('{"forecasters": ["oracle"], "misses": [[0.1, [NaN]]]}', "cannot be read"),
        ('{"forecasters": ["oracle"], "misses": [[0.1, []]]}', "cannot be read"),
        ('{"forecasters": ["oracle"], "misses": [[0, [1.0]]]}', "cannot be read"),
        ("[]", "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_costs_that_cannot_be_are_refused(forecast: Forecast, line: str, said: str) -> None:
    body = line + "\n" + forecast.as_text().split("\n", 2)[2]
    digest = sha256(body.encode()).hexdigest()
    with pytest.raises(ForecastError, match=said):
        Forecast(f"warmscaler replicas 2 sha256:{digest}\n{body}")
    with pytest.raises(ForecastError, match="another version"):
        Forecast(f"warmscaler replicas 1 sha256:{digest}\n{body}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--on", "borg"), "--on borg: it must be one of knative, keda"),
        (("--container-concurrency", "0"), "--container-concurrency 0"),
        (("--gpu-gb", "0"), "--gpu-gb 0"),
        (("--save-forecast", "x.bin"), "--save-forecast x.bin"),
        (("--policy", "fixed:60"), "--replicas has rules of its own"),
        (("--baseline", "fixed:60"), "--replicas has rules of its own"),
        (("--objective", "safe"), "--replicas has rules of its own"),
        (("--gb-hour", "1", "--second-waited", "1"), "--replicas has rules of its own"),
        (("--price", "0"), "--price 0"),
        (("--report", "x.html"), "--replicas gives figures only"),
    ],
)
def test_options_that_cannot_be(
    in_here: InHere,
    trace: Trace,
    tmp_path_factory: pytest.TempPathFactory,
    words: object,
    said: str,
) -> None:
    file = tmp_path_factory.mktemp("trace") / "trace.parquet"
    write_trace(trace, file)
    assert isinstance(words, tuple)
    code, _, err = in_here("evaluate", file, "--replicas", *words)
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1


def test_a_trace_of_decades_is_refused_before_it_is_looked_at(
    in_here: InHere, tmp_path: Path
) -> None:
    (tmp_path / "metas").write_text(
        '{"key":"a","runtime":"go","memoryInMb":128,"timeoutInSecs":60,"initDurationInMs":100}\n'
    )
    request = '{"startTime":%d,"metaKey":"a","durationsInMs":10,"statusCode":200}\n'
    (tmp_path / "requests").write_text(request % 0 + request % 1_795_762_800_000)
    code, _, err = in_here("evaluate", tmp_path, "--replicas")
    assert (code, "it spans 20,784 days" in err) == (2, True)
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "words",
    [("--on", "keda"), ("--gpu-gb", "4"), ("--save-forecast", "x.txt"), ("--statsforecast",)],
)
def test_options_of_replicas_alone(in_here: InHere, tmp_path: Path, words: tuple[str, ...]) -> None:
    code, _, err = in_here("evaluate", tmp_path / "no trace", *words)
    assert code == 2
    assert "--replicas" in err
    assert len(err.strip().splitlines()) == 1


def test_it_is_told_as_json(
    in_here: InHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "bases", lambda rule: bases(rule)[:2])
    file = tmp_path / "trace.parquet"
    write_trace(bursts_and_some(hours=1), file)
    saved = file.with_name("forecast.txt")
    told_to = ("--price", "0.01", "--on", "keda", "--json", "--save-forecast", saved)
    besides = ("--statsforecast",) if statistical.IS_INSTALLED else ()
    code, told, _ = in_here("evaluate", file, "--replicas", *told_to, *besides)
    assert code in (0, None)
    (at,) = json.loads(told)["prices"]
    shown = [row for row in at["rows"] if row["label"].startswith("statsforecast")]
    assert len(shown) == len(besides)
    for row in shown:  # the cheapest of them, in hindsight
        cheapest = min(at["statsforecast"], key=lambda each: each["cost_s"])
        assert row == cheapest | {"label": f"{cheapest['label']} (in hindsight)"}
        assert np.isclose(at["statsforecast_ratio"], at["rows"][0]["cost_s"] / row["cost_s"])
    assert at["rows"][0]["label"].startswith("ours on keda")
    found = forecast_of(saved)
    assert found is not None
    assert found.costs_at(0.01) is not None
    saved.write_text(saved.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    with pytest.raises(UserError, match="altered"):
        forecast_of(saved)
    assert 0.5 < at["coverage"] <= 1.0
    assert at["rows"][0]["gpu_hours"] < at["rows"][0]["replica_hours"]
