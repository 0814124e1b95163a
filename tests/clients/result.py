"""What a client was seen to get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table

Verdict = Literal["as the rules say", "WRONG", "not here"]


@dataclass(frozen=True, slots=True)
class Result:
    """One client, one thing."""

    client: str
    what: str
    seen: str
    verdict: Verdict


class Wrong(Exception):
    """What was seen is not what gRPC's rules say; its text is what was seen."""


def expect(holds: bool, seen: object) -> None:
    """Raises Wrong."""
    if not holds:
        raise Wrong(str(seen))


def show(results: list[Result]) -> None:
    """A table, a line a result."""
    table = Table(title="Real clients against scaler serve", title_justify="left")
    for name in ("client", "what", "seen", ""):
        table.add_column(name, overflow="fold")
    colours = {"as the rules say": "green", "WRONG": "red", "not here": "yellow"}
    for row in results:
        mark = f"[{colours[row.verdict]}]{row.verdict}"
        table.add_row(row.client, row.what, row.seen, mark)
    Console().print(table)
