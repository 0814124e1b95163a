"""What was learned online, kept over a restart: written down a little at a time beside the slots."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from warmscaler.service.persistence.ledger import Ledger
from warmscaler.service.scheduler.scheduler import Scheduler

SAVE_S = 30.0
"""So often what was learned of the apps that were called since is written down."""
SLICE_S = 0.0005
PAUSE_S = 0.005
"""The event loop is held for no longer than the one, or one app, and then is free for the other."""
KEEP_MS = 14 * 86_400_000.0
MOST_APPS = 20_000
"""Kept over a restart: what the apps called last have learned."""


class Learning:
    """Between a scheduler's policy and a ledger."""

    def __init__(self, scheduler: Scheduler, ledger: Ledger, now_ms: Callable[[], float]) -> None:
        self._scheduler = scheduler
        self._ledger = ledger
        self._now_ms = now_ms
        self._changed: set[str] = set()

    def changed(self, key: str) -> None:
        """Something was learned of this app."""
        self._changed.add(key)

    def forgotten(self, key: str) -> None:
        """The app is no longer known."""
        self._changed.discard(key)
        self._ledger.forget_learned(key)

    def recall(self) -> None:
        """What an earlier run learned of an app is there when the app is met. Raises LedgerError."""
        most = min(self._scheduler.limits.apps, MOST_APPS)
        self._scheduler.learned = self._ledger.learned(KEEP_MS, most)
        of_all = self._ledger.learned_of_all()
        if of_all is not None:
            with suppress(ValueError):  # damaged: it begins anew
                self._scheduler.policy.recall_of_all(of_all)

    async def keep(self) -> None:
        """Writes it down, over and over."""
        while True:
            await asyncio.sleep(SAVE_S)
            await self.save()

    async def save(self) -> None:
        """Writes down what is not yet."""
        changed, self._changed = self._changed, set()
        of_all = self._scheduler.policy.learned_of_all()
        if of_all is not None:
            self._ledger.save_learned_of_all(of_all)
        try:
            await self._save(changed)
        finally:
            self._changed |= changed  # what a cancelled one has left

    async def _save(self, changed: set[str]) -> None:
        stop_s = time.monotonic() + SLICE_S
        while changed:
            key = changed.pop()
            pool = self._scheduler.pools.get(key)
            learned = None if pool is None else self._scheduler.policy.learned(pool)
            if learned is not None:
                self._ledger.save_learned(self._now_ms(), key, learned)
            if time.monotonic() > stop_s:
                await asyncio.sleep(PAUSE_S)
                stop_s = time.monotonic() + SLICE_S
