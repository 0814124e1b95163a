"""What the live page costs with 500 apps: the server's CPU with a page open and without, by turns in one
process; and how soon it shows what happened, in a browser where there is one.

By CPU and not by the clock, so that what else the machine does counts for little. What a picture costs
beyond the requests served meanwhile, over the time between two pictures, is the share of a whole core, and
with it of the throughput of a server that has one.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop

from tests.bench.service_cost import BackgroundServer
from tests.bench.table import Row, show, step
from tests.browser import CHROMIUM, chromium
from tests.chaos.flood import connect
from warmscaler.models.registry import make_policy
from warmscaler.service.explaining.history import History
from warmscaler.service.front.server import ScalerServer
from warmscaler.service.observability.board.board import Board
from warmscaler.service.observability.board.events import EVERY_S
from warmscaler.service.observability.health import Health
from warmscaler.service.observability.metrics import Metrics
from warmscaler.service.observability.page import Page
from warmscaler.simulator.platform import SimulatedPlatform

APPS = 500
CALLERS = 48
ROUNDS = 12
ROUND_S = 2.5
"""Five pictures of the fleet."""
POLICY = "fixed:300"
MAX_COST = 0.03
MAX_AGE_S = 1.0
PICTURES = 8
_WATCH = """
new Promise(done => {
  const ages = [];
  let before = document.body.dataset.told, at = performance.now();
  const look = () => {
    if (document.body.dataset.told !== before) {
      const now = performance.now();
      ages.push((now - at) / 1000);
      before = document.body.dataset.told; at = now;
    }
    ages.length < %d ? requestAnimationFrame(look) : done(ages.slice(1));
  };
  look();
})
"""
"""Seconds from one picture that is drawn to the next."""


async def _serve(pipe: Connection) -> None:
    platform = SimulatedPlatform({f"app-{n}": 0.0 for n in range(APPS)}, create_ms=0.0)
    await platform.start()
    health, history = Health(), History()
    metrics = Metrics(health)
    server = ScalerServer(
        make_policy(POLICY),
        f"127.0.0.1:{platform.port}",
        "127.0.0.1:0",
        observers=(metrics, history),
        history=history,
        health=health,
    )
    metrics.watch(server.driver)
    await server.start()
    board = Board(server.driver, history, health, lambda: metrics.model)
    page = Page(metrics, health, "127.0.0.1", 0, board)
    pipe.send(server.port)
    pipe.send(page.port)
    await asyncio.to_thread(pipe.recv)
    page.close()
    await server.stop(1.0)
    await platform.stop()


def _run(pipe: Connection) -> None:
    uvloop.run(_serve(pipe))


class _Listener:
    """A page that is open on one app: reads what comes, as a browser does, and draws nothing."""

    def __init__(self, port: int) -> None:
        self.pictures = 0
        self._port = port

    async def open(self) -> None:
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)
        self._writer.write(b"GET /events?app=app-1 HTTP/1.1\r\nHost: scaler\r\n\r\n")
        self._reading = asyncio.create_task(self._read(reader))

    async def close(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()
        await self._reading

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while line := await reader.readline():
                self.pictures += line == b"event: fleet\n"


async def _cost(server: BackgroundServer, port: int, page: int, rounds: int) -> list[float]:
    """By round, CPU seconds that one picture costs."""
    flood = await connect(port, APPS, 60_000)
    await flood.closed(CALLERS, ROUND_S)
    seen = []
    for turn in range(rounds):
        cpu_s, done = {}, {}
        listener = _Listener(page)
        for is_open in (False, True) if turn % 2 else (True, False):
            if is_open:
                await listener.open()
            before_s = server.cpu_s()
            done[is_open] = (await flood.closed(CALLERS, ROUND_S)).done
            cpu_s[is_open] = server.cpu_s() - before_s
            if is_open:
                await listener.close()
        served_s = done[True] * cpu_s[False] / done[False]
        seen.append((cpu_s[True] - served_s) / listener.pictures)
    return seen


def measure(rounds: int = ROUNDS) -> list[Row]:
    """Two rows: the share of throughput that an open page costs, and the age of what it shows."""
    server = BackgroundServer(_run)
    port, page = server.port, int(server.receive())
    try:
        step(f"what the page costs with {APPS} apps")
        picture_s = statistics.median(uvloop.run(_cost(server, port, page, rounds)))
        label = f"throughput that the live page costs, {APPS} apps"
        rows = [
            Row(label, 100.0 * picture_s / EVERY_S, "%", 100.0 * MAX_COST),
            Row("  CPU of one picture and one app's account", 1_000.0 * picture_s, "ms"),
        ]
        if CHROMIUM is not None:
            step("how soon the page shows what happened")
            with tempfile.TemporaryDirectory() as folder, chromium(Path(folder)) as browser:
                browser.open(f"http://127.0.0.1:{page}/")
                browser.wait_for(f"document.querySelectorAll('#apps tr').length === {APPS}")
                gaps = browser.run(_WATCH % (PICTURES + 1))
            label = "  from one picture to the next, in a browser, median"
            rows.append(Row(label, statistics.median(gaps), "s", MAX_AGE_S))
        return rows
    finally:
        server.stop()


if __name__ == "__main__":
    show(measure(), "the live page")
