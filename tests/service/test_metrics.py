"""The metrics: what a few requests leave in them, their bounds, and the dashboard's names."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from tests.service.running import META, Served, assign, done, get, served, until
from tests.service.unsteady import Unsteady
from warmscaler.models.policy import AppPolicy, Policy, Pool
from warmscaler.models.published.fixed import Fixed
from warmscaler.service.front.server import ScalerServer
from warmscaler.service.live.driver import Driver
from warmscaler.service.live.platform_client import PlatformError
from warmscaler.service.observability.counts import TopApps, app_label
from warmscaler.service.observability.health import Health
from warmscaler.service.observability.metrics import Metrics
from warmscaler.service.observability.page import Page
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.scheduler.scheduler import Scheduler

pytestmark = pytest.mark.usefixtures("transport")

DASHBOARD = Path(__file__).parents[2] / "deploy/grafana/scaler.json"
OTHER = pb.Meta(key="other", memory_in_mb=1024)


class _StartsAhead(Policy):
    """Keeps for 0.2 s, and starts one instance more with an app's first request."""

    name = "starts-ahead"

    def app(self, key: str, memory_mb: int, runtime: str) -> AppPolicy:
        return _OneMore()


class _OneMore(AppPolicy):
    __slots__ = ("_done",)

    def __init__(self) -> None:
        super().__init__()
        self._done = False

    def arrival(self, now_ms: float, pool: Pool) -> int:
        starts, self._done = int(not self._done), True
        return starts

    def idle(self, now_ms: float, pool: Pool) -> float:
        return now_ms + 200.0


class Seen:
    """One scrape: samples by name and labels."""

    def __init__(self, text: str) -> None:
        self.samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        return self.samples[name, tuple(sorted(labels.items()))]


async def scrape(page: Page) -> Seen:
    status, body = await asyncio.to_thread(get, f"http://127.0.0.1:{page.port}/metrics")
    assert status == 200
    return Seen(body)


Work = Callable[[Served, Page], Awaitable[None]]


async def with_metrics(work: Work, policy: Policy, **more: Any) -> None:
    health = Health()
    metrics = Metrics(health, top_apps=2)
    page = Page(metrics, health, "127.0.0.1", 0)

    def watch(server: ScalerServer) -> None:
        metrics.watch(server.driver)

    async with served(policy, watch=watch, observers=(metrics,), health=health, **more) as here:
        await work(here, page)
    page.close()


def test_what_requests_leave_behind() -> None:
    async def work(here: Served, page: Page) -> None:
        stub = here.stub
        first = (await stub.Assign(assign("r1"))).assigment
        second = (await stub.Assign(assign("r2"))).assigment
        seen = await scrape(page)
        assert seen("scaler_slots", state="busy") == 2
        assert seen("scaler_slot_memory_bytes", state="busy") == 2 * 128 * 2**20
        await stub.Idle(done(first))
        await stub.Idle(done(second, need_destroy=True))
        third = (await stub.Assign(assign("r3"))).assigment
        await stub.Idle(done(third))
        other = (await stub.Assign(assign("r4", OTHER))).assigment
        await stub.Idle(done(other))
        await until(lambda: here.platform.live_slots == 2)
        await asyncio.sleep(0.1)
        seen = await scrape(page)
        assert seen("scaler_assignments_total", start="warm") == 1
        assert seen("scaler_assignments_total", start="cold") == 3
        assert seen("scaler_cold_starts_total", cause="first") == 2
        assert seen("scaler_cold_starts_total", cause="busy") == 1
        assert seen("scaler_completions_total", result="bad") == 1
        assert seen("scaler_completions_total", result="good") == 3
        assert seen("scaler_slots", state="idle") == 2
        assert seen("scaler_slot_events_total", event="created") == 3
        assert seen("scaler_slot_events_total", event="destroyed") == 1
        assert seen("scaler_windows_total", outcome="used") == 1
        assert seen("scaler_wait_seconds_count") == 3
        assert seen("scaler_start_seconds_count") == 3
        assert seen("scaler_decision_seconds_count", call="Assign") == 1
        assert seen("scaler_decision_seconds_count", call="Idle") == 4
        assert seen("scaler_app_requests", app="app") == 3
        assert seen("scaler_apps") == 2
        assert seen("scaler_status", status="ready") == 1
        wasted = seen("scaler_slot_gb_seconds_total", state="idle")
        assert wasted > 0.1 * 1.0  # the other app's gigabyte
        assert (await scrape(page))("scaler_slot_gb_seconds_total", state="idle") > wasted

    asyncio.run(with_metrics(work, Fixed(300.0)))


def test_windows_and_pre_warmed_instances_against_what_came() -> None:
    async def work(here: Served, page: Page) -> None:
        stub = here.stub
        for number in range(2):  # the second one finds the instance that was pre-warmed
            replies = [(await stub.Assign(assign(f"{number}-0"))).assigment]
            await until(lambda: sum(map(len, here.platform.ready.values())) == 2)
            await asyncio.sleep(0.02)
            if number:
                replies.append((await stub.Assign(assign(f"{number}-1"))).assigment)
            for each in replies:
                await stub.Idle(done(each))
        seen = await scrape(page)
        assert seen("scaler_precreated_total", outcome="used") == 1
        assert seen("scaler_precreated_lead_seconds_count") == 1
        assert seen("scaler_windows_total", outcome="used") == 1
        await until(lambda: here.platform.live_slots == 0)
        other = (await stub.Assign(assign("other", OTHER))).assigment  # and one pre-warmed in vain
        await until(lambda: here.platform.live_slots == 1)
        await stub.Idle(done(other))
        await until(lambda: here.platform.live_slots == 0)
        again = (await stub.Assign(assign("again"))).assigment
        await stub.Idle(done(again))
        seen = await scrape(page)
        assert seen("scaler_windows_total", outcome="unused") == 3
        assert seen("scaler_precreated_total", outcome="unused") == 1
        assert seen("scaler_cold_starts_total", cause="released") == 1

    asyncio.run(with_metrics(work, _StartsAhead()))


def test_requests_that_got_nothing() -> None:
    async def work(here: Served, page: Page) -> None:
        call = here.stub.Assign(assign("r"))
        await until(lambda: here.server.driver.waiting == 1)
        assert (await scrape(page))("scaler_waiting_requests") == 1
        call.cancel()
        await until(lambda: here.server.driver.waiting == 0)
        stranger = pb.Meta(key="not of the platform", memory_in_mb=128)
        try:
            refused = (await here.stub.Assign(assign("r2", stranger))).status != pb.Ok
        except grpc.aio.AioRpcError:
            refused = True
        assert refused
        seen = await scrape(page)
        assert seen("scaler_requests_unserved_total", outcome="caller_gone") == 1
        assert seen("scaler_requests_unserved_total", outcome="failed") == 1
        assert seen("scaler_slot_events_total", event="start_failed") >= 1

    asyncio.run(with_metrics(work, Fixed(300.0), create_ms=300.0))


def test_a_scrape_sees_idle_memory_only_grow() -> None:
    async def work(here: Served, page: Page) -> None:
        last = 0.0
        for number in range(12):
            reply = await here.stub.Assign(assign(str(number)))
            await here.stub.Idle(done(reply.assigment, need_destroy=number % 5 == 4))
            for _ in range(3):
                seen = (await scrape(page))("scaler_slot_gb_seconds_total", state="idle")
                assert seen >= last
                last = seen
                await asyncio.sleep(0.01)

    asyncio.run(with_metrics(work, Fixed(0.02)))


def idle_gb_s(metrics: Metrics) -> float:
    families = {family.name: family for family in metrics.collect()}
    samples = families["scaler_slot_gb_seconds"].samples
    return next(each.value for each in samples if each.labels["state"] == "idle")


def test_an_idle_instance_that_serves_whose_start_failed_has_wasted_what_it_has() -> None:
    async def run() -> None:
        platform, metrics = Unsteady(), Metrics(Health())
        driver = Driver(Scheduler(Fixed(60.0)), platform, observers=(metrics,))
        metrics.watch(driver)
        first = await driver.assign("r1", META)
        platform.hold("init")
        platform.fail("init", PlatformError("no", retry=True))
        second = asyncio.ensure_future(driver.assign("r2", META))
        await until(lambda: platform.held == 1)
        driver.idle(pb.Assignment(request_id="r1", instance_id=first), pb.Result())
        await asyncio.sleep(0.05)
        wasted = idle_gb_s(metrics)
        assert wasted > 0.0
        platform.let_go()
        assert await second == first
        assert idle_gb_s(metrics) >= wasted
        driver.idle(pb.Assignment(request_id="r2", instance_id=first), pb.Result())
        await driver.drain(1.0)

    asyncio.run(run())


def test_an_instance_whose_idle_never_came_wasted_nothing_by_that() -> None:
    async def work(here: Served, page: Page) -> None:
        await here.stub.Idle(done((await here.stub.Assign(assign("r1"))).assigment))
        await here.stub.Assign(assign("r2"))
        wasted = (await scrape(page))("scaler_slot_gb_seconds_total", state="idle")
        await until(lambda: here.platform.live_slots == 0)
        seen = await scrape(page)
        assert seen("scaler_idles_overdue_total") == 1
        assert seen("scaler_completions_total", result="bad") == 0
        assert seen("scaler_windows_total", outcome="unused") == 0
        assert seen("scaler_slot_gb_seconds_total", state="idle") == wasted
        assert seen("scaler_slot_gb_seconds_total", state="busy") >= 0.3 * META.memory_in_mb / 1024

    asyncio.run(with_metrics(work, Fixed(300.0), reclaim_s=0.3))


def test_apps_shown_are_few_and_their_names_harmless() -> None:
    top = TopApps(3)
    for number in range(100_000):
        top.add(f"stranger-{number}")
        top.add(("one", "two", "three")[number % 3])
    assert {key for key, _ in top.top()} == {"one", "two", "three"}
    assert len(top._counts) <= 24

    async def work(here: Served, page: Page) -> None:
        key = 'x"} 1\nforged_metric 1\n' + "y" * 1_000
        metrics = here.server.driver._observers[0]
        assert isinstance(metrics, Metrics)
        assert metrics._apps is not None
        metrics._apps.add(key)
        _, text = await asyncio.to_thread(get, f"http://127.0.0.1:{page.port}/metrics")
        assert "\nforged_metric" not in text
        [line] = [line for line in text.splitlines() if line.startswith("scaler_app_requests{")]
        assert len(line) < 300

    asyncio.run(with_metrics(work, Fixed(300.0)))


@given(st.lists(st.text() | st.text(alphabet="ab\n\\n#", min_size=60, max_size=70), unique=True))
@example(["y" * 100 + "a", "y" * 100 + "b", "a\n", "a\\n"])
def test_two_apps_are_never_one_label(keys: list[str]) -> None:
    labels = [app_label(key) for key in keys]
    assert len(set(labels)) == len(keys)
    assert all(label.isprintable() and len(label) < 200 for label in labels)


def test_no_label_of_ours_is_one_that_prometheus_sets_itself() -> None:
    families = Metrics(Health(), top_apps=1).collect()
    labels = {name for family in families for sample in family.samples for name in sample.labels}
    assert "result" in labels
    assert not labels & {"job", "instance"}


def test_who_asks_for_the_head_alone_gets_it() -> None:
    async def work(here: Served, page: Page) -> None:
        for path, status in (("healthz", 200), ("metrics", 200), ("else", 404)):
            reply = await asyncio.to_thread(head, f"http://127.0.0.1:{page.port}/{path}")
            assert reply == (status, b"")

    asyncio.run(with_metrics(work, Fixed(300.0)))


def head(url: str) -> tuple[int, bytes]:
    connection = HTTPConnection(url.split("/")[2], timeout=30.0)
    connection.request("HEAD", "/" + url.split("/", 3)[3])
    reply = connection.getresponse()
    assert int(reply.headers["Content-Length"]) > 0
    with closing(connection):
        return reply.status, reply.read()


def test_the_series_are_few() -> None:
    async def work(here: Served, page: Page) -> None:
        ours = [name for name, _ in (await scrape(page)).samples if name.startswith("scaler_")]
        assert len(ours) < 200

    asyncio.run(with_metrics(work, Fixed(300.0)))


def test_every_metric_of_the_dashboard_and_the_alerts_exists() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())
    ]
    rules = yaml.safe_load((DASHBOARD.parents[1] / "prometheus/rules.yaml").read_text())
    queries += [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    named = {name for query in queries for name in re.findall(r"\b(?:scaler|process)_\w+", query)}
    assert len(named) > 15

    async def work(here: Served, page: Page) -> None:
        existing = {name for name, _ in (await scrape(page)).samples}
        assert named <= existing
        operations = (DASHBOARD.parents[2] / "docs/operations.md").read_text()
        families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in existing}
        undocumented = {name for name in families if name.startswith("scaler_")} - set(
            re.findall(r"scaler_\w+", operations)
        )
        assert not undocumented

    asyncio.run(with_metrics(work, Fixed(300.0)))
