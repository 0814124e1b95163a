"""What is measured, and a real Prometheus that measures it; both may go away and come back."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.request import urlopen

import pytest

PATIENCE_S = 30.0
SCRAPE_S = 0.2
CONFIG = """
global:
  scrape_interval: %dms
  scrape_timeout: %dms
scrape_configs:
  - job_name: shop
    static_configs:
      - targets: ["127.0.0.1:%d"]
"""
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="Prometheus is not installed"
)


class Exporter:
    """A service that says how many requests each app of it executes."""

    def __init__(self) -> None:
        self.in_flight: dict[str, float | Callable[[], float]] = {}
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = exporter.page().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with suppress(OSError):  # who scraped was killed
                    self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                """Not worth a line."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        Thread(target=self._server.serve_forever, daemon=True).start()

    def page(self) -> str:
        values = {app: v() if callable(v) else v for app, v in dict(self.in_flight).items()}
        return "".join(f'in_flight{{app="{app}"}} {v}\n' for app, v in values.items())

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Prometheus:
    """Debian's, on a port that it keeps when it is killed and started again."""

    def __init__(self, folder: Path, scraped_port: int, scrape_s: float) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        every_ms = round(1_000 * scrape_s)
        (folder / "prometheus.yml").write_text(CONFIG % (every_ms, every_ms, scraped_port))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        """Returns once it answers."""
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={self.folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={self.data}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            stderr=subprocess.DEVNULL,
        )
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            try:
                with urlopen(f"{self.url}/-/ready", timeout=PATIENCE_S) as reply:  # noqa: S310
                    if reply.status == 200:
                        return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("Prometheus does not come up")

    def kill(self) -> None:
        """As the system does when memory is out."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def exporter() -> Iterator[Exporter]:
    service = Exporter()
    try:
        yield service
    finally:
        service.close()


@contextmanager
def prometheus(folder: Path, scraped_port: int, scrape_s: float = SCRAPE_S) -> Iterator[Prometheus]:
    server = Prometheus(folder, scraped_port, scrape_s)
    try:
        server.start()
        yield server
    finally:
        server.kill()
