"""`scaler knative` as it is run, against a stand-in of the API and a real Prometheus."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import Any

import yaml

from tests.keda.conftest import World
from tests.keda.world import PATIENCE_S, needs_prometheus
from tests.knative.stand_in import Object, StandIn
from tests.service.running import Process, get, scaler

MIN_SCALE = "autoscaling.knative.dev/min-scale"
OWNER = "warmscaler"
ROLES = Path(__file__).parents[2] / "deploy/knative/rbac.yaml"


def revision(name: str, *, state: str = "active", **annotations: str) -> Object:
    resources = {"requests": {"memory": "512Mi"}}
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Revision",
        "metadata": {
            "name": name,
            "namespace": "shops",
            "labels": {"serving.knative.dev/routingState": state},
            "annotations": {
                f"autoscaling.knative.dev/{key.replace('_', '-')}": text
                for key, text in annotations.items()
            },
        },
        "spec": {
            "containerConcurrency": 4,
            "containers": [{"image": "shop", "resources": resources}],
        },
        "status": {"observedGeneration": 1},
    }


@contextmanager
def floors(api: StandIn, prometheus: str, folder: Path, *options: object) -> Iterator[Process]:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "here", "cluster": {"server": api.url}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    words = ("--prometheus", prometheus, "--query", 'in_flight{app="{revision}"}')
    more = (
        "--kubeconfig",
        file,
        "--interval",
        1,
        "--cool-down",
        0,
        "--start",
        1,
        "--history",
        "1m",
    )
    command = (*words, *more, "--lease-namespace", "shops", "--metrics-port", 0, *options)
    with scaler(*command, subcommand="knative", listens=False) as process:
        try:
            yield process
        except AssertionError:
            print(*process.lines, sep="\n")  # pytest shows it beside what failed
            raise


def until(holds: Callable[[], Any], patience_s: float = PATIENCE_S) -> None:
    end_s = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.05)


def for_use_of(replicas: int) -> tuple[str, str]:
    """Floors for what is in use; from the next look on it may be with a forecaster's headroom."""
    return str(replicas), str(ceil(1.4 * replicas))


@needs_prometheus
def test_floors_converge_and_nothing_is_left(world: World, api: StandIn, tmp_path: Path) -> None:
    cluster, load = api.cluster, world.service.in_flight
    load |= {"shop": 17.0, "capped": 90.0, "theirs": 50.0, "old": 50.0, "late": 9.0, "idle": 0.0}
    cluster.put("revisions", revision("shop"))
    cluster.put("revisions", revision("capped", max_scale="3"))
    cluster.put("revisions", revision("theirs", min_scale="2"))
    cluster.put("revisions", revision("old", state="reserve"))
    cluster.put("revisions", revision("idle"))

    def floor(name: str) -> str | None:
        return cluster.annotations("shops", name).get(MIN_SCALE)

    def holds(name: str, replicas: int) -> bool:
        return floor(name) in for_use_of(replicas)

    def somebody_edits(made: Object) -> None:
        made["status"]["observedGeneration"] += 1

    def edit() -> None:
        cluster.before_patch = None
        cluster.edit("revisions", "shops", "shop", somebody_edits)

    with floors(api, world.prometheus.url, tmp_path) as process:
        until(lambda: holds("shop", 5) and floor("capped") == "3")
        assert (floor("theirs"), floor("old"), floor("idle")) == ("2", None, None)
        # Others write, and the same is wanted: we write nothing.
        written = len(cluster.writes)
        for _ in range(5):
            cluster.edit("revisions", "shops", "shop", somebody_edits)
            time.sleep(0.4)
        assert [each.kind for each in cluster.writes[written:]].count("revisions") == 0
        assert cluster.bookmarks > 0
        # Somebody writes between our reading and our writing.
        cluster.before_patch = edit
        load["shop"] = 30.0
        until(lambda: holds("shop", 8))
        assert cluster.conflicts >= 1
        # What was missed is too long ago.
        cluster.expire()
        until(lambda: cluster.expired >= 1)
        cluster.put("revisions", revision("late"))
        until(lambda: holds("late", 3))
        # The API is away for a while.
        cluster.down = True
        load["shop"] = 50.0
        time.sleep(1.0)
        cluster.down = False
        until(lambda: holds("shop", 13))
        # It is routed to no more.

        def take(made: Object) -> None:
            made["metadata"]["annotations"][MIN_SCALE] = "7"

        def reserve(made: Object) -> None:
            made["metadata"]["labels"]["serving.knative.dev/routingState"] = "reserve"

        cluster.edit("revisions", "shops", "late", reserve)
        until(lambda: floor("late") is None)
        # Somebody takes it over: it is theirs from then on.
        cluster.edit(
            "revisions",
            "shops",
            "shop",
            lambda made: made["metadata"]["annotations"].update({MIN_SCALE: "7"}),
        )
        load |= {"shop": 80.0, "idle": 8.0}
        until(lambda: holds("idle", 2))
        time.sleep(1.5)
        assert floor("shop") == "7"
        cluster.delete("revisions", "shops", "late")

        def gauge() -> str:
            return f'scaler_desired_replicas{{app="shops/idle"}} {floor("idle")}.0'

        until(lambda: gauge() in get(f"{process.page}/metrics")[1])
        _, page = get(f"{process.page}/metrics")
        assert "scaler_leads 1.0" in page
        assert process.terminate() == 0
    assert (floor("shop"), floor("theirs")) == ("7", "2")
    assert (floor("capped"), floor("idle")) == (None, None)
    assert not [each for each in cluster.objects if each[2] == "late"]
    lease = cluster.objects["leases", "shops", "scaler-knative"]
    assert lease["spec"]["holderIdentity"] == ""
    for each in (write for write in cluster.writes if write.kind == "revisions"):
        assert (each.verb, each.manager) == ("patch", OWNER)
        assert set(each.body) == {"metadata"}
        assert set(each.body["metadata"]) == {"resourceVersion", "annotations"}
        assert set(each.body["metadata"]["annotations"]) == {MIN_SCALE}
    allowed = {
        (verb, resource)
        for role in yaml.safe_load_all(ROLES.read_text())
        for rule in role.get("rules", ())
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert cluster.asked == allowed


@needs_prometheus
def test_what_a_killed_one_left_is_taken_over(world: World, api: StandIn, tmp_path: Path) -> None:
    cluster = api.cluster
    world.service.in_flight["taken"] = 9.0
    cluster.put("revisions", revision("taken"))

    def floor() -> str | None:
        return cluster.annotations("shops", "taken").get(MIN_SCALE)

    with floors(api, world.prometheus.url, tmp_path) as first:
        until(lambda: floor() in for_use_of(3))
        with floors(api, world.prometheus.url, tmp_path) as second:
            second.until("watching Revisions")
            written = len(cluster.writes)
            first.process.kill()
            first.process.wait()
            world.service.in_flight["taken"] = 16.0
            time.sleep(2.5)
            # It does not lead yet, and writes nothing.
            assert len([w for w in cluster.writes[written:] if w.kind == "revisions"]) == 0
            cluster.delete("leases", "shops", "scaler-knative")  # as if it had run out
            until(lambda: floor() in for_use_of(4))
            assert second.terminate() == 0
    assert floor() is None


@needs_prometheus
def test_a_dry_run_writes_nothing(world: World, api: StandIn, tmp_path: Path) -> None:
    world.service.in_flight["dry-shop"] = 9.0
    api.cluster.put("revisions", revision("dry-shop"))
    with floors(api, world.prometheus.url, tmp_path, "--dry-run") as process:
        either = "|".join(for_use_of(3))
        process.until(rf"dry run: shops/dry-shop would have min-scale ({either})")
        _, page = get(f"{process.page}/metrics")
        assert re.search(rf'scaler_desired_replicas{{app="shops/dry-shop"}} ({either})\.0', page)
        assert process.terminate() == 0
    assert api.cluster.writes == []
