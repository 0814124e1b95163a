"""What ledger, metrics and recording cost: requests a CPU second of the server, with and without.

By CPU and not by the clock, so that what else the machine does counts for little: a server that
does nothing else is done with requests as fast as its CPU lets it.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop

from tests.bench.service_cost import APPS, BackgroundServer, serve_scaler
from tests.bench.table import Row, show, step
from tests.chaos.flood import Flood, connect
from warmscaler.service.persistence.ledger import Ledger
from warmscaler.service.persistence.recording import Recorder

STARTS = 10
"""Each with new processes: one and the same program is up to a tenth faster in one process than in
the next, which "off again" shows."""
ROUNDS = 6
ROUND_S = 0.5
CALLERS = 48
DESTROY_EVERY = 50
"""One request in so many ends its instance: the next one makes the ledger write."""
ALL_SHARE = 0.75
"""Of the throughput without any, with all of them on and one start in DESTROY_EVERY requests."""
POLICY = "fixed:300"


def _off(pipe: Connection) -> None:
    uvloop.run(serve_scaler(pipe, POLICY))


def _on(pipe: Connection, *, with_metrics: bool = False, records: bool = False) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger")
        recorder = Recorder(Path(folder) / "recording") if records else None
        uvloop.run(
            serve_scaler(pipe, POLICY, with_metrics=with_metrics, ledger=ledger, recorder=recorder)
        )


SERVERS: dict[str, Callable[[Connection], None]] = {
    "off": _off,
    "off again": _off,
    "ledger": _on,
    "both": partial(_on, with_metrics=True),
    "all": partial(_on, with_metrics=True, records=True),
}
ROWS = {
    "off again": ("without any, once more", None),
    "ledger": ("with the ledger", None),
    "both": ("with ledger and metrics", None),
    "all": ("with ledger, metrics and recording", ALL_SHARE),
}


async def _rounds(
    servers: dict[str, BackgroundServer], destroy_every: int, rounds: int, round_s: float
) -> dict[str, list[float]]:
    """Requests a CPU second of each server, by round; they take turns within a round."""
    floods: dict[str, Flood] = {}
    for name, server in servers.items():
        floods[name] = await connect(server.port, APPS, 60_000, destroy_every)
        await floods[name].closed(CALLERS, round_s)
    seen: dict[str, list[float]] = {name: [] for name in servers}
    turns = list(servers.items())
    for _ in range(rounds):
        turns.append(turns.pop(0))
        for name, server in turns:
            before_s = server.cpu_s()
            done = (await floods[name].closed(CALLERS, round_s)).done
            seen[name].append(done / (server.cpu_s() - before_s))
    return seen


def measure(starts: int = STARTS, rounds: int = ROUNDS, round_s: float = ROUND_S) -> list[Row]:
    """The medians, over all rounds, of a server's throughput against one without any."""
    rows = []
    for destroy_every, what in ((0, "warm"), (DESTROY_EVERY, f"1 start in {DESTROY_EVERY}")):
        step(f"what ledger, metrics and recording cost, {what}")
        seen: dict[str, list[float]] = {name: [] for name in SERVERS}
        for _ in range(starts):
            servers = {name: BackgroundServer(target) for name, target in SERVERS.items()}
            try:
                for name, rates in uvloop.run(
                    _rounds(servers, destroy_every, rounds, round_s)
                ).items():
                    seen[name] += rates
            finally:
                for server in servers.values():
                    server.stop()
        base = seen["off"]
        for name, (about, target) in ROWS.items():
            shares = [own / off for own, off in zip(seen[name], base, strict=True)]
            label = f"throughput {about}, of without, {what}"
            wanted = target if destroy_every else None
            rows.append(Row(label, statistics.median(shares), "", wanted, False))
        rows.append(Row(f"  without, {what}: requests a CPU second", statistics.median(base), "/s"))
    return rows


def main() -> int:
    """Exit code 1 where a target is missed."""
    rows = measure()
    show(rows, "ledger, metrics and recording")
    return 1 if any(row.met is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
