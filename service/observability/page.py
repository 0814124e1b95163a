"""HTTP for operators: /metrics for Prometheus, /healthz for whoever probes, / for people."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import TimeoutError as StalledError
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Protocol, TypeVar

import orjson
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from warmscaler.service.address import Address
from warmscaler.service.observability.board.board import Board
from warmscaler.service.observability.board.events import (
    APP,
    EVENTS,
    SECURITY,
    BoardEvents,
    file,
)
from warmscaler.service.observability.health import Health

JSON = "application/json"
LOOP_TIMEOUT_S = 2.0
"""An event loop that answers nothing for so long is stalled."""
MAX_CONNECTIONS = 32
SOCKET_TIMEOUT_S = 5.0

_T = TypeVar("_T")


class Collects(Protocol):
    """Metrics as they are now; asked on the event loop."""

    def collect(self) -> Iterable[Metric]: ...


class PageInUse(Exception):
    """The page's address cannot be listened on; its text says which."""


class Page:
    """Listens from its making to `close`, on threads of its own; reads state on the event loop.

    So it sees state that is never torn, and a loop that is stalled shows as 503.
    """

    def __init__(
        self, metrics: Collects, health: Health, host: str, port: int, board: Board | None = None
    ) -> None:
        """Made on the event loop. Port 0 lets the system choose; without `board` there is no live
        page. Raises PageInUse."""
        self._loop = asyncio.get_running_loop()
        self._metrics = metrics
        self._health = health
        self._process = ProcessCollector(registry=None)
        self._events = None if board is None else BoardEvents(board, self._call_on_loop)
        page = self

        class Handler(_Handler):
            answer = staticmethod(page.answer)
            stream = staticmethod(page.stream)

        where = Address(host, port)
        try:
            # A name may stand for addresses of either kind, `localhost` for both.
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            family, *_, address = min(found, key=lambda each: each[0] != socket.AF_INET)
            self._server = _Server(family, address, Handler)
        except (OSError, OverflowError, UnicodeError):
            raise PageInUse(
                f"{where}: cannot serve metrics there; is the port in use, or the address not"
                " this machine's?"
            ) from None
        self.port: int = self._server.server_address[1]
        Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def close(self) -> None:
        """Listens no more. Blocks for as long as half a second."""
        if self._events is not None:
            self._events.closed = True
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, accept: str) -> tuple[HTTPStatus, str, bytes]:
        """Status, content type and body for a GET. On any thread but the event loop's."""
        target = path
        path = path.partition("?")[0]
        try:
            if self._events is not None:
                if (found := file(path)) is not None:
                    return HTTPStatus.OK, *found
                if path == APP:
                    return HTTPStatus.OK, JSON, self._events.asked(target)
            if path == "/healthz":
                return self._on_loop(self._healthz())
            if path == "/metrics":
                families = self._on_loop(self._families())
                encoder, content_type = choose_encoder(accept)
                registry = CollectorRegistry()
                registry.register(_Collected(families))
                registry.register(self._process)
                return HTTPStatus.OK, content_type, encoder(registry)
        except StalledError:
            return _json(HTTPStatus.SERVICE_UNAVAILABLE, {"status": "stalled"})
        return _json(HTTPStatus.NOT_FOUND, {"error": "there are /metrics and /healthz"})

    def stream(self, path: str) -> Iterator[bytes] | None:
        """The body of a GET that does not end, piece by piece; None where it is none."""
        if self._events is None or path.partition("?")[0] != EVENTS:
            return None
        return self._events.stream(path)

    def _call_on_loop(self, what: Callable[[], _T]) -> _T:
        async def work() -> _T:
            return what()

        return self._on_loop(work())

    def _on_loop(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(LOOP_TIMEOUT_S)

    async def _families(self) -> list[Metric]:
        return list(self._metrics.collect())

    async def _healthz(self) -> tuple[HTTPStatus, str, bytes]:
        health = self._health
        status = HTTPStatus.OK if health.serves else HTTPStatus.SERVICE_UNAVAILABLE
        return _json(status, {"status": health.status, "problems": dict(health.problems)})


class _Collected(Collector):
    """Metrics collected already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


class _Server(ThreadingHTTPServer):
    """One thread a connection, of which there are only so many."""

    daemon_threads = True
    allow_reuse_port = False

    def __init__(self, family: socket.AddressFamily, *arguments: Any) -> None:
        self.address_family = family
        self._open: dict[Any, None] = {}
        """Connections, the oldest first."""
        self._lock = Lock()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            if len(self._open) >= MAX_CONNECTIONS:
                # An answer takes milliseconds: who is there the longest only keeps others out.
                oldest = next(iter(self._open))
                del self._open[oldest]
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)
            self._open[request] = None
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._open.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that broke off: nobody's business."""


class _Handler(BaseHTTPRequestHandler):
    timeout = SOCKET_TIMEOUT_S
    server_version = "scaler"
    sys_version = ""
    answer: Callable[[str, str], tuple[HTTPStatus, str, bytes]]
    stream: Callable[[str], Iterator[bytes] | None]

    def do_GET(self) -> None:
        pieces = self.stream(self.path)
        if pieces is None:
            self.wfile.write(self._begin())
            return
        self._head(HTTPStatus.OK, "text/event-stream")
        self.end_headers()
        with suppress(OSError):  # who listened has gone
            for piece in pieces:
                self.wfile.write(piece)

    def do_HEAD(self) -> None:
        self._begin()

    def _begin(self) -> bytes:
        """Sends all but the body, which it returns."""
        status, content_type, body = self.answer(self.path, self.headers.get("Accept", ""))
        self._head(status, content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return body

    def _head(self, status: HTTPStatus, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        for name, value in SECURITY.items():
            self.send_header(name, value)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Scrapes are not worth a line, and what callers send least of all."""


def _json(status: HTTPStatus, value: object) -> tuple[HTTPStatus, str, bytes]:
    return status, JSON, orjson.dumps(value) + b"\n"
