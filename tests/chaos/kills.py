"""`make kills`: SIGKILL at random points, and what platform, ledger and scheduler then know."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import uvloop

from tests.chaos.__main__ import Check, show
from tests.chaos.callers import APPS, Books, Callers
from tests.chaos.platform import ChaosPlatform
from tests.chaos.scenario import Scaler, outage
from warmscaler.cli.console import progress
from warmscaler.simulator.platform import Fault

LANES = 6
"""So many scalers at once, each with a platform and a ledger of its own."""
KEEP_S = 2.0
RECLAIM_S = 1.2
"""More than a request runs; less than an idle instance is kept, so that some are left to compare."""
MOST_MS = 400.0
RUN_S = 0.8
RATE = 80.0
AGAIN_SHARE = 0.25
"""So often it is killed once more, while it takes up what the first kill left."""
AGAIN_S = 0.15
AGREE_S = 10.0
"""For so long the three may differ, on their way to the same."""


@dataclass(slots=True)
class Killed:
    """What came of all kills."""

    books: Books = field(default_factory=Books)
    kills: int = 0
    kills_while_recovering: int = 0
    compared: int = 0
    slots_compared: int = 0
    """Slots there were, over all comparisons but those after a whole window."""
    disagreements: list[str] = field(default_factory=list)
    slots: int = 0
    live_slots: int = 0
    ledger_rows: int = 0
    exits: list[int] = field(default_factory=list)
    unknown_slots: int = 0
    tracebacks: int = 0


async def kill_over_and_over(folder: Path, count: int, seed: int, killed: Killed) -> None:
    """One lane: `count` kills, and after each restart two comparisons."""
    random = Random(seed)
    delays = Random(seed + 1)
    books = killed.books
    platform = ChaosPlatform(
        dict.fromkeys((f"app-{number}" for number in range(APPS)), 40.0),
        create_ms=25.0,
        faults=lambda _: Fault(delay_s=0.04 * delays.random()),
        on_destroy=books.destroyed,
    )
    await platform.start()
    scaler = Scaler(folder, platform.port, policy=f"fixed:{KEEP_S:g}", reclaim_s=RECLAIM_S)
    await scaler.start()
    for turn in range(count):
        name = f"{seed}-{turn}"
        callers = Callers(
            f"127.0.0.1:{scaler.port}", books, seed + turn, most_ms=MOST_MS, name=name
        )
        await callers.ready()
        calling = asyncio.create_task(callers.call_for(RUN_S, RATE))
        await asyncio.sleep(RUN_S * random.random())
        with outage(books, 0.5):
            scaler.kill()
            killed.kills += 1
            calling.cancel()
            await scaler.start()
            if random.random() < AGAIN_SHARE:
                await asyncio.sleep(AGAIN_S * random.random())
                scaler.kill()
                killed.kills_while_recovering += 1
                await scaler.start()
            await callers.finish()
        await asyncio.sleep(RECLAIM_S)
        killed.slots_compared += await agree(scaler, platform, killed, f"kill {name}")
        await asyncio.sleep(KEEP_S)
        await agree(scaler, platform, killed, f"kill {name}, a window later", left=0)
    killed.exits.append(await scaler.terminate())
    killed.slots += len(platform.slots)
    killed.live_slots += platform.live_slots
    killed.ledger_rows += len(scaler.rows())
    killed.unknown_slots += platform.misuse.unknown_slots
    killed.tracebacks += scaler.log.read_text().count("Traceback")
    await platform.stop()


async def agree(
    scaler: Scaler, platform: ChaosPlatform, killed: Killed, when: str, left: int | None = None
) -> int:
    """Compares platform, ledger and scheduler; returns how many slots they agree on."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + AGREE_S
    killed.compared += 1
    while True:
        known = await asyncio.to_thread(scaler.slots)
        rows = scaler.rows()
        live = {name for name, slot in platform.slots.items() if slot.destroyed_s is None}
        if set(rows) == live and len(rows) == known and left in (None, known):
            return known
        if loop.time() > end_s:
            told = f"{when}: platform {len(live)}, ledger {len(rows)}, scheduler {known}"
            killed.disagreements.append(told)
            return 0
        await asyncio.sleep(0.1)


async def kills(folder: Path, *, count: int, seed: int = 1, lanes: int = LANES) -> Killed:
    """`count` kills spread over the lanes."""
    killed = Killed()

    async def lane(number: int) -> None:
        own = folder / str(number)
        own.mkdir()
        share = count // lanes + (number < count % lanes)
        if share:
            await kill_over_and_over(own, share, seed + 100_000 * number, killed)

    async def watch() -> None:
        with progress("killing", count) as show_progress:
            while True:
                show_progress(killed.kills)
                await asyncio.sleep(0.5)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(lane(number) for number in range(lanes)))
    watching.cancel()
    return killed


def checks(killed: Killed) -> list[Check]:
    """What must hold after every kill, and at the end."""
    books, answers = killed.books, killed.books.answers

    def none(name: str, count: int, of: int | None = None) -> Check:
        return Check(name, "0" if of is None else f"0 of {of:,}", f"{count:,}", count == 0)

    return [
        none(
            "comparisons where platform, ledger and scheduler differ",
            len(killed.disagreements),
            killed.compared,
        ),
        none("slots leaked, by the platform's account", killed.live_slots, killed.slots),
        none("slots left in the ledger", killed.ledger_rows),
        none("instances given twice", books.given_twice),
        none("instances destroyed while in use", books.taken_away),
        none("requests unanswered", answers["unanswered"], answers.total()),
        none("requests failed though it was not killed", answers["failed without a fault"]),
        none("calls for slots that never were", killed.unknown_slots),
        none("exceptions in the log", killed.tracebacks),
        none("exit codes after SIGTERM", sum(map(abs, killed.exits))),
    ]


def main() -> int:
    """Exit code 0 where all holds."""
    parser = argparse.ArgumentParser(prog="make kills")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        killed = uvloop.run(kills(Path(folder), count=options.count, seed=options.seed))
    notes: dict[str, object] = {
        "kills": f"{killed.kills}, and {killed.kills_while_recovering} right after a restart",
        "slots compared": killed.slots_compared,
        "answers": dict(killed.books.answers),
        "disagreements": killed.disagreements[:10],
        "failed though it was not killed": killed.books.wrong[:10],
    }
    return show(f"SIGKILL at {options.count} points", checks(killed), notes, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
