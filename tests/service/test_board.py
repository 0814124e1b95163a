"""The live page, in a real browser, over a real service."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.browser import chromium
from tests.service.running import Served, assign, done, get, served
from warmscaler.models.published.fixed import Fixed
from warmscaler.service.explaining.history import History
from warmscaler.service.front.server import ScalerServer
from warmscaler.service.observability.board.board import APP_COLUMNS, Board
from warmscaler.service.observability.health import Health
from warmscaler.service.observability.metrics import Metrics
from warmscaler.service.observability.page import Page
from warmscaler.service.proto import scaler_pb2 as pb

KEY = '<img src=x onerror="alert(1)">&app'


class Watched:
    """What the operator's page needs, around a scaler of this process."""

    def __init__(self) -> None:
        self.health = Health()
        self.metrics = Metrics(self.health)
        self.metrics.set_model({"policy": "fixed:300", "version": "abc"})
        self.history = History()

    def page(self, server: ScalerServer) -> Page:
        self.metrics.watch(server.driver)
        board = Board(server.driver, self.history, self.health, lambda: self.metrics.model)
        return Page(self.metrics, self.health, "127.0.0.1", 0, board)


async def call(world: Served, key: str, request_id: str) -> None:
    meta = pb.Meta(key=key, runtime="go", timeout_in_secs=60, memory_in_mb=256)
    reply = await world.stub.Assign(assign(request_id, meta))
    await world.stub.Idle(done(reply.assigment))


def rows(fleet: dict[str, Any]) -> dict[str, dict[str, Any]]:
    assert fleet["columns"] == list(APP_COLUMNS)
    return {row[0]: dict(zip(fleet["columns"], row, strict=True)) for row in fleet["apps"]}


def test_tells_what_was_served_and_only_text(tmp_path: Path) -> None:
    asyncio.run(_tells(tmp_path))


async def _tells(tmp_path: Path) -> None:
    watched = Watched()
    observers = (watched.metrics, watched.history)
    async with served(Fixed(300.0), observers=observers, health=watched.health) as world:
        with closing(watched.page(world.server)) as page:
            world.platform.init_ms = {"app": 1.0, KEY: 1.0}
            for number in range(5):
                await call(world, KEY, f"r{number}")
            await call(world, "app", "other")
            url = f"http://127.0.0.1:{page.port}"
            status, text = await asyncio.to_thread(get, f"{url}/app?app=app")
            account = json.loads(text)
            assert status == 200
            assert (account["requests"], account["cold"]) == (1, 1)
            assert [each["cause"] for each in account["cold_starts"]] == ["first"]
            assert [each["state"] for each in account["instances"]] == ["idle"]
            assert "app is up, 1 idle" in account["sentences"][0]
            assert (await asyncio.to_thread(get, f"{url}/app?app=nobody"))[1] == "null"
            seen = await asyncio.to_thread(look, url, tmp_path)
    mine = rows(seen["fleet"])[KEY]
    assert (mine["requests"], mine["cold"], mine["idle"], mine["memory_mb"]) == (5, 1, 1, 256)
    assert seen["fleet"]["about"] == {"policy": "fixed:300", "version": "abc"}
    assert seen["told"] > 1
    assert seen["errors"] == []


def look(url: str, folder: Path) -> dict[str, Any]:
    with chromium(folder / "browser") as browser:
        for width, dark in ((500, True), (1_200, False)):
            browser.open(f"{url}/", width=width, dark=dark)
            browser.wait_for("document.querySelectorAll('#apps tr').length === 2")
            assert browser.run("document.querySelector('#status').textContent") == "ready"
            assert browser.run("document.documentElement.scrollWidth") <= width
            link = f"[...document.querySelectorAll('#apps a')].find(a => a.title === {KEY!r})"
            browser.run(f"{link}.click()")
            browser.wait_for("document.querySelectorAll('#sentences li').length > 2")
            assert browser.run("document.querySelector('#one-name').textContent") == KEY
            assert browser.run("document.querySelectorAll('#timeline rect').length") > 2
            assert browser.run("document.querySelectorAll('main img').length") == 0
        browser.run("window.tellings = new Set()")
        browser.wait_for(
            "window.tellings.add(document.body.dataset.told) && window.tellings.size > 1"
        )
        return {
            "fleet": browser.run("fleet"),
            "told": browser.run("window.tellings.size"),
            "errors": browser.errors,
        }
