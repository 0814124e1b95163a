"""A table that nobody has understood yet: its columns, where it lies, and which line a row is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from warmscaler.data.trace import TraceError

FRAME = "frame"
"""Where a table lies that is in memory."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as a source gives them: text where it is text, numbers where it is typed."""

    where: str
    """The file's name as the user gave it, or what else an error names first."""
    frame: pl.DataFrame
    line_of: Callable[[int], int] | None = None
    """The line of a row (counted from 0); None where rows have none, as in Parquet."""
    known: str = ""
    """For a format with names of its own: which column is what, as `--map` takes it."""
    start_comes_first: bool = False
    """Whether a row's start-up time lies before its execution, and is no part of its duration: a
    request then came that much earlier."""
    notes: tuple[str, ...] = ()

    def place(self, row: int) -> str:
        """Where a row is, to be said before what is wrong with it."""
        if self.line_of is None:
            return f"{self.where}: row {row + 1}"
        return f"{self.where}:{self.line_of(row)}"

    def refuse(self, column: pl.Series, bad: pl.Series, says: str, mend: str) -> None:
        """Raises TraceError for the first row where `bad` holds, if any does."""
        if bad.any():
            row = int(bad.arg_max() or 0)
            value = column[row]
            shown = "is empty" if value is None else f"{says}: {_shown(value)}"
            raise TraceError(f"{self.place(row)}: field `{column.name}` {shown}; {mend}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
