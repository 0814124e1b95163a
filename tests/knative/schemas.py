"""What the API checks of an object: the published schemas, and of Knative's a reduced one."""

from __future__ import annotations

from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]

SCALING = "autoscaling.knative.dev/"
REVISION_FIELDS = {"apiVersion", "kind", "metadata", "spec", "status"}
META_FIELDS = {
    *("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp"),
    *("labels", "annotations", "managedFields", "ownerReferences", "deletionTimestamp"),
}


class Refused(Exception):
    """An object that is not stored."""


def check(kind: str, found: dict[str, Any], before: dict[str, Any] | None) -> None:
    """Raises Refused."""
    if kind == "leases":
        try:
            kubernetes_validate.validate(found, "1.37", strict=True)
        except kubernetes_validate.ValidationError as error:
            raise Refused(str(error)) from None
        if (found["spec"].get("leaseDurationSeconds") or 1) < 1:
            raise Refused("spec.leaseDurationSeconds: must be greater than 0")
        return
    if set(found) - REVISION_FIELDS or set(found["metadata"]) - META_FIELDS:
        raise Refused(f"unknown field in {set(found)}, {set(found['metadata'])}")
    annotations = found["metadata"].get("annotations", {})
    if not all(isinstance(each, str) for each in annotations.values()):
        raise Refused("metadata.annotations: must be strings")
    if before is not None and found["spec"] != before["spec"]:
        raise Refused("Immutable fields changed")
    _scales(annotations)


def _scales(annotations: dict[str, str]) -> None:
    """Knative's webhook: validateMinMaxScale."""
    scale = {}
    for name in ("min-scale", "max-scale", "activation-scale"):
        text = annotations.get(SCALING + name, "0")
        if not text.isdecimal():
            raise Refused(f"{name}: invalid value: {text}")
        scale[name] = int(text)
    if scale["max-scale"] and scale["max-scale"] < scale["min-scale"]:
        raise Refused("max-scale is less than min-scale")
    if scale["activation-scale"] and scale["activation-scale"] < scale["min-scale"]:
        raise Refused("min-scale is greater than activation-scale")
