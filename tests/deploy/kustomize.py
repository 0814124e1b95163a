"""A kustomization built offline: the part of kustomize that `deploy/` uses, and a refusal of the
rest. Where the real one is on the machine, a test holds that both give the same."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

Resource = dict[str, Any]
CLUSTER_WIDE = ("ClusterRole", "ClusterRoleBinding", "Namespace")
_KNOWN = {
    "apiVersion",
    "kind",
    "resources",
    "components",
    "namespace",
    "images",
    "labels",
    "patches",
}


def build(folder: Path) -> list[Resource]:
    """Every resource of `folder`'s kustomization, as it would be applied."""
    return _apply(folder, [])


def _apply(folder: Path, resources: list[Resource]) -> list[Resource]:
    plan = yaml.safe_load((folder / "kustomization.yaml").read_text())
    unknown = set(plan) - _KNOWN
    if unknown:
        raise ValueError(f"{folder}: {unknown} is not known here: add it to {__file__}")
    for name in plan.get("resources", []):
        path = (folder / name).resolve(strict=True)
        loaded = build(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
        resources = [*resources, *deepcopy(loaded)]
    for name in plan.get("components", []):
        resources = _apply((folder / name).resolve(strict=True), resources)
    for patch in plan.get("patches", []):
        _patch(resources, patch, folder)
    for each in resources:
        for labels in plan.get("labels", []):
            if set(labels) != {"pairs"}:
                raise ValueError(f"{folder}: labels with more than pairs are not known here")
            each["metadata"].setdefault("labels", {}).update(labels["pairs"])
        if "namespace" in plan and each["kind"] not in CLUSTER_WIDE:
            each["metadata"]["namespace"] = plan["namespace"]
        for image in plan.get("images", []):
            for container in (one for pod in pod_specs(each) for one in pod["containers"]):
                _rename(container, image)
    names = [(each["kind"], each["metadata"]["name"]) for each in resources]
    if len(set(names)) != len(names):
        raise ValueError(f"{folder}: one name for two resources: {names}")
    return resources


def pod_specs(resource: Resource) -> list[dict[str, Any]]:
    """The pods that a resource makes."""
    spec = resource.get("spec", {})
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    return [spec["template"]["spec"]] if "template" in spec else []


def _rename(container: dict[str, Any], image: dict[str, str]) -> None:
    name, _, tag = container["image"].partition(":")
    if name == image["name"]:
        tag = image.get("newTag", tag)
        container["image"] = image.get("newName", name) + (f":{tag}" if tag else "")


def _patch(resources: list[Resource], patch: dict[str, Any], folder: Path) -> None:
    """JSON 6902: add, replace, remove."""
    target = patch["target"]
    found = [
        each
        for each in resources
        if (each["kind"], each["metadata"]["name"]) == (target["kind"], target["name"])
    ]
    if len(found) != 1 or set(target) != {"kind", "name"}:
        raise ValueError(f"{folder}: a patch for {target}, of which there are {len(found)}")
    for step in yaml.safe_load(patch["patch"]):
        *above, last = (re.sub("~1", "/", key) for key in step["path"].split("/")[1:])
        place: Any = found[0]
        for key in above:
            place = place[int(key)] if isinstance(place, list) else place[key]
        if isinstance(place, list) and step["op"] == "add":
            place.insert(len(place) if last == "-" else int(last), step["value"])
            continue
        at: Any = int(last) if isinstance(place, list) else last
        if step["op"] == "remove":
            del place[at]
        elif step["op"] == "add":
            place[at] = step["value"]
        elif step["op"] == "replace":
            _ = place[at]  # it must be there
            place[at] = step["value"]
        else:
            raise ValueError(f"{folder}: {step['op']} is not known here")
