"""Advice: followed as it says, worth what it says, written in the words of platforms."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.conftest import InHere, in_here
from tests.traces import trace_of
from warmscaler.data.read import write_trace
from warmscaler.data.trace import Trace
from warmscaler.models.advised.file import AdviceError, as_row, read_advice
from warmscaler.models.advised.policy import HOUR_MS, Advice, Advised, AppAdvice, Clock
from warmscaler.models.objectives.limits import limits_of
from warmscaler.models.objectives.words import SAFE
from warmscaler.simulator.replay import CREATE_MS, replay
from warmscaler.training.advising import exports
from warmscaler.training.advising.hours import bounds_by_hour
from warmscaler.training.advising.report import AppReport, advise
from warmscaler.training.advising.safe import PRICES, safe_price
from warmscaler.training.advising.search import try_all
from warmscaler.training.evaluating.evaluate import measure, window
from warmscaler.training.evaluating.settings import Setting

__all__ = ["in_here"]
MINUTE_MS = 60_000
DAY_MS = 86_400_000
NEVER = AppAdvice(0.0)


@given(
    now=st.floats(0, 4e12),
    period=st.floats(1_000, 7 * DAY_MS),
    opens=st.floats(0, 1),
    length=st.floats(0.001, 1),
)
def test_a_clocks_window_is_open_or_the_next(
    now: float, period: float, opens: float, length: float
) -> None:
    clock = Clock(period, opens * period, length * period)
    begin, end = clock.window(now)
    slack = 1e-3 * period  # the times are floats
    assert end >= now - slack
    assert begin <= now + period + slack
    assert end - begin == pytest.approx(clock.open_ms, abs=slack)
    turn = (begin - clock.opens_ms) / period
    assert turn == pytest.approx(round(turn), abs=1e-2)


def test_a_timer_is_met_by_its_clock_and_holds_seconds_only() -> None:
    trace = trace_of([(k * 10 * MINUTE_MS + 7_000, 0, 200) for k in range(1, 40)])
    clock = Clock(10 * MINUTE_MS, 6_000.0, 2_000.0)
    result = replay(trace, Advised(Advice(AppAdvice(0.0, clock))))
    assert result.cold.tolist() == [True] + [False] * 38
    lived_ms = [slot.destroyed_ms - slot.created_ms for slot in result.slots]
    assert max(lived_ms) < 4_000
    assert replay(trace, Advised(Advice(NEVER))).cold.all()


def test_a_clock_that_a_window_reaches_keeps_the_instance() -> None:
    trace = trace_of([(k * MINUTE_MS, 0, 200) for k in range(1, 30)])
    clock = Clock(float(MINUTE_MS), 59_500.0, 1_000.0)
    result = replay(trace, Advised(Advice(AppAdvice(59_000.0, clock))))
    assert len(result.slots) == 1


def test_least_instances_are_there_through_their_hours() -> None:
    hours = [0] * 24
    hours[9] = hours[10] = 2
    # One call a day, at 8:30: nothing but the advice keeps instances at 9 and 10.
    trace = trace_of([(day * DAY_MS + 510 * MINUTE_MS, 0, 100) for day in range(5)])
    result = replay(trace, Advised(Advice(AppAdvice(0.0, None, tuple(hours)))))
    middle = [day * DAY_MS + 10 * HOUR_MS for day in range(4)]
    alive = [
        sum(slot.created_ms <= at and slot.destroyed_ms > at + HOUR_MS / 2 for slot in result.slots)
        for at in middle
    ]
    assert alive == [2] * 4
    least, most = bounds_by_hour(trace, result)["app-0"]
    assert (least[9], least[10], least[15]) == (2, 2, 0)
    assert (most[9], most[8]) == (2, 2)  # started just before nine


def fleet() -> Trace:
    """Ten hours of a timer, of a rare app with a short start, and of a busy one."""
    rng = np.random.default_rng(5)
    rows = [(k * 10 * MINUTE_MS + 42_000, 0, 300) for k in range(60)]
    rows += [(int(at), 1, 100) for at in np.cumsum(rng.exponential(20 * MINUTE_MS, 29))]
    rows += [(int(at), 2, 400) for at in np.cumsum(rng.exponential(30_000, 1_150))]
    return trace_of([(at, app, ran) for at, app, ran in rows], memory_mb=[1024, 2048, 256])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("advice")
    write_trace(fleet(), folder / "fleet.parquet")
    return folder / "fleet.parquet", folder / "advice.json"


def test_what_is_printed_is_what_the_replay_judges(
    files: tuple[Path, Path], in_here: InHere
) -> None:
    trace, target = files
    words = ["--price", "0.02", "--jobs", "1", "--gb-hour", "0.06"]
    first = ["--until", "0.5", "--format", "json", "--out", target]
    code, _, err = in_here("advise", trace, *words, *first)
    assert not code, err
    code, out, err = in_here("advise", trace, *words, "--format", "json")
    assert not code, err
    said = json.loads(out)
    policies = ["--policy", f"advice:{target}", "--policy", "fixed:300"]
    code, out, err = in_here("evaluate", trace, *policies, "--jobs", "1", "--json")
    assert not code, err
    ours, today = json.loads(out)["policies"]

    def cost_s(figures: dict[str, Any]) -> float:
        return float(figures["wait_s"] + 0.02 * figures["wasted_gb_s"])

    assert said["cost_ratio"] == pytest.approx(cost_s(ours) / cost_s(today))
    assert said["cost_ratio"] < 0.9
    saved_gb_h = (today["slot_gb_s"] - ours["slot_gb_s"]) / 3_600
    assert said["saving"]["gb_h"] == pytest.approx(saved_gb_h)
    assert said["saving"]["money"] == pytest.approx(saved_gb_h * 0.06)
    by_app = {row["app"]: row for row in said["apps"]}
    assert sum(row["saving"]["gb_h"] for row in by_app.values()) == pytest.approx(saved_gb_h)
    timer = by_app["app-0"]
    assert timer["prewarm"]["every_s"] == 600
    assert "called every 10 min" in timer["why"]
    assert timer["sure"] == "sure"
    assert by_app["app-1"]["keep_s"] < 300  # 2 GB for 20 minutes, or a second's wait


def test_unless_told_nobody_waits_longer_than_today(
    files: tuple[Path, Path], in_here: InHere
) -> None:
    trace, _ = files
    code, out, err = in_here("advise", trace, "--jobs", "1", "--format", "json")
    assert not code, err
    said = json.loads(out)
    assert said["saving"]["wait_s"] >= 0.0
    assert said["saving"]["gb_h"] > 0.0


@pytest.mark.parametrize("today", ["fixed:900", "fixed:1200"])
def test_the_safe_price_is_the_dearest_at_which_nobody_waits_longer(today: str) -> None:
    part = window(fleet(), 0.5)
    price = safe_price(part.trace, today=today, create_ms=CREATE_MS)

    def wait_s(price: float) -> float:
        own = Advised(try_all(part.training, create_ms=CREATE_MS).cheapest(price))
        return measure(part, Setting("advice"), CREATE_MS, own=own).figures.wait_s

    allowed_s = measure(part, Setting(today), CREATE_MS).figures.wait_s
    dearer = PRICES[PRICES.index(price) + 1]
    assert wait_s(price) <= allowed_s < wait_s(dearer)


def test_of_one_moment_the_safe_price_is_the_lowest() -> None:
    trace = trace_of([(0, 0, 5), (0, 0, 5)])
    assert safe_price(trace, today="fixed:300", create_ms=CREATE_MS) == PRICES[0]
    assert (PRICES[0], PRICES[-1]) == limits_of(SAFE)


@pytest.mark.parametrize(
    ("price", "says"),
    [
        ("1e-5", r"GB·h more, \d+ cold starts fewer and \d+ s of waiting less"),
        ("30", r"GB·h saved, [\d,]+ cold starts more and [\d,]+ s of waiting more"),
    ],
)
def test_what_is_saved_and_what_is_paid_for_it(
    price: str, says: str, files: tuple[Path, Path], in_here: InHere
) -> None:
    code, out, err = in_here("advise", files[0], "--price", price, "--jobs", "1")
    assert not code, err
    assert re.search(says, " ".join(out.split())), out


def test_the_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    least = tuple(range(24))
    apps = {
        "a": AppAdvice(1_500.0, Clock(6e5, 12_000.0, 2_500.0)),
        "b": AppAdvice(0.0, None, least),
    }
    document = {"advice_version": 1, "default": as_row(NEVER)}
    document["apps"] = [{"app": key} | as_row(own) for key, own in apps.items()]
    file = tmp_path / "advice.json"
    file.write_text(json.dumps(document))
    assert read_advice(file) == Advice(NEVER, apps)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", ":1: not JSON"),
        ("[]", "no advice of version 1"),
        ('{"advice_version": 1}', "KeyError: 'default'"),
        ('{"advice_version": 1, "default": {"keep_s": -1}, "apps": []}', "-1 s cannot be"),
        (
            '{"advice_version": 1, "default": {"keep_s": 1}, "apps": [{"app": "a"}]}',
            "app 1: KeyError",
        ),
        (
            '{"advice_version": 1, "default": {"keep_s": 1, "least_by_hour": [1]}, "apps": []}',
            "least_by_hour has 1 numbers, not 24",
        ),
        (
            '{"advice_version": 1, "default": {"keep_s": 1, "prewarm": {"every_s": 0}}, "apps": []}',
            "0 s cannot be",
        ),
    ],
)
def test_advice_that_cannot_be_is_one_line(
    tmp_path: Path, text: str, says: str, in_here: InHere
) -> None:
    file = tmp_path / "advice.json"
    file.write_text(text)
    with pytest.raises(AdviceError) as caught:
        read_advice(file)
    assert str(caught.value).startswith(str(file))
    assert says in str(caught.value)
    code, _, err = in_here("evaluate", "no-such.parquet", "--policy", f"advice:{file}")
    assert (code, err.count("\n")) == (2, 1)
    assert says in err


def a_report(advice: AppAdvice) -> AppReport:
    most: tuple[int | None, ...] = (*[3] * 23, None)
    return AppReport("orders", 9, 512, advice, (0,) * 24, most, None, "why", "sure")


def test_exports_say_it_in_the_words_of_platforms() -> None:
    least = (1,) * 9 + (2,) * 8 + (1,) * 7
    clocked = a_report(AppAdvice(90_000.0, Clock(5 * MINUTE_MS, 298_000.0, 4_000.0)))
    staffed = a_report(AppAdvice(7_200_000.0, None, least))
    annotations = exports.knative([staffed])["orders"]
    prefix = "autoscaling.knative.dev/"
    assert annotations[f"{prefix}min-scale"] == "1"
    assert annotations[f"{prefix}max-scale"] == "3"
    # Two hours in all, of which Knative takes an hour at most in each of the latter two.
    assert annotations[f"{prefix}window"] == "60s"
    assert annotations[f"{prefix}scale-down-delay"] == "3600s"
    assert annotations[f"{prefix}scale-to-zero-pod-retention-period"] == "3540s"
    assert exports.knative([clocked])["orders"][f"{prefix}scale-down-delay"] == "30s"
    spec = exports.keda([staffed])["orders"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"], spec["cooldownPeriod"]) == (
        1,
        3,
        7_200,
    )
    assert [each["metadata"] for each in spec["triggers"]] == [
        {"timezone": "UTC", "start": "0 9 * * *", "end": "0 17 * * *", "desiredReplicas": "2"}
    ]
    (trigger,) = exports.keda([clocked])["orders"]["triggers"]
    # From 4:58 on for 4 s of every five minutes: the minute before to the minute after.
    assert trigger["metadata"]["start"] == "3-59/5 * * * *"
    assert trigger["metadata"]["end"] == "1-59/5 * * * *"
    actions = exports.aws([staffed])
    assert [
        (each["Schedule"], each["ScalableTargetAction"]["MinCapacity"]) for each in actions
    ] == [
        ("cron(0 9 * * ? *)", 2),
        ("cron(0 17 * * ? *)", 1),
    ]
    assert exports.aws([a_report(NEVER)]) == []


@pytest.mark.parametrize(
    ("period_min", "at_min", "start"),
    [
        (60, 17, "16 0-23/1 * * *"),
        (360, 3 * 60 + 5, "4 3-23/6 * * *"),
        (1_440, 9 * 60, "59 8 * * *"),
        (10_080, 24 * 60 + 30, "29 0 * * 5"),  # a day after a Thursday
    ],
)
def test_clocks_as_cron(period_min: int, at_min: int, start: str) -> None:
    clock = Clock(period_min * 60_000.0, at_min * 60_000.0, 1_000.0)
    (trigger,) = exports.keda([a_report(AppAdvice(0.0, clock))])["orders"]["triggers"]
    assert trigger["metadata"]["start"] == start


def test_a_table_and_csv(files: tuple[Path, Path], in_here: InHere) -> None:
    trace, _ = files
    code, out, err = in_here("advise", trace, "--price", "0.02", "--jobs", "1", "--format", "csv")
    assert not code, err
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {row["app"] for row in rows} == {"app-0", "app-1", "app-2"}
    assert all(row["why"] and row["sure"] for row in rows)
    for words, says in (
        (["--today", "nosuch"], "--today: there is no policy 'nosuch'"),
        (["--price", "0"], "--price 0: it must be from 1e-06"),
        (["--until", "2"], "--until 2: it must lie"),
        (["--out", "no/such/file"], "there is no folder"),
    ):
        code, _, err = in_here("advise", trace, "--price", "1", *words)
        assert code == 2
        assert says in err


def test_a_rare_app_that_is_called_a_lot_later_is_not_left_without_a_window() -> None:
    rare = [(k * 30 * MINUTE_MS, 0, 100) for k in range(20)]
    trace = trace_of(rare, memory_mb=[1024])
    report = advise(trace, price_of=lambda *_: 0.02, create_ms=300)
    # A start of 1 s is worth 50 s of this GB: at least a twentieth of it.
    assert 2_500.0 <= report.advice.apps["app-0"].keep_ms < 30_000.0


def test_advice_of_a_trace_of_hardly_anything() -> None:
    trace = trace_of([(0, 0, 5), (1_000, 0, 5), (2_000, 0, 5)])
    report = advise(trace, price_of=lambda *_: 0.01, create_ms=300)
    assert report.apps[0].sure == "a guess"
    assert report.hours > 0.0
