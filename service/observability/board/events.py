"""The live page's files, and its stream of events: the fleet every second, and one app's account."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import TimeoutError as StalledError
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import orjson

from warmscaler.service.explaining.account import as_json
from warmscaler.service.explaining.words import sentences
from warmscaler.service.observability.board.board import Board, told

EVERY_S = 0.5
"""How often a stream tells. What it tells is as old at most."""
FILES = {
    "/": ("board.html", "text/html; charset=utf-8"),
    "/board.css": ("board.css", "text/css; charset=utf-8"),
    "/board.js": ("board.js", "text/javascript; charset=utf-8"),
}
EVENTS = "/events"
APP = "/app"
SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

_T = TypeVar("_T")
OnLoop = Callable[[Callable[[], Any]], Any]
"""Calls something on the event loop and returns what it returns. Raises StalledError."""


class BoardEvents:
    """For the page's threads: however many look on, the fleet is looked at once in EVERY_S."""

    def __init__(self, board: Board, on_loop: OnLoop) -> None:
        self._board = board
        self._on_loop = on_loop
        self._lock = Lock()
        self._fleet = b""
        self._taken_s = -EVERY_S
        self.closed = False

    def stream(self, target: str) -> Iterator[bytes]:
        """The events of one listener; with `?app=KEY` that app's account as well."""
        key = _app(target)
        while not self.closed:
            try:
                yield _event("fleet", self.fleet())
                if key is not None:
                    yield _event("app", self.app(key))
            except StalledError:
                yield _event("stalled", b"{}")
            time.sleep(EVERY_S)

    def fleet(self) -> bytes:
        """The picture, JSON. Raises StalledError."""
        with self._lock:
            now_s = time.monotonic()
            if now_s - self._taken_s >= EVERY_S:
                self._fleet = orjson.dumps(told(self._on_loop(self._board.fleet)))
                self._taken_s = now_s
            return self._fleet

    def app(self, key: str) -> bytes:
        """An app's account and its sentences, JSON; `null` where it is not known."""
        account = self._on_loop(lambda: self._board.account(key))
        if account is None:
            return b"null"
        return orjson.dumps(as_json(account) | {"sentences": sentences(account)})

    def asked(self, target: str) -> bytes:
        """`app` for a target such as `/app?app=KEY`."""
        return self.app(_app(target) or "")


@cache
def file(path: str) -> tuple[str, bytes] | None:
    """Content type and content of one of the page's files; None where there is none."""
    known = FILES.get(path)
    if known is None:
        return None
    name, content_type = known
    return content_type, (Path(__file__).parent / name).read_bytes()


def _app(target: str) -> str | None:
    return parse_qs(urlsplit(target).query).get("app", [None])[0]


def _event(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
