"""What every benchmark prints: what was measured, the target, what was seen."""

from __future__ import annotations

import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

TRACE = Path(
    os.environ.get(
        "SCALER_BENCH_TRACE",
        Path(__file__).parents[2].parent / "shared" / "traces" / "azure2019-day.tar.gz",
    )
)


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. `target` is a bound: `at_most` says of which kind; None is no target."""

    what: str
    seen: float
    unit: str
    target: float | None = None
    at_most: bool = True

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.seen <= self.target if self.at_most else self.seen >= self.target


def show(rows: list[Row], title: str) -> None:
    """Prints the table, or with `--json` on the command line one object. Ends the program with 1
    where a target is missed."""
    about = (
        f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores"
    )
    if "--json" in sys.argv[1:]:
        print(json.dumps({"machine": about, "rows": [asdict(r) | {"met": r.met} for r in rows]}))
    else:
        _print(rows, f"{title} ({about})")
    if any(row.met is False for row in rows):
        sys.exit(1)


def _print(rows: list[Row], title: str) -> None:
    table = Table(title=title, title_justify="left")
    for name in ("what", "target", "seen", ""):
        table.add_column(name, justify="left" if name in ("what", "") else "right")
    for row in rows:
        bound = "" if row.target is None else f"{'≤' if row.at_most else '≥'} {row.target:,g}"
        mark = {True: "[green]met", False: "[red]missed", None: ""}[row.met]
        table.add_row(row.what, f"{bound} {row.unit if bound else ''}", _number(row), mark)
    Console().print(table)


def step(text: str) -> None:
    """Says what runs, on stderr, where somebody watches."""
    Console(stderr=True, quiet=not sys.stderr.isatty()).print(f"… {text}", style="dim")


def _number(row: Row) -> str:
    digits = 0 if abs(row.seen) >= 1_000 else 1 if abs(row.seen) >= 50 else 2
    return f"{row.seen:,.{digits}f} {row.unit}"
