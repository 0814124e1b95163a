"""The manifests: whole, valid against Kubernetes' own schemas, and as safe as they claim."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from tests.deploy.kustomize import Resource, build, pod_specs
from warmscaler.cli.commands import SUBCOMMANDS
from warmscaler.cli.lazy import load
from warmscaler.service.looking.told import Defaults, read

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BUILT = ("base", "contest", "envoy", "keda", "knative", "overlays/dev", "overlays/production")
KUBERNETES = ("1.29", "1.33", "1.37")


def _containers(folder: str) -> list[tuple[Resource, dict[str, Any], dict[str, Any]]]:
    return [
        (resource, pod, container)
        for resource in build(DEPLOY / folder)
        for pod in pod_specs(resource)
        for container in pod["containers"]
    ]


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("folder", BUILT)
def test_valid_for_kubernetes(folder: str, version: str) -> None:
    for resource in build(DEPLOY / folder):
        kubernetes_validate.validate(resource, version, strict=True)


def test_a_wrong_field_would_be_seen() -> None:
    (job,) = build(DEPLOY / "contest")
    job["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, KUBERNETES[-1], strict=True)


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    """An overlay with every component."""
    parts = [f"../{each}" for each in ("ledger", "retrain", "object-store", "tls", "monitoring")]
    plan = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [_relative(tmp_path, DEPLOY / "base")],
        "components": [_relative(tmp_path, DEPLOY / each[3:]) for each in parts],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(plan))
    return tmp_path


def _relative(folder: Path, to: Path) -> str:
    return os.path.relpath(to, folder)


def _one(resources: list[Resource], kind: str, name: str = "scaler") -> Resource:
    (found,) = [
        each for each in resources if (each["kind"], each["metadata"]["name"]) == (kind, name)
    ]
    return found


def test_all_components_together_are_valid(everything: Path) -> None:
    operators = ("ServiceMonitor", "PrometheusRule")  # their schemas are not Kubernetes'
    for resource in build(everything):
        if resource["kind"] not in operators:
            kubernetes_validate.validate(resource, KUBERNETES[-1], strict=True)
    test_as_kustomize_builds_it(str(everything))
    test_selectors_meet_pods_and_claims_exist(str(everything))
    test_arguments_are_the_commands_own(str(everything))
    test_pods_are_restricted(str(everything))


def test_probes_ask_what_answers_with_tls_too(everything: Path) -> None:
    for folder in (DEPLOY / "base", everything):
        (pod,) = pod_specs(_one(build(folder), "Deployment"))
        (container,) = pod["containers"]
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        assert f"--metrics-port={ports['metrics']}" in container["args"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"] == {"path": "/healthz", "port": "metrics"}
        tls = [each for each in container["args"] if each.startswith("--tls")]
        assert bool(tls) is (folder == everything)
        for option in tls:
            assert option.partition("=")[2].startswith("/tls/")


def test_callers_come_from_the_namespace_that_is_named() -> None:
    policy = _one(build(DEPLOY / "overlays/production"), "NetworkPolicy")["spec"]
    # Both in one peer: pods of that name in that namespace, not all that is in it.
    peer = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "platform"}},
        "podSelector": {"matchLabels": {"scaler/role": "platform"}},
    }
    assert peer in policy["ingress"][0]["from"]
    assert policy["ingress"][0]["ports"] == [{"protocol": "TCP", "port": 9001}]
    assert peer in policy["egress"][0]["to"]


def test_the_job_reaches_an_object_store_where_it_is_to_use_one(everything: Path) -> None:
    shut = _one(build(DEPLOY / "overlays/production"), "NetworkPolicy", "scaler-retrain")["spec"]
    assert "egress" not in shut
    resources = build(everything)
    for name in ("scaler-retrain", "scaler"):
        rules = _one(resources, "NetworkPolicy", name)["spec"]["egress"]
        assert {"ports": [{"protocol": "TCP", "port": 443}]} in rules
        assert any(53 in [port["port"] for port in rule["ports"]] for rule in rules)
    for kind, name in (("CronJob", "scaler-retrain"), ("Deployment", "scaler")):
        (pod,) = pod_specs(_one(resources, kind, name))
        stores = [each for each in pod["containers"][0]["args"] if each.startswith("--store=")]
        assert stores[-1].startswith("--store=s3://")


def test_prometheus_finds_the_metrics(everything: Path) -> None:
    resources = build(everything)
    deployment, service = _one(resources, "Deployment"), _one(resources, "Service")
    monitor = _one(resources, "ServiceMonitor")["spec"]
    wanted = monitor["selector"]["matchLabels"].items()
    assert wanted <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in [each["name"] for each in service["spec"]["ports"]]
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": "9002",
        "prometheus.io/path": "/metrics",
    }
    ports = deployment["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert {"name": "metrics", "containerPort": 9002} in ports


def test_the_operators_rules_are_the_files() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus/rules.yaml").read_text())
    assert (
        _one(
            [yaml.safe_load((DEPLOY / "monitoring/prometheusrule.yaml").read_text())],
            "PrometheusRule",
        )["spec"]
        == rules
    )
    operations = (ROOT / "docs/operations.md").read_text()
    names = [rule["alert"] for rule in rules["groups"][0]["rules"]]
    assert len(names) == len(set(names))
    for name in names:
        assert f"`{name}`" in operations


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_the_rules_are_ones_to_prometheus() -> None:
    for words in (("check", "rules", "rules.yaml"), ("test", "rules", "rules_test.yaml")):
        run = subprocess.run(
            ["promtool", *words], cwd=DEPLOY / "prometheus", capture_output=True, text=True
        )
        assert run.returncode == 0, run.stdout + run.stderr


def test_every_file_is_used() -> None:
    others = {"grafana", "prometheus"}  # read by others than kustomize
    files = {path for path in DEPLOY.rglob("*.yaml") if not others & set(path.parts)}
    named = set()
    for plan in DEPLOY.rglob("kustomization.yaml"):
        named.add(plan)
        for name in yaml.safe_load(plan.read_text()).get("resources", []):
            named.add((plan.parent / name).resolve())
    assert {path for path in files if path.resolve() not in named} == set()


@pytest.mark.parametrize("folder", BUILT)
def test_as_kustomize_builds_it(folder: str) -> None:
    command = next(
        (
            words
            for words in (["kustomize", "build"], ["kubectl", "kustomize"])
            if shutil.which(words[0])
        ),
        None,
    )
    if command is None:
        pytest.skip("neither kustomize nor kubectl is on this machine")
    run = subprocess.run([*command, DEPLOY / folder], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    theirs = list(yaml.safe_load_all(run.stdout))

    def by_name(resource: Resource) -> tuple[str, str]:
        return resource["kind"], resource["metadata"]["name"]

    assert sorted(build(DEPLOY / folder), key=by_name) == sorted(theirs, key=by_name)


@pytest.mark.parametrize("folder", BUILT)
def test_pods_are_restricted(folder: str) -> None:
    for resource, pod, container in _containers(folder):
        where = f"{folder}: {resource['metadata']['name']}/{container['name']}"
        needs_the_api = folder == "knative"
        assert pod["automountServiceAccountToken"] is needs_the_api, where
        assert pod["securityContext"]["runAsNonRoot"] is True, where
        assert pod["securityContext"]["runAsUser"] == _user_of_the_image(), where
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, where
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False, where
        assert own["readOnlyRootFilesystem"] is True, where
        assert own["capabilities"] == {"drop": ["ALL"]}, where
        for kind in ("requests", "limits"):
            assert set(container["resources"][kind]) == {"cpu", "memory"}, where
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        claims = resource["spec"].get("volumeClaimTemplates", ())
        named = {volume["name"] for volume in pod["volumes"]}
        assert mounted <= named | {claim["metadata"]["name"] for claim in claims}, where


@pytest.mark.parametrize("folder", BUILT)
def test_selectors_meet_pods_and_claims_exist(folder: str) -> None:
    resources = build(DEPLOY / folder)
    pods = [
        each["spec"]["template"]["metadata"]["labels"]
        for each in resources
        if each["kind"] in ("Deployment", "StatefulSet")
    ]
    for each in resources:
        selector = {
            "Service": lambda spec: spec["selector"],
            "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
            "Deployment": lambda spec: spec["selector"]["matchLabels"],
            "StatefulSet": lambda spec: spec["selector"]["matchLabels"],
        }.get(each["kind"])
        if selector is not None:
            wanted = selector(each["spec"]).items()
            assert any(wanted <= labels.items() for labels in pods), each["metadata"]["name"]
    names = {(each["kind"], each["metadata"]["name"]) for each in resources}
    for resource in resources:
        for pod in pod_specs(resource):
            if "serviceAccountName" in pod:
                assert ("ServiceAccount", pod["serviceAccountName"]) in names
            for volume in pod["volumes"]:
                claim = volume.get("persistentVolumeClaim")
                assert claim is None or ("PersistentVolumeClaim", claim["claimName"]) in names


@pytest.mark.parametrize("folder", BUILT)
def test_arguments_are_the_commands_own(folder: str) -> None:
    for _, _, container in _containers(folder):
        if container["name"] == "envoy":
            continue
        name, *options = container["args"]
        assert name in SUBCOMMANDS, f"there is no scaler {name}"
        parameters = load(name, SUBCOMMANDS[name]).params
        known = {option for parameter in parameters for option in parameter.opts}
        assert {each.partition("=")[0] for each in options} <= known, f"scaler {name}"


def test_an_example_asks_for_what_the_scaler_reads() -> None:
    (scaled,) = build(DEPLOY / "keda/example")
    trigger, *_ = scaled["spec"]["triggers"]
    assert trigger["type"] == "external-push"
    service = _one(build(DEPLOY / "keda"), "Service", "scaler-keda")
    host, _, port = trigger["metadata"]["scalerAddress"].partition(":")
    meta = service["metadata"]
    assert host == f"{meta['name']}.{meta['namespace']}"
    assert int(port) in [each["port"] for each in service["spec"]["ports"]]
    spec, source = read(trigger["metadata"], "shop", Defaults("http://prometheus:9090"))
    assert (spec.container_concurrency, source.prometheus) == (8, "http://prometheus:9090")


@pytest.mark.parametrize("folder", ["base", "overlays/dev", "overlays/production"])
def test_a_scaler_that_is_killed_finds_its_ledger_again(folder: str) -> None:
    (deployment,) = [each for each in build(DEPLOY / folder) if each["kind"] == "Deployment"]
    (pod,) = pod_specs(deployment)
    (container,) = pod["containers"]
    (file,) = [each.partition("=")[2] for each in container["args"] if "--ledger=" in each]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    (volume,) = [each for each in pod["volumes"] if each["name"] == mounts[str(Path(file).parent)]]
    assert volume.get("emptyDir", {}).get("medium") != "Memory"
    if "persistentVolumeClaim" in volume:
        # One process at a time opens a ledger: a new pod that waits for the old one to leave, which
        # waits for the new one to be ready, would wait for ever.
        assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    if folder == "overlays/production":
        assert "persistentVolumeClaim" in volume


def test_the_image_is_what_the_pods_expect() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.search(r'^ENTRYPOINT \["scaler"\]$', dockerfile, re.MULTILINE)
    check = re.search(r"^HEALTHCHECK .* CMD (\[.*\])$", dockerfile, re.MULTILINE)
    assert check is not None
    assert yaml.safe_load(check[1])[:2] == ["scaler", "health"]
    for word in (
        "data",
        "models",
        "replicas",
        "service",
        "simulator",
        "training",
        "cli",
        "pyproject.toml",
    ):
        assert f"!{word}" in (ROOT / ".dockerignore").read_text().splitlines()


def test_every_dependency_of_the_image_is_the_locked_one() -> None:
    def pinned(name: str) -> set[str]:
        return set(re.findall(r"^(\S+==\S+) \\$", (ROOT / name).read_text(), re.MULTILINE))

    everything, image = pinned("requirements.lock"), pinned("requirements.run.lock")
    assert image < everything
    left_out = ("matplotlib", "jinja2", "distributed", "pytest")
    assert not [each for each in image if each.split("==")[0] in left_out]


def test_the_command_needs_nothing_that_the_image_lacks() -> None:
    locked = (ROOT / "requirements.run.lock").read_text()
    there = {"warmscaler", *re.findall(r"^([\w.-]+)==", locked, re.MULTILINE)}
    lacking = [
        module
        for module, owners in packages_distributions().items()
        if not there & {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners}
    ]
    assert "matplotlib" in lacking
    modules = [each.module for each in SUBCOMMANDS.values()]
    script = f"import sys; sys.modules.update(dict.fromkeys({lacking}))\n" + "".join(
        f"import {module}\n" for module in ("warmscaler.cli.main", *modules) if module
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def _user_of_the_image() -> int:
    users = re.findall(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    return next(int(user) for user, _ in users if int(user))
