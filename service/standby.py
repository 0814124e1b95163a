"""Where a request stands that found every instance of its app in use, before one is started for it.

Calls are read one after another. When some stand unread, the Idle that would give an instance back
may stand among them: instances look in use for longer than they are, starting more costs of the
CPU that is short, more calls stand unread, and yet more instances look in use: a storm of starts
that feeds itself. Hence while Idles are being read, one on the heels of another, a start waits for
those that follow, for MOST_MS at most; whoever stands first has what comes free first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

QUIET_MS = 3.0
"""None was read for so long: none stands unread. A scaler at its limit reads three in one."""
MOST_MS = 300.0
"""Beyond it, it is not for late Idles that instances are in use."""
LOOK_S = 0.001


class Standby:
    """Requests that wait for Idles that may stand unread. One event loop."""

    def __init__(self, now_ms: Callable[[], float]) -> None:
        self._now_ms = now_ms
        self.idle_read_ms = -MOST_MS
        """When an Idle was read last; its owner says so."""
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}
        """Those that stand, by app, in order of arrival."""
        self._called: dict[str, int] = {}
        """How many were told to go on and have not yet, by app."""
        self._watch: asyncio.Task[None] | None = None

    def must_stand(self, now_ms: float, key: str, idle: int) -> bool:
        """Whether to take a turn: an Idle may stand unread, or those stand already whom the app's
        `idle` instances are for."""
        if self._called and idle > self._called.get(key, 0):
            return False
        return key in self._lines or (idle == 0 and now_ms - self.idle_read_ms < QUIET_MS)

    def freed(self, key: str) -> None:
        """An instance of this app is idle: the first that stands for it may have it."""
        line = self._lines.get(key)
        if line is not None:
            line.popleft().set_result(None)
            self._called[key] = self._called.get(key, 0) + 1
            if not line:
                del self._lines[key]

    def let_go(self) -> None:
        """There is nothing to wait for any more."""
        for key in list(self._lines):
            while key in self._lines:
                self.freed(key)

    async def turn(self, key: str) -> None:
        """Returns once an instance of this app is idle and nobody stood before, or it is of no use
        to wait for longer."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._lines.setdefault(key, deque()).append(turn)
        if self._watch is None:
            self._watch = loop.create_task(self._until_quiet())
        try:
            await turn
        except asyncio.CancelledError:  # its caller is gone
            if turn.cancelled():
                self._leave(key, turn)
            else:
                self._came(key)
                self.freed(key)  # for the next
            raise
        self._came(key)

    def _came(self, key: str) -> None:
        if called := self._called[key] - 1:
            self._called[key] = called
        else:
            del self._called[key]

    def _leave(self, key: str, turn: asyncio.Future[None]) -> None:
        line = self._lines[key]
        line.remove(turn)
        if not line:
            del self._lines[key]

    async def _until_quiet(self) -> None:
        """Lets all go that stand, once there is nothing to wait for."""
        latest_ms = self._now_ms() + MOST_MS
        while self._lines:
            now_ms = self._now_ms()
            if now_ms - self.idle_read_ms >= QUIET_MS or now_ms >= latest_ms:
                break
            await asyncio.sleep(LOOK_S)
        self._watch = None
        self.let_go()
