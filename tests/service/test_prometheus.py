"""The metrics as a real Prometheus sees them: scraped by it, and asked for as the dashboard asks."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.service.running import PATIENCE_S, Served, assign, done, get
from tests.service.test_metrics import DASHBOARD, with_metrics
from warmscaler.models.published.fixed import Fixed
from warmscaler.service.observability.page import Page

CONFIG = """
global:
  scrape_interval: 200ms
  scrape_timeout: 200ms
scrape_configs:
  - job_name: scaler
    static_configs:
      - targets: ["%s"]
"""

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="Prometheus is not installed"
)


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """One that scrapes `target`; yields its page."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    config = folder / "prometheus.yml"
    config.write_text(CONFIG % target)
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    command.append(f"--web.listen-address={address}")
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def ask(page: str, query: str, enough: int = 0) -> list[dict[str, Any]]:
    """What a query finds, once it listens and finds so much."""
    end_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < end_s:
        try:
            status, body = get(f"{page}/api/v1/query?query={quote(query)}")
        except OSError:
            status, body = 0, "it does not listen"
        if status not in (0, 503):
            assert status == 200, (query, body)
            found: list[dict[str, Any]] = json.loads(body)["data"]["result"]
            if len(found) >= enough:
                return found
        time.sleep(0.1)
    raise AssertionError(f"{query}: {body}")


def test_a_real_prometheus_scrapes_and_answers_the_dashboard(tmp_path: Path) -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [
        target["expr"].replace("$job", "scaler").replace("$__rate_interval", "1m")
        for panel in panels
        for target in panel.get("targets", ())
    ]
    [of_results] = [query for query in queries if "scaler_completions_total" in query]

    async def work(here: Served, page: Page) -> None:
        for number in range(4):
            reply = await here.stub.Assign(assign(str(number)))
            await here.stub.Idle(done(reply.assigment, need_destroy=number == 3))
        with prometheus(tmp_path, f"127.0.0.1:{page.port}") as asked:
            found = await asyncio.to_thread(ask, asked, "scaler_completions_total", 2)
            by_result = {each["metric"]["result"]: float(each["value"][1]) for each in found}
            assert by_result == {"good": 3.0, "bad": 1.0}
            # What it puts on every sample it scrapes is left alone.
            assert {each["metric"]["instance"] for each in found} == {f"127.0.0.1:{page.port}"}
            found = await asyncio.to_thread(ask, asked, of_results, 2)
            assert {each["metric"]["result"] for each in found} == {"good", "bad"}
            for query in queries:
                await asyncio.to_thread(ask, asked, query)

    asyncio.run(with_metrics(work, Fixed(300.0)))
