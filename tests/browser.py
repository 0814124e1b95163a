"""Debian's chromium, driven over its DevTools protocol; tests that want it are skipped without it.

The protocol is spoken over a pipe (`--remote-debugging-pipe`): JSON, each message ended by a NUL.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE_S = 15
LIMIT_S = 90.0
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)


class Browser:
    """One page of one browser."""

    def __init__(self, reads: Any, writes: Any) -> None:
        self._reads = reads
        self._writes = writes
        self._last = 0
        self._session: str | None = None
        self.errors: list[str] = []
        """What scripts of the page threw, or logged as errors."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a method of the protocol."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._writes.write(json.dumps(message).encode() + b"\0")
        self._writes.flush()
        while True:
            answer = self._next()
            if answer.get("id") == self._last:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, url: str, *, width: int = 1_000, dark: bool = False) -> None:
        """Goes to `url` and waits until it is loaded."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState !== 'loading'")

    def run(self, script: str) -> Any:
        """The value of an expression, awaited where it is a promise."""
        said = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Until an expression is true. The test's own time limit ends it otherwise."""
        ask = (
            "new Promise(yes => { const look = () => (%s) ? yes() : setTimeout(look, 20); look() })"
        )
        self.run(ask % condition)

    def point(self, selector: str, *, click: bool = False) -> None:
        """Moves the mouse to the middle of an element."""
        # A scroll is told to the page with the next frame, and hides what was shown before.
        where = self.run(
            f"(async () => {{ const e = document.querySelector({selector!r});"
            " e.scrollIntoView({block: 'center'});"
            " for (let n = 0; n < 2; n++) await new Promise(requestAnimationFrame);"
            " const b = e.getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        at = {"x": where[0], "y": where[1]}
        self.call("Input.dispatchMouseEvent", type="mouseMoved", **at)
        for kind in ("mousePressed", "mouseReleased") if click else ():
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)

    def _next(self) -> dict[str, Any]:
        message = bytearray()
        while (byte := self._reads.read(1)) != b"\0":
            assert byte, "chromium is gone"
            message += byte
        answer: dict[str, Any] = json.loads(message)
        said = answer.get("params", {})
        if answer.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(said["exceptionDetails"]))
        if answer.get("method") == "Log.entryAdded" and said["entry"]["level"] == "error":
            self.errors.append(str(said["entry"]))
        return answer


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A browser with its files in `folder`. Skips the test where there is none."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    to_browser, from_us = os.pipe()
    to_us, from_browser = os.pipe()
    command = [CHROMIUM, *_OPTIONS, f"--user-data-dir={folder}"]
    shell = f'exec "$@" 3<&{to_browser} 4>&{from_browser}'
    process = subprocess.Popen(
        ["bash", "-c", shell, "bash", *command],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    # Reads from the pipe end when it is gone.
    limit = threading.Timer(LIMIT_S, process.kill)
    limit.start()
    try:
        with os.fdopen(to_us, "rb") as reads, os.fdopen(from_us, "wb") as writes:
            yield Browser(reads, writes)
    finally:
        limit.cancel()
        process.kill()
        process.wait()
