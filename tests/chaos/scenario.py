"""One scaler after another over the same ledger, under load, on a platform that goes wrong."""

from __future__ import annotations

import asyncio
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.chaos.callers import AFTER_S, APPS, Books, Callers
from tests.chaos.platform import ChaosPlatform, Dice
from tests.chaos.tenants import CLINGING, HANGS_S, SLOW, Tenants
from tests.service.running import get

RECLAIM_S = 4.0
"""More than a request runs and the scaler is down; the window after which all must agree."""
KEEP_S = 2.0
POLICY = f"fixed:{KEEP_S:g}"
PLATFORM_DOWN_S = 2.0
INIT_MS = 120.0
CREATE_MS = 60.0


@dataclass(slots=True)
class Outcome:
    """What a run left behind."""

    books: Books = field(default_factory=Books)
    kills: int = 0
    platform_restarts: int = 0
    slots: int = 0
    live_slots: int = 0
    ledger_rows: int = 0
    exit_code: int | None = None
    unknown_slots: int = 0
    calls: int = 0
    calls_failed: int = 0
    calls_slow: int = 0
    tracebacks: int = 0
    recovery_s: list[float] = field(default_factory=list)
    tenants: dict[str, int] = field(default_factory=dict)
    """What those in trouble heard."""


class Scaler:
    """`scaler serve` on one port and one ledger, killed and started again."""

    def __init__(
        self,
        folder: Path,
        platform_port: int,
        *more: str,
        policy: str = POLICY,
        reclaim_s: float = RECLAIM_S,
    ) -> None:
        self.port = free_port()
        self.metrics_port = free_port()
        self.ledger = folder / "ledger"
        self.log = folder / "scaler.log"
        self._command = [sys.executable, "-m", "warmscaler", "serve", "--port", str(self.port)]
        self._command += ["--platform", f"127.0.0.1:{platform_port}", "--policy", policy]
        self._command += ["--ledger", str(self.ledger), "--reclaim", str(reclaim_s)]
        self._command += ["--metrics-port", str(self.metrics_port), "--log-level", "error", *more]
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Returns when it listens."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stderr=log)  # noqa: ASYNC220
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return
            except OSError:
                assert self._process.poll() is None, self.log.read_text()
                await asyncio.sleep(0.02)

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL: nothing more is written, nobody is told."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    async def terminate(self) -> int:
        """SIGTERM: it drains. Returns its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self._process.wait, 60.0)

    def rows(self) -> list[str | None]:
        """Slots in the ledger: the id of each, None where it is not known yet."""
        with closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True)) as database:
            return [slot for (slot,) in database.execute("SELECT slot_id FROM slots")]

    def slots(self) -> int:
        """Slots that the scheduler knows, by the metrics."""
        _, text = get(f"http://127.0.0.1:{self.metrics_port}/metrics")
        lines = [line for line in text.splitlines() if line.startswith("scaler_slots{")]
        return round(sum(float(line.rsplit(" ", 1)[1]) for line in lines))


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def outage(books: Books, after_s: float) -> Iterator[None]:
    """Until some time after it ends, requests are excused."""
    begin = time.monotonic()
    books.outages.append((begin, float("inf")))
    place = len(books.outages) - 1
    yield
    books.outages[place] = (begin, time.monotonic() + after_s)


async def chaos(
    folder: Path,
    *,
    duration_s: float,
    rate: float = 60.0,
    kills: int = 5,
    platform_restarts: int = 2,
    seed: int = 1,
    pace: float = 1.0,
) -> Outcome:
    """Load for `duration_s`; kills and restarts at random times spread over it; then the end."""
    outcome = Outcome()
    books = outcome.books
    dice = Dice(seed)
    platform = ChaosPlatform(
        dict.fromkeys(
            (*(f"app-{number}" for number in range(APPS)), SLOW.key, CLINGING.key), INIT_MS
        ),
        create_ms=CREATE_MS,
        on_destroy=books.destroyed,
    )
    await platform.start()
    scaler = Scaler(folder, platform.port)
    await scaler.start()
    callers = Callers(f"127.0.0.1:{scaler.port}", books, seed + 1)
    await callers.ready()
    tenants = Tenants(f"127.0.0.1:{scaler.port}", dice, seed + 3, pace)
    tenants.of(platform)
    tenants.start()

    async def disturb() -> None:
        random = Random(seed + 2)
        what = ["kill"] * kills + ["platform"] * platform_restarts
        random.shuffle(what)
        span_s = duration_s / (len(what) + 1)
        began_s = time.monotonic()
        for turn, each in enumerate(what, start=1):
            due_s = began_s + span_s * (turn + random.uniform(-0.3, 0.3))
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            if each == "kill":
                with outage(books, 0.5):
                    scaler.kill()
                    outcome.kills += 1
                    down_s = time.monotonic()
                    await scaler.start()
                    await callers.ready()
                    outcome.recovery_s.append(time.monotonic() - down_s)
            else:
                with outage(books, AFTER_S):
                    await platform.restart(PLATFORM_DOWN_S)
                    outcome.platform_restarts += 1

    disturbing = asyncio.create_task(disturb())
    await callers.call_for(duration_s, rate)
    await disturbing
    await callers.finish()
    await tenants.stop()
    await asyncio.sleep(RECLAIM_S + KEEP_S + 3.0)  # one window: whoever is gone is known to be
    dice.on = False
    outcome.tenants = dict(tenants.answers)
    # What hangs hangs for as long as it was to, and is tried again after that.
    end_s = time.monotonic() + 2.0 * HANGS_S
    while (platform.live_slots or scaler.rows()) and time.monotonic() < end_s:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    outcome.exit_code = await scaler.terminate()
    outcome.slots, outcome.live_slots = len(platform.slots), platform.live_slots
    outcome.ledger_rows = len(scaler.rows())
    outcome.unknown_slots = platform.misuse.unknown_slots
    outcome.calls, outcome.calls_failed, outcome.calls_slow = dice.calls, dice.failed, dice.slow
    outcome.tracebacks = scaler.log.read_text().count("Traceback")
    await platform.stop()
    return outcome
