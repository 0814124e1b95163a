"""`make fuzz`: 200,000 messages, and what they left behind."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass

import uvloop
from rich.console import Console
from rich.table import Table

from tests.fuzz.attack import SPARE_FILES, Outcome, attack
from warmscaler.cli.console import progress
from warmscaler.service.live.carrying import REMEMBERED_INSTANCES
from warmscaler.simulator.platform import Misuse

GROWTH = 0.05
"""Of resident memory, from the end of the first third to the end."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the table."""

    name: str
    target: str
    seen: str
    passed: bool


def checks(outcome: Outcome, growth: float = GROWTH) -> list[Check]:
    """What must hold after an attack."""
    before, warm, after = outcome.before, outcome.warm, outcome.after
    assert before is not None
    assert warm is not None
    assert after is not None
    grown = after.resident_mb / warm.resident_mb - 1.0
    answered = sum(outcome.answers.values())
    return [
        Check(
            "no crash: it serves a sound request after", "yes", _yes(outcome.serves), outcome.serves
        ),
        Check(
            "no crash: exit code after SIGTERM", "0", str(outcome.exit_code), not outcome.exit_code
        ),
        Check(
            "no exception in its log",
            "0 lines",
            f"{len(outcome.tracebacks)}",
            not outcome.tracebacks,
        ),
        Check(
            "no hang: calls without an answer",
            f"0 of {answered:,}",
            str(outcome.hung + outcome.answers["connection refused"]),
            outcome.hung + outcome.answers["connection refused"] == 0,
        ),
        Check("no leak: slots it has", "0", f"{after.slots:g}", after.slots == 0),
        Check("no leak: requests that wait", "0", f"{after.waiting:g}", after.waiting == 0),
        Check(
            "no leak: slots by the platform's count, after its end",
            "0",
            str(outcome.slots_left),
            outcome.slots_left == 0,
        ),
        Check(
            "no call that a correct scaler never makes",
            "0",
            str(sum(asdict(outcome.misuse).values())),
            outcome.misuse == Misuse(),
        ),
        Check(
            "no leak: open connections",
            f"≤ {warm.connections}",
            str(after.connections),
            after.connections <= max(warm.connections, 2),
        ),
        Check(
            "no leak: open files",
            f"≤ {before.files + SPARE_FILES}",
            str(after.files),
            after.files <= before.files + SPARE_FILES,
        ),
        Check(
            "no leak: threads",
            f"≤ {warm.threads + 4}",
            str(after.threads),
            after.threads <= warm.threads + 4,
        ),
        Check(
            f"no leak: resident memory ({before.resident_mb:.0f} MB before,"
            f" {warm.resident_mb:.0f} after a third)",
            f"≤ +{growth:.0%}",
            f"{after.resident_mb:.0f} MB, {grown:+.1%}",
            grown <= growth,
        ),
    ]


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    done = 0
    with progress("fuzzing", chosen.count) as show:

        def on_progress(sent: int) -> None:
            nonlocal done
            done += sent
            if not done % 100:
                show(done)

        sound = 12 * REMEMBERED_INSTANCES // 10
        outcome = uvloop.run(attack(chosen.count, chosen.seed, on_progress, sound=sound))
    rows = checks(outcome)
    if chosen.json:
        sent = {"sent": dict(outcome.sent), "answers": dict(outcome.answers)}
        print(json.dumps(sent | {"checks": [asdict(row) for row in rows]}))
    else:
        sent_text = ", ".join(f"{sent:,} {kind}" for kind, sent in outcome.sent.items())
        table = Table(title=f"{sent_text}; seed {chosen.seed}", title_justify="left")
        for name in ("what", "target", "seen", ""):
            table.add_column(name)
        for row in rows:
            mark = "[green]pass" if row.passed else "[red]FAIL"
            table.add_row(row.name, row.target, row.seen, mark)
        Console().print(table)
        Console().print(f"answers: {dict(outcome.answers.most_common())}", highlight=False)
        for line in outcome.tracebacks[:20]:
            print(line, file=sys.stderr)
    sys.exit(0 if all(row.passed for row in rows) else 1)


if __name__ == "__main__":
    main()
