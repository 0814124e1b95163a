"""The contest's statistics page: one JSON object over HTTP, while the simulator runs."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import orjson


class StatisticsPage:
    """Serves what `statistics` returns at http://127.0.0.1:`port`/ from a thread of its own."""

    def __init__(self, statistics: Callable[[], dict[str, object]], port: int = 9000) -> None:
        """Listens at once; raises OSError where it cannot. Port 0 lets the system choose."""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.wfile.write(self._begin())

            def do_HEAD(self) -> None:
                self._begin()

            def _begin(self) -> bytes:
                body = orjson.dumps(statistics())
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                return body

            def log_message(self, *_: Any) -> None:
                pass  # a page polled every second would fill the terminal

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_port
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stops listening: to the contest's scripts that means the run is over."""
        self._server.shutdown()
        self._server.server_close()
