"""What every subcommand says things with: one line, JSON, a progress bar where a person looks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from warmscaler.service.observability.logs import escaped

out = Console()
err = Console(stderr=True)
_WIDEST = 240


def say(line: str, console: Console = err) -> None:
    """One line whatever the terminal's width, and nothing in it taken for markup."""
    console.print(escaped(line, len(line)), markup=False, highlight=False, soft_wrap=True)


def counted(count: int, what: str) -> str:
    """1 request, 2,000 requests."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
    sys.stdout.flush()


def print_wide(table: Table) -> None:
    """A table on stdout with no cell cut: a figure cut short is worse than a line too long."""
    out.width = max(
        out.width, Measurement.get(out, out.options.update(max_width=_WIDEST), table).maximum
    )
    out.print(table)


@contextmanager
def progress(description: str, total: float) -> Iterator[Callable[[float], None]]:
    """A bar on stderr, for a terminal only. Yields a function that takes how much is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(description, total=total)
        yield lambda done: bar.update(task, completed=done)
