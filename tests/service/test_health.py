"""Ready, degraded and draining, told apart over gRPC and over HTTP."""

from __future__ import annotations

import asyncio
import json
import time

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.service.running import PATIENCE_S, get, scaler, served, until
from warmscaler.service.front.servicer import SERVICE
from warmscaler.service.observability import page as page_module
from warmscaler.service.observability.health import Health, Phase
from warmscaler.service.observability.metrics import Metrics
from warmscaler.service.observability.page import Page
from warmscaler.service.slots.breaker import THRESHOLD

pytestmark = pytest.mark.usefixtures("transport")

MODEL = f"{SERVICE}/model"


async def checks(port: int) -> dict[str, str]:
    names = health_pb2.HealthCheckResponse.ServingStatus
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return {
            name: names.Name((await stub.Check(health_pb2.HealthCheckRequest(service=name))).status)
            for name in ("", SERVICE, MODEL)
        }


def test_the_phases() -> None:
    health = Health()
    told: list[str] = []
    health.on_change(lambda: told.append(health.status))
    health.set_problem("model", "it is bad")
    assert not health.serves
    health.enter(Phase.READY)
    assert health.serves
    health.set_problem("model", None)
    health.enter(Phase.DRAINING)
    assert not health.serves
    assert told == ["starting", "starting", "degraded", "ready", "draining"]


def test_grpc_and_http_agree() -> None:
    async def page_says(page: Page) -> tuple[int, dict[str, object]]:
        status, body = await asyncio.to_thread(get, f"http://127.0.0.1:{page.port}/healthz")
        return status, json.loads(body)

    async def run() -> None:
        health = Health()
        page = Page(Metrics(health), health, "127.0.0.1", 0)
        assert await page_says(page) == (503, {"status": "starting", "problems": {}})
        async with served(health=health) as here:
            port = here.server.port
            well = {"": "SERVING", SERVICE: "SERVING", MODEL: "SERVING"}
            assert await checks(port) == well
            assert await page_says(page) == (200, {"status": "ready", "problems": {}})
            health.set_problem("model", "it is bad")
            await asyncio.sleep(0)
            assert await checks(port) == well | {MODEL: "NOT_SERVING"}
            problems = {"model": "it is bad"}
            assert await page_says(page) == (200, {"status": "degraded", "problems": problems})
            health.enter(Phase.DRAINING)
            await asyncio.sleep(0)
            assert set((await checks(port)).values()) == {"NOT_SERVING"}
            assert await page_says(page) == (503, {"status": "draining", "problems": problems})
        page.close()

    asyncio.run(run())


def test_a_loop_that_is_stalled_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "LOOP_TIMEOUT_S", 0.2)

    async def run() -> tuple[int, str]:
        health = Health()
        page = Page(Metrics(health), health, "127.0.0.1", 0)
        asked = asyncio.to_thread(get, f"http://127.0.0.1:{page.port}/healthz")
        task = asyncio.create_task(asked)
        await asyncio.sleep(0)
        time.sleep(1.5)  # noqa: ASYNC251 - the fault
        said = await task
        page.close()
        return said

    status, body = asyncio.run(run())
    assert status == 503
    assert json.loads(body) == {"status": "stalled"}


def test_a_process_that_drains_says_so() -> None:
    with scaler("--policy", "fixed:300", "--metrics-port", 0) as process:
        process.until("serving on port")
        status, body = get(f"{process.page}/healthz")
        assert (status, json.loads(body)["status"]) == (200, "ready")
        assert get(f"{process.page}/else")[0] == 404
        assert process.terminate() == 0


def test_a_platform_that_does_not_answer_degrades() -> None:
    async def run() -> None:
        health = Health()
        async with served(health=health) as here:
            breaker = here.server.driver.slots.breaker
            for _ in range(THRESHOLD):
                breaker.failed(here.server.driver.now_ms())
            await until(lambda: health.status == "degraded")
            assert "platform" in health.problems
            breaker.succeeded()
            await until(lambda: health.status == "ready")

    asyncio.run(run())


def test_connections_that_say_nothing_keep_nobody_out() -> None:
    async def run() -> None:
        health = Health()
        health.enter(Phase.READY)
        page = Page(Metrics(health), health, "127.0.0.1", 0)
        address = ("127.0.0.1", page.port)
        silent = [
            await asyncio.open_connection(*address) for _ in range(page_module.MAX_CONNECTIONS)
        ]
        for _, writer in silent:
            writer.write(b"G")
        status, _ = await asyncio.to_thread(get, f"http://127.0.0.1:{page.port}/healthz")
        assert status == 200
        for _, writer in silent:
            writer.close()
        page.close()

    asyncio.run(run())


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    """Of HTTP/2: RFC 9113, section 4.1."""
    head = len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return head + body


def test_a_watcher_that_reads_nothing_holds_nobody_up() -> None:
    """It grants the server no window at all, so that a status is never written to the end."""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/grpc.health.v1.Health/Watch",
        ":authority": "scaler",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    packed = b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in headers.items()
    )
    no_window = frame(4, 0, 0, b"\0\4\0\0\0\0")
    watch = no_window + frame(1, 4, 1, packed) + frame(0, 1, 1, b"\0" * 5)

    async def run() -> None:
        async with served() as here:
            reader, writer = await asyncio.open_connection("127.0.0.1", here.server.port)
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + watch)
            received = b""
            while frame(1, 4, 1, b"")[3:] not in received:  # headers: the status is on its way
                received += await reader.read(10_000)
            here.server.health.set_problem("platform", "down")
            async with asyncio.timeout(PATIENCE_S):
                await here.server.stop(0.0)
            writer.close()

    asyncio.run(run())
