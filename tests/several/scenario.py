"""Two scalers behind Envoy; one is killed under load, and comes back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.service.running import PATIENCE_S, Process, scaler
from tests.several.envoy import Envoy, envoy, free_port
from tests.several.load import Failure, Load
from warmscaler.simulator.platform import PlatformSlot, SimulatedPlatform

CREATE_MS = 5.0
SERVED_PER_S = 50.0
"""An app is to be served again after this at the latest, however busy the machine."""


@dataclass
class Seen:
    """What came of it."""

    load: Load
    shares: dict[int, int] = field(default_factory=dict)
    """Apps of each scaler before the kill."""
    killed_s: float = 0.0
    """When the process was gone."""
    lost: int = 0
    """The scaler that was killed."""
    moved_wrongly: list[tuple[str, int, int]] = field(default_factory=list)
    """Apps that changed their scaler though theirs was there."""
    alive: int = 0
    """Slots of the lost one when it died."""
    given_back: int = 0
    """Of them, by the next run on its ledger: served from again, then destroyed as it drains."""
    came_back: int = 0
    """Apps of it that its next run serves."""
    misuse: int = 0
    left: int = 0
    """Slots at the platform when all had drained."""

    def not_in_flight(self) -> list[Failure]:
        """Failures of calls that were not at the lost one when it died."""
        return [
            each
            for each in self.load.failures
            if each.sent_s > self.killed_s or each.scaler not in (0, self.lost)
        ]


class Scenario:
    """Two scalers, each with its ledger, one platform, Envoy, and load."""

    def __init__(self, folder: Path, apps: int, callers: int) -> None:
        self._folder, self._apps = folder, apps
        self._drain_s = 6.0 + apps / 100.0
        init_ms = {f"app-{number}": 5.0 for number in range(apps)}
        self._platform = SimulatedPlatform(init_ms, create_ms=CREATE_MS)
        self._ports = [free_port(), free_port()]
        self._load = Load(apps, callers)
        self._of_lost: list[str] = []
        self._slots: list[PlatformSlot] = []

    async def run(self, warm_s: float, after_s: float) -> Seen:
        """`warm_s` before the kill once every app was served, `after_s` after it."""
        seen = Seen(self._load)
        await self._platform.start()
        with ExitStack() as stack:
            processes = [await self._start(stack, 0), await self._start(stack, 1)]
            front = await asyncio.to_thread(
                lambda: stack.enter_context(envoy(self._folder, self._ports))
            )
            calling = asyncio.create_task(self._load.run(front.address))
            try:
                await self._kill(seen, processes[0], warm_s, after_s)
                processes[0] = await self._start(stack, 0)
                await self._come_back(seen, front)
            finally:
                self._load.ended = True
                await calling
            await asyncio.gather(*(asyncio.to_thread(self._end, each) for each in processes))
        misuse = self._platform.misuse
        seen.misuse = misuse.unknown_slots + misuse.init_of_destroyed + misuse.init_twice
        seen.left = self._platform.live_slots
        seen.given_back = sum(slot.destroyed_s is not None for slot in self._slots)
        await self._platform.stop()
        return seen

    def _end(self, process: Process) -> None:
        process.process.terminate()
        process.process.wait(PATIENCE_S + self._drain_s)

    async def _start(self, stack: ExitStack, number: int) -> Process:
        options = ("--platform", f"127.0.0.1:{self._platform.port}", "--policy", "fixed:600")
        # What was in use at the lost one hears no Idle any more.
        ledger = (
            "--ledger",
            self._folder / f"ledger-{number}",
            "--reclaim",
            5,
            "--drain",
            self._drain_s,
        )
        process = stack.enter_context(scaler(*options, *ledger, "--port", self._ports[number]))
        await asyncio.to_thread(process.until, "serving on port")
        return process

    async def _kill(self, seen: Seen, process: Process, warm_s: float, after_s: float) -> None:
        load = self._load
        await self._until(lambda: len(load.at) == self._apps)
        await asyncio.sleep(warm_s)
        seen.moved_wrongly, first = list(load.moves), len(load.moves)
        seen.shares = dict(Counter(load.at.values()))
        seen.lost = self._ports[0]
        self._of_lost = [app for app, scaler in load.at.items() if scaler == seen.lost]
        process.process.kill()
        await asyncio.to_thread(process.process.wait)
        seen.killed_s = time.monotonic()
        self._slots = [
            slot
            for slot in self._platform.slots.values()
            if slot.meta_key in self._of_lost and slot.destroyed_s is None
        ]
        seen.alive = len(self._slots)
        await asyncio.sleep(after_s)
        await self._until(lambda: seen.lost not in load.at.values())
        seen.moved_wrongly += [each for each in load.moves[first:] if each[1] != seen.lost]

    async def _come_back(self, seen: Seen, front: Envoy) -> None:
        load = self._load
        await asyncio.to_thread(front.until_healthy, {"scaler-0", "scaler-1"})
        await self._until(lambda: all(load.at[app] == seen.lost for app in self._of_lost))
        seen.came_back = sum(load.at[app] == seen.lost for app in self._of_lost)

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S + self._apps / SERVED_PER_S):
            while not holds():  # noqa: ASYNC110 - nobody tells us
                await asyncio.sleep(0.05)
