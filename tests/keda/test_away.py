"""`scaler keda` as it is run: Prometheus killed and started again, nothing invented meanwhile."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import grpc.aio

from tests.keda.conftest import World
from tests.keda.played import Scaled
from tests.keda.published import Client, scaled_object
from tests.keda.serving import refused, trigger
from tests.keda.world import PATIENCE_S, exporter, needs_prometheus, prometheus
from tests.service.running import Process, get, scaler
from tests.service.test_prometheus import ask
from tests.service.test_prometheus import prometheus as scraping
from warmscaler.service.keda.servicer import METRIC

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "deploy/grafana/replicas.json"


def series(process: Process, name: str) -> dict[str, float]:
    """The values of a metric by their labels."""
    _, page = get(f"{process.page}/metrics")
    found = re.findall(rf"^{name}({{[^}}]*}})? (\S+)$", page, re.MULTILINE)
    return {labels: float(value) for labels, value in found}


async def until_metric(client: Client, ref: object, wanted: float) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                if await client.metric(ref, METRIC) == wanted:
                    return
            except grpc.aio.AioRpcError:
                pass
            await asyncio.sleep(0.1)


@needs_prometheus
def test_prometheus_killed_and_started_again(tmp_path: Path) -> None:
    async def work(process: Process) -> None:
        async with grpc.aio.insecure_channel(process.address) as channel:
            client = Client(channel)
            ref = scaled_object("shop", trigger("shop"))
            await until_metric(client, ref, 3.0)
            label = '{app="default/shop"}'
            assert series(process, "scaler_observed_concurrency") == {label: 3.0}
            scaled = Scaled(client, ref, replicas=3)
            measured.kill()
            service.in_flight["shop"] = 8.0  # nobody measures it
            held, code = 0, grpc.StatusCode.OK
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    try:
                        assert await client.metric(ref, METRIC) == 3.0
                        assert await client.is_active(ref)
                        held += 1
                    except grpc.aio.AioRpcError as error:
                        code = error.code()
                        break
                    await asyncio.sleep(0.1)
            assert (held > 5, code) == (True, grpc.StatusCode.UNAVAILABLE)
            code, text = await refused(client.is_active(ref))
            assert (code, "is away" in text) == (grpc.StatusCode.UNAVAILABLE, True)
            for name in ("desired_replicas", "observed_concurrency", "forecast_concurrency"):
                assert series(process, f"scaler_{name}") == {}
            _, healthz = get(f"{process.page}/healthz")
            assert '"degraded"' in healthz
            # KEDA leaves its app as it is, until what it was told to fall back to.
            for _ in range(4):
                await scaled.poll()
                await scaled.hpa()
            assert scaled.replicas == 3
            scaled.fallback = 6
            await scaled.hpa()
            assert scaled.replicas == 6
            measured.start()
            await until_metric(client, ref, 8.0)
            assert series(process, "scaler_observed_concurrency") == {label: 8.0}
            assert series(process, "scaler_desired_replicas") == {label: 8.0}
            await scaled.hpa()
            assert scaled.replicas == 8

    with exporter() as service, prometheus(tmp_path / "p", service.port) as measured:
        service.in_flight["shop"] = 3.0
        options = ("--prometheus", measured.url, "--interval", 1, "--hold", 2, "--history", "1m")
        with scaler(*options, "--metrics-port", 0, subcommand="keda") as process:
            asyncio.run(work(process))
            assert process.terminate() == 0


@needs_prometheus
def test_apps_without_a_scaled_object_are_exported(world: World, tmp_path: Path) -> None:
    """To a Prometheus that scrapes it, as the dashboard asks."""
    world.service.in_flight |= {"checkout": 9.0}
    apps, overrides = tmp_path / "apps.toml", tmp_path / "overrides.toml"
    apps.write_text(
        "[checkout]\nquery = 'in_flight{app=\"checkout\"}'\nmemoryMb = 512\nstartSeconds = 2\n"
        "containerConcurrency = 2\nignoreNullValues = true\n"
    )
    overrides.write_text(
        '[[override]]\napp = "checkout"\nfrom = 2020-01-01T00:00:00Z\n'
        "until = 2100-01-01T00:00:00Z\nat_least = 12\n"
    )
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    standing = {
        "$job": "scaler",
        "$app": "checkout",
        "$lead": "1s",
        "[6h:1m]": "[1m:1s]",
        "$__rate_interval": "1m",
    }
    options = ("--prometheus", world.prometheus.url, "--interval", 1, "--dry-run")
    files = ("--apps", apps, "--overrides", overrides, "--metrics-port", 0)
    with scaler(*options, *files, subcommand="keda") as process:
        process.until(r"checkout: 12 wanted: .*override")
        assert series(process, "scaler_desired_replicas") == {'{app="checkout"}': 12.0}
        assert series(process, "scaler_status")['{status="ready"}'] == 1.0
        existing = set(
            re.findall(r"^(scaler_\w+)", get(f"{process.page}/metrics")[1], re.MULTILINE)
        )
        named = {name for query in queries for name in re.findall(r"\bscaler_\w+", query)}
        assert named <= existing
        documented = re.findall(r"scaler_\w+", (ROOT / "docs/platforms.md").read_text())
        assert existing <= {*documented}
        with scraping(tmp_path, process.page.removeprefix("http://")) as page:
            for query in queries:
                for name, text in standing.items():
                    query = query.replace(name, text)
                # What needs the past has it in a second or two.
                found = ask(page, query, 1)
                assert {each["metric"].get("app", "checkout") for each in found} == {"checkout"}
