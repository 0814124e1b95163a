"""What is written in the words of platforms is what those platforms take.

KEDA: the schema of ScaledObject's spec in kedacore/keda, config/crd/bases (v1alpha1), as far as we write
it, and what its cron scaler refuses (pkg/scalers/cron_scaler.go). Knative: what knative/serving refuses of
the autoscaling annotations (pkg/apis/autoscaling). Both as of August 2026, and written anew.
"""

from __future__ import annotations

import re
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmscaler.models.advised.policy import AppAdvice, Clock
from warmscaler.training.advising import exports
from warmscaler.training.advising.clocks import PERIODS_S, WIDEST
from warmscaler.training.advising.report import AppReport

INT32 = {"type": "integer", "maximum": 2**31 - 1}
SCALED_OBJECT_SPEC = {
    "type": "object",
    "required": ["scaleTargetRef", "triggers"],
    "additionalProperties": False,
    "properties": {
        "scaleTargetRef": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string", "minLength": 1}},
        },
        "cooldownPeriod": INT32 | {"minimum": 0},
        "minReplicaCount": INT32 | {"minimum": 0},
        "maxReplicaCount": INT32 | {"minimum": 1},
        "triggers": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["metadata", "type"],
                "additionalProperties": False,
                "properties": {
                    "type": {"type": "string", "minLength": 1},
                    "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            },
        },
    },
}
OWN_TRIGGER = {"type": "prometheus", "metadata": {"query": "up", "threshold": "1"}}
CRON = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
"""What each of cron's five fields may be."""
KNATIVE = "autoscaling.knative.dev/"
MOST_S = 3_600

clocks = st.builds(
    lambda period_s, opens, length: Clock(
        period_s * 1_000.0, opens * period_s * 1_000.0, length * WIDEST * period_s * 1_000.0
    ),
    st.sampled_from(PERIODS_S),
    st.floats(0.0, 0.999999),
    st.floats(0.001, 1.0),
)
leasts = st.just(()) | st.lists(st.integers(0, 5), min_size=24, max_size=24).map(tuple)
mosts = st.lists(st.none() | st.integers(0, 9), min_size=24, max_size=24).map(tuple)


def report(advice: AppAdvice, most: tuple[int | None, ...]) -> AppReport:
    return AppReport("orders", 9, 512, advice, (0,) * 24, most, None, "why", "sure")


reports = st.builds(
    report,
    st.builds(AppAdvice, st.floats(0.0, 12.0 * 3.6e6), st.none() | clocks, leasts),
    mosts,
)


def check_cron(text: str) -> None:
    fields = text.split(" ")
    assert len(fields) == 5, text
    for field, (low, high) in zip(fields, CRON, strict=True):
        if field == "*":
            continue
        told = re.fullmatch(r"(\d+)(?:-(\d+)/([1-9]\d*))?", field)
        assert told is not None, text
        first, last = int(told[1]), int(told[2] or told[1])
        assert low <= first <= last <= high, text


@given(app=reports)
def test_keda_takes_it(app: AppReport) -> None:
    spec: dict[str, Any] = dict(exports.keda([app])["orders"])
    spec["triggers"] = [OWN_TRIGGER, *spec["triggers"]]
    jsonschema.validate(spec | {"scaleTargetRef": {"name": "orders"}}, SCALED_OBJECT_SPEC)
    assert spec["minReplicaCount"] <= spec["maxReplicaCount"]
    for trigger in spec["triggers"][1:]:
        assert trigger["type"] == "cron"
        told = trigger["metadata"]
        assert told.keys() == {"timezone", "start", "end", "desiredReplicas"}
        check_cron(told["start"])
        check_cron(told["end"])
        assert told["start"] != told["end"]
        assert int(told["desiredReplicas"]) > 0


@given(app=reports)
def test_knative_takes_it_and_keeps_as_long(app: AppReport) -> None:
    told = {
        name.removeprefix(KNATIVE): value
        for name, value in exports.knative([app])["orders"].items()
    }
    least, most = int(told.pop("min-scale")), int(told.pop("max-scale"))
    assert 0 <= least <= most
    seconds = {name: int(value.removesuffix("s")) for name, value in told.items()}
    assert seconds.keys() <= {
        "window",
        "scale-down-delay",
        "scale-to-zero-pod-retention-period",
    }
    assert 6 <= seconds["window"] <= MOST_S
    assert all(0 <= each <= MOST_S for each in seconds.values())
    wanted_s = app.advice.keep_ms / 1_000.0
    if 6.0 <= wanted_s <= 60.0 + 2.0 * MOST_S:
        assert sum(seconds.values()) == pytest.approx(wanted_s, abs=1.0)


@given(app=reports)
def test_aws_counts_days_and_concurrency_as_it_wants_them(app: AppReport) -> None:
    for action in exports.aws([app]):
        told = re.fullmatch(r"cron\((.+)\)", action["Schedule"])
        assert told is not None
        minute, hour, day, month, weekday, year = told[1].split(" ")
        check_cron(f"{minute} {hour} * {month} *")
        assert year == "*"
        # One of the two days must be a question mark; Sunday is 1.
        assert (day, weekday) in [("*", "?"), *(("?", str(each)) for each in range(1, 8))]
        target = action["ScalableTargetAction"]
        assert 0 <= target["MinCapacity"] <= target["MaxCapacity"]


@pytest.mark.parametrize("key", ["guest/demo/hello", " a:b|c", "x" * 999, "orders\t"])
def test_aws_takes_the_names_of_its_actions(key: str) -> None:
    every_day = Clock(86_400_000.0, 3_600_000.0, 60_000.0)
    app = AppReport(key, 9, 512, AppAdvice(0.0, every_day), (0,) * 24, (), None, "why", "sure")
    actions = exports.aws([app])
    assert len({each["ScheduledActionName"] for each in actions}) == len(actions) == 2
    for each in actions:
        # The pattern of PutScheduledAction's ScheduledActionName.
        refused = r"(^ +.*)|(.*([\x00-\x1f]|[\x7f-\x9f]|[:/|])+.*)|(.*[ ]+$)"
        assert re.fullmatch(refused, each["ScheduledActionName"]) is None
        assert len(each["ScheduledActionName"]) <= 256


def test_what_a_platform_refuses_would_be_seen() -> None:
    spec = {"triggers": [OWN_TRIGGER], "scaleTargetRef": {"name": "orders"}, "cooldownPeriod": -1}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(spec, SCALED_OBJECT_SPEC)
    for text in ("60 0 * * *", "* 1-24/2 * * *", "0 0 * *", "0 0 * * 7"):
        with pytest.raises(AssertionError):
            check_cron(text)
