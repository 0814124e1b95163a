"""A segment of a recording on its way: the journal of an open one, and what becomes of it."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from warmscaler.data.recording import (
    COLUMNS,
    JOURNAL,
    SEGMENT,
    journal_line,
    read_journal,
    table_of,
    write_segment,
)

log = logging.getLogger("scaler.recording")

TABLE_ROWS = 1_000
"""Of the open segment so many become a table at once: more would hold the event loop for longer."""


class Segment:
    """The open segment: its journal, and the same rows in memory."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        while True:
            now = datetime.now(UTC)
            stamp = f"{now:%Y%m%dT%H%M%S}.{now.microsecond // 1000:03d}"
            self._path = folder / f"{stamp}-{secrets.token_hex(4)}{JOURNAL}"
            self._file = os.open(self._path, flags, 0o644)
            fcntl.flock(self._file, fcntl.LOCK_EX)  # while we live nobody else folds it
            if os.fstat(self._file).st_nlink:
                break
            os.close(self._file)  # folded away before we held it
        self._began_s = time.monotonic()
        self._size = 0
        self._pending: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        self._tables: list[pl.DataFrame] = []
        self.rows = 0

    def age_s(self) -> float:
        """How long it is open."""
        return time.monotonic() - self._began_s

    def add(self, columns: dict[str, list[Any]]) -> None:
        """Appends to the journal, wholly or not at all. Raises OSError."""
        line = journal_line(columns)
        try:
            written = 0
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(line)
        for name, values in columns.items():
            self._pending[name] += values
        self.rows += len(columns["app"])
        if len(self._pending["app"]) >= TABLE_ROWS:
            self._gather()

    def close(self) -> None:
        """Makes it a Parquet file and takes the journal away. Raises OSError; then it is open still."""
        self._gather()
        write_segment(pl.concat(self._tables), self._path.with_suffix(SEGMENT))
        self._path.unlink(missing_ok=True)
        os.close(self._file)

    def _gather(self) -> None:
        if self._pending["app"]:
            self._tables.append(table_of(self._pending))
            self._pending = {name: [] for name in COLUMNS}


def begun_s(name: str) -> float:
    """When the segment of this name was begun, in seconds since the epoch."""
    stamp = datetime.strptime(name.partition("-")[0], "%Y%m%dT%H%M%S.%f")
    return stamp.replace(tzinfo=UTC).timestamp()


def fold(journal: Path) -> None:
    """Makes a segment of a journal that no process holds. Raises OSError."""
    try:
        file = os.open(journal, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        segment = journal.with_suffix(SEGMENT)
        if not segment.exists():
            table, torn = read_journal(journal)
            if torn:
                log.warning("%s: %d torn lines left out", journal.name, torn)
            if len(table):
                write_segment(table, segment)
        journal.unlink(missing_ok=True)
    finally:
        os.close(file)
