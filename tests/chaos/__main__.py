"""`make chaos`: what a run of faults and kills left behind."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import uvloop
from rich.console import Console
from rich.table import Table

from tests.chaos.scenario import Outcome, chaos


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the table."""

    name: str
    target: str
    seen: str
    passed: bool


def checks(outcome: Outcome) -> list[Check]:
    """What must hold after a run."""
    books = outcome.books
    answers = books.answers
    cold = len(books.cold_waits_s) + books.unserved
    served = len(books.cold_waits_s) / max(cold, 1)

    def none(name: str, count: int, of: str = "") -> Check:
        return Check(name, f"0{of}", str(count), count == 0)

    return [
        none("slots leaked, by the platform's account", outcome.live_slots, f" of {outcome.slots}"),
        none("slots left in the ledger", outcome.ledger_rows),
        none("instances given twice", books.given_twice),
        none("instances destroyed while in use", books.taken_away),
        none("requests unanswered", answers["unanswered"], f" of {answers.total()}"),
        none("requests failed that no fault hit", answers["failed without a fault"]),
        Check(
            "healthy cold starts served, beside three tenants in trouble",
            "≥ 99 %",
            f"{served:.2%} of {cold}",
            served >= 0.99,
        ),
        none("calls for slots that never were", outcome.unknown_slots),
        none("exceptions in the log", outcome.tracebacks),
        Check("exit code after SIGTERM", "0", str(outcome.exit_code), outcome.exit_code == 0),
    ]


def _quantiles(waits_s: list[float]) -> str:
    """Median and tail."""
    if not waits_s:
        return "none"
    median, p99 = np.quantile(waits_s, (0.5, 0.99))
    return f"{median:.2f}, p99 {p99:.2f}"


def show(title: str, rows: list[Check], notes: dict[str, object], *, as_json: bool) -> int:
    """Prints the table, or one object; returns the exit code."""
    good = all(check.passed for check in rows)
    if as_json:
        print(json.dumps({"passed": good, "checks": list(map(asdict, rows)), **notes}))
        return 0 if good else 1
    table = Table("what", "target", "seen", "", title=title)
    for check in rows:
        mark = "[green]pass" if check.passed else "[red]FAIL"
        table.add_row(check.name, check.target, check.seen, mark)
    console = Console()
    console.print(table)
    for name, value in notes.items():
        console.print(f"{name}: {value}", highlight=False)
    return 0 if good else 1


def main() -> int:
    """Exit code 0 where all holds."""
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--duration", type=float, default=600.0, help="seconds")
    parser.add_argument("--rate", type=float, default=60.0, help="requests a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = uvloop.run(
            chaos(Path(folder), duration_s=options.duration, rate=options.rate, seed=options.seed)
        )
    notes: dict[str, object] = {
        "answers": dict(outcome.books.answers),
        "cold starts waited, s": _quantiles(outcome.books.cold_waits_s),
        "tenants in trouble heard": outcome.tenants,
        "scaler killed": outcome.kills,
        "down after a kill, s": [round(each, 2) for each in outcome.recovery_s],
        "platform restarted": outcome.platform_restarts,
        "platform calls": f"{outcome.calls}, {outcome.calls_failed} failed, {outcome.calls_slow} slow",
        "failed without a fault": outcome.books.wrong[:10],
    }
    return show(f"chaos, {options.duration:g} s", checks(outcome), notes, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
