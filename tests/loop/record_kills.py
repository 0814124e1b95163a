"""`make record-kills`: SIGKILL at random points of a process that records, as often as asked for.

The process closes a segment more than once a second, so that kills meet it while it writes the
journal, while it closes a segment and while it folds what the one before it left open. It says when
it was told of each record; what is missing in the end is what the kill cost.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

from tests.bench.table import Row, show, step
from tests.service.test_recording import START_MS, kill_at
from warmscaler.data.files import PARTIAL
from warmscaler.data.read import read_trace
from warmscaler.data.recording import JOURNAL, SEGMENT, read_recording
from warmscaler.data.seal import is_whole
from warmscaler.service.persistence.recording import Recorder

LOST_S = 5.0


def run(kills: int, folder: Path, seed: int = 5) -> list[Row]:
    """The table."""
    chance = random.Random(seed)
    first = 0
    told: list[tuple[int, float, float]] = []
    """Number of each record, when it was told of, and when the process was killed."""
    checked: set[str] = set()
    damaged = unfinished = left_out = 0
    for kill in range(kills):
        step(f"kill {kill + 1} of {kills}")
        pairs, killed_s = kill_at(folder, first, chance.uniform(0.0, 2.5))
        told += [(number, at_s, killed_s) for number, at_s in pairs]
        first = pairs[-1][0] + 1_000
        unfinished += any(folder.glob(f".*{SEGMENT}.*{PARTIAL}"))
        for file in folder.glob(f"*{SEGMENT}"):
            if file.name not in checked:
                checked.add(file.name)
                damaged += is_whole(file.read_bytes()) is not True
        if checked:  # as training reads it at any time, the open segment and all
            notes = read_recording(folder).notes
            left_out += any(SEGMENT in note for note in notes)
    last = Recorder(folder)
    last.start()
    last.close()
    left_open = len(list(folder.glob(f"*{JOURNAL}")))
    trace = read_trace(folder)
    numbers = [round((at_ms - START_MS) / 1_000.0) for at_ms in trace.arrival_ms.tolist()]
    there = set(numbers)
    lost = [(killed_s - at_s) for number, at_s, killed_s in told if number not in there]
    return [
        Row("kills", kills, ""),
        Row("  in the middle of closing a segment", unfinished, ""),
        Row("records told of", len(told), ""),
        Row("closed segments", len(checked), ""),
        Row("  that do not read", damaged, "", 0.0),
        Row("  readings of the folder, after each kill, that left one out", left_out, "", 0.0),
        Row("segments that stay open after the next start", left_open, "", 0.0),
        Row("records there twice", len(numbers) - len(there), "", 0.0),
        Row("records lost in all", len(lost), ""),
        Row("  the oldest of them, before the kill", max(lost, default=0.0), "s", LOST_S),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make record-kills")
    parser.add_argument("--count", type=int, default=50, help="kills")
    parser.add_argument("--json", action="store_true")
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory() as folder:
        show(run(count, Path(folder)), "make record-kills")


if __name__ == "__main__":
    main()
