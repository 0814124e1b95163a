"""What is written of a Revision, over whatever it says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.knative.schemas import Refused, check
from tests.knative.stand_in import merged
from tests.knative.test_floors import MIN_SCALE, OWNER, revision
from warmscaler.service.knative.revisions import change, patch, read

ALIAS = "autoscaling.knative.dev/minScale"
SCALES = st.none() | st.integers(0, 20).map(str)


@st.composite
def revisions(draw: st.DrawFn) -> dict[str, Any]:
    names = ("min_scale", "minScale", "max_scale", "activation_scale", "target", "metric")
    annotations = {name: text for name in names if (text := draw(SCALES)) is not None}
    made = revision(
        "shop", state=draw(st.sampled_from(("active", "reserve", "pending"))), **annotations
    )
    made["metadata"]["resourceVersion"] = "7"
    owners = draw(st.lists(st.sampled_from((OWNER, "kubectl")), max_size=2, unique=True))
    fields: dict[str, Any] = {"f:metadata": {"f:annotations": {f"f:{MIN_SCALE}": {}}}}
    made["metadata"]["managedFields"] = [
        {"manager": owner, "operation": "Update", "fieldsV1": fields} for owner in owners
    ]
    return made


@given(revisions(), st.none() | st.integers(0, 50))
def test_what_is_written_is_taken_and_only_ours(made: dict[str, Any], wanted: int | None) -> None:
    try:
        check("revisions", made, None)
    except Refused:
        return  # no such Revision can be
    seen = read(made)
    target = change(seen, wanted)
    annotations = made["metadata"]["annotations"]
    if not seen.ours and {MIN_SCALE, ALIAS} & annotations.keys():
        assert target is None
    if target is None:
        return
    after = merged(made, patch(seen, target))
    check("revisions", after, made)
    assert after["spec"] == made["spec"]
    floor = after["metadata"]["annotations"].get(MIN_SCALE)
    assert floor == (target or None) != made["metadata"]["annotations"].get(MIN_SCALE)
    assert int(floor or 0) <= (wanted or 0)
    assert floor is None or seen.active
    again = read(after | {"metadata": {**after["metadata"], "managedFields": _mine()}})
    assert change(again, wanted) is None  # once is enough


def _mine() -> list[dict[str, Any]]:
    fields: dict[str, Any] = {"f:metadata": {"f:annotations": {f"f:{MIN_SCALE}": {}}}}
    return [{"manager": OWNER, "fieldsV1": fields}]


@pytest.mark.parametrize(
    ("memory", "told"),
    [
        ("512Mi", "512"),
        ("1Gi", "1024"),
        ("1G", "954"),
        ("1048576", "1"),
        ("much", None),
        ("", None),
    ],
)
def test_memory_is_that_of_its_pods(memory: str, told: str | None) -> None:
    made = revision("shop")
    made["spec"]["containers"][0]["resources"] = {"limits": {"memory": memory}}
    assert read(made).told.get("memoryMb") == told


@pytest.mark.parametrize(
    ("limit", "annotations", "told"),
    [
        (4, {}, "4"),
        (0, {}, "100"),
        (0, {"target": "10.5"}, "10"),
        (4, {"target": "10"}, "4"),  # more than it takes at once
        (4, {"target": "0.5"}, "1"),
        (0, {"target": "1e2"}, "100"),
        (4, {"target": "many"}, "4"),
        (4, {"target": "2", "metric": "rps"}, "4"),
    ],
)
def test_requests_at_once_are_what_knative_scales_by(
    limit: int, annotations: dict[str, str], told: str
) -> None:
    made = revision("shop", **annotations)
    made["spec"]["containerConcurrency"] = limit
    assert read(made).told["containerConcurrency"] == told


def test_annotations_of_ours_tell_more() -> None:
    made = revision("shop")
    made["metadata"]["annotations"] |= {"scaler/startSeconds": "40", "scaler/price": "0.1"}
    told = read(made).told
    assert (told["startSeconds"], told["price"]) == ("40", "0.1")
