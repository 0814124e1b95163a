"""What a Revision says, what its floor may be, and what is to be written: without I/O.

Knative's autoscaler scales from `min-scale` of the Revision on: the reconciler hands a Revision's
autoscaling annotations to its PodAutoscaler, in both directions of a change. Its webhook refuses a
`min-scale` above `max-scale`, or above `activation-scale`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

GROUP, VERSION, KIND, PLURAL = "serving.knative.dev", "v1", "Revision", "revisions"
SCALING = "autoscaling.knative.dev/"
MIN_SCALE = SCALING + "min-scale"
OWNER = "warmscaler"
"""The field manager of what we write, and of nothing else."""
OURS = "scaler/"
"""Annotations that begin so tell of an app what a trigger of KEDA's does: `scaler/startSeconds`."""
ROUTING_STATE = GROUP + "/routingState"
UNLIMITED = 100
"""Requests at once that Knative takes for a container whose concurrency has no limit."""
_SIZES = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
_SIZES |= {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "": 1.0}


@dataclass(frozen=True, slots=True)
class Revision:
    """One, as it was last seen."""

    namespace: str
    name: str
    version: str
    """Its resourceVersion: what is written holds for no other."""
    min_scale: str | None
    """What stands there, whoever wrote it."""
    ours: bool
    """Whether we wrote that, and nobody since."""
    most: int | None
    """What Knative allows `min-scale` to be; None for anything."""
    active: bool
    """Whether requests are routed to it."""
    told: Mapping[str, str] = field(default_factory=dict)
    """What a trigger of KEDA's would say: from its own annotations, and from its spec."""

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name


def read(found: Mapping[str, Any]) -> Revision:
    """A Revision of the API's. Raises KeyError where it has no name."""
    meta = found["metadata"]
    annotations: Mapping[str, str] = meta.get("annotations") or {}
    labels = meta.get("labels") or {}
    told = _of_spec(found.get("spec") or {}, annotations)
    told |= {
        name.removeprefix(OURS): text for name, text in annotations.items() if name.startswith(OURS)
    }
    return Revision(
        namespace=meta["namespace"],
        name=meta["name"],
        version=meta.get("resourceVersion", ""),
        min_scale=annotations.get(MIN_SCALE, annotations.get(SCALING + "minScale")),
        ours=MIN_SCALE in annotations and _ours(meta.get("managedFields") or ()),
        most=_most(annotations),
        active=labels.get(ROUTING_STATE) == "active" and "deletionTimestamp" not in meta,
        told=told,
    )


def change(revision: Revision, wanted: int | None) -> str | None:
    """What `min-scale` is to be, "" for none of it; None where nothing is to be written.

    `wanted` is None where it is not known. What somebody else set stays as it is.
    """
    if revision.min_scale is not None and not revision.ours:
        return None
    floor = 0 if wanted is None or not revision.active else wanted
    if revision.most is not None:
        floor = min(floor, revision.most)
    target = str(floor) if floor > 0 else ""
    return None if target == (revision.min_scale or "") else target


def patch(revision: Revision, target: str) -> dict[str, Any]:
    """The merge patch: one annotation, of the Revision as it was seen and no other (409 if it is)."""
    return {
        "metadata": {
            "resourceVersion": revision.version,
            "annotations": {MIN_SCALE: target or None},
        }
    }


def _ours(managed: Iterable[Mapping[str, Any]]) -> bool:
    owners = {
        each.get("manager")
        for each in managed
        if f"f:{MIN_SCALE}"
        in ((each.get("fieldsV1") or {}).get("f:metadata") or {}).get("f:annotations", {})
    }
    return owners == {OWNER}


def _most(annotations: Mapping[str, str]) -> int | None:
    limits = [
        int(text)
        for name in ("max-scale", "maxScale", "activation-scale")
        if (text := annotations.get(SCALING + name, "")).isdecimal() and int(text) > 0
    ]
    return min(limits, default=None)


def _of_spec(spec: Mapping[str, Any], annotations: Mapping[str, str]) -> dict[str, str]:
    told = {}
    limit = spec.get("containerConcurrency") or 0
    target = float(limit or UNLIMITED)
    if annotations.get(SCALING + "metric", "concurrency") == "concurrency":
        with suppress(ValueError):  # Knative's webhook takes numbers from 0.01 on only
            target = float(annotations.get(SCALING + "target", target))
    # The smaller one, as Knative takes it; we plan for one request at the least.
    told["containerConcurrency"] = f"{max(min(target, limit or target), 1.0) // 1.0:.0f}"
    memory_mb = sum(_memory_mb(each) for each in spec.get("containers") or ())
    if memory_mb > 0.0:
        told["memoryMb"] = f"{memory_mb:.0f}"
    return told


def _memory_mb(container: Mapping[str, Any]) -> float:
    resources = container.get("resources") or {}
    for kind in ("requests", "limits"):
        text = str((resources.get(kind) or {}).get("memory", ""))
        number = text.rstrip("KMGTik")
        try:
            return float(number) * _SIZES[text[len(number) :]] / 2.0**20
        except (KeyError, ValueError):
            continue
    return 0.0
