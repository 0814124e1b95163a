"""The ledger: every slot there is, on disk, so that a scaler killed at any moment leaks none.

Two files. SQLite in WAL mode holds a row per slot: the intent before CreateSlot is sent, the slot's
id before Init is, no row once it is destroyed. Beside it `FILE.marks`, mapped into memory, holds four
bytes per row that say what the instance does right now: warm requests change them, and a change is an
ordinary store, which the kernel keeps when the process is killed.

A row is written where it is told: a commit that need not survive power loss is a write to the
kernel's memory, 20 µs, and handing it to a thread and waiting costs ten times that, in turns of
Python's lock. What waits for the disk is done by a thread: a commit that is to survive power loss, a
checkpoint, and what was learned. While the thread has something to do it writes everything, in the
order told, all that waits in one transaction (group commit).

After the machine itself went down the marks may be older than the rows, and they may be missing:
then nothing is taken back as idle, everything is destroyed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import mmap
import os
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from zlib import crc32

from warmscaler.service.persistence.retention import PAUSE_SHARE, ages

CAPACITY = 1 << 18
"""Rows at once, four bytes each."""
FORMAT = 1
IDLE = 0
STARTING = 0xFFFF_FFFE
LEAVING = 0xFFFF_FFFF
"""Marks; any other is the checksum of the request that the instance serves."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TABLES = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS slots (
    place INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL,
    instance_id TEXT NOT NULL,
    slot_id TEXT,
    app TEXT NOT NULL,
    runtime TEXT NOT NULL,
    timeout_s INTEGER NOT NULL,
    memory_mb TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS learned_apps (
    app TEXT PRIMARY KEY,
    saved_ms INTEGER NOT NULL,
    learned BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS learned_of_all (place INTEGER PRIMARY KEY, learned BLOB NOT NULL);
"""
CHECKPOINT_EVERY = 500
"""Statements, after which the thread moves what SQLite's log holds into its file."""
_Write = tuple[str, tuple[object, ...], asyncio.Future[None] | None]
"""A statement, its values, and who waits for it; without a statement the end."""
_DELETE_SLOT = "DELETE FROM slots WHERE place = ?"


class LedgerError(Exception):
    """The ledger cannot be opened or written. Its text is one line: what, where, what to do."""


@dataclass(frozen=True, slots=True)
class Row:
    """A slot of an earlier run."""

    place: int
    request_id: str
    """Of its CreateSlot."""
    instance_id: str
    slot_id: str | None
    """None where no answer to CreateSlot was seen: there may be such a slot or not."""
    key: str
    runtime: str
    timeout_s: int
    memory_mb: int
    mark: int


def request_mark(request_id: str) -> int:
    """The mark of an instance that serves this request."""
    return min(max(crc32(request_id.encode()), 1), STARTING - 1)


class Ledger:
    """One file, one process. `earlier` is what the run before left."""

    def __init__(self, path: Path, *, sync: bool = False) -> None:
        """Opens or makes it; `sync` survives power loss, not only a killed process, and is slow.

        Raises LedgerError.
        """
        self.path = path
        self.on_problem: Callable[[str | None], None] = lambda _: None
        """Is told, maybe on the ledger's thread, when writing begins to fail, and why, and when it
        is well again."""
        self._sync = sync
        self._queue: SimpleQueue[_Write] = SimpleQueue()
        self._handed = 0
        """Writes handed to the thread; the event loop counts them."""
        self._done = 0
        """Of those, how many the thread is done with; the thread counts them."""
        self._unsaved = 0
        """Statements since the last checkpoint."""
        self._left: list[_Write] = []
        """Rows still to be deleted, as writing failed."""
        self._failing = False
        try:
            self._marks_file = open(f"{path}.marks", "a+b")  # noqa: SIM115
            fcntl.flock(self._marks_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # As SQLite does with its own: a page that a full disk has no room for kills who writes it.
            whole = os.fstat(self._marks_file.fileno()).st_size == 4 * CAPACITY
            os.posix_fallocate(self._marks_file.fileno(), 0, 4 * CAPACITY)
            self._map = mmap.mmap(self._marks_file.fileno(), 4 * CAPACITY)
            # Nobody else writes: there is nothing to wait for.
            self._database = sqlite3.connect(
                path, timeout=0.0, isolation_level=None, check_same_thread=False
            )
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA wal_autocheckpoint = 0")
            self._database.execute(f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}")
            self._database.executescript(_TABLES)
            same_boot = self._check_format()
            self._marks = memoryview(self._map).cast("I")
            self.earlier = self._read(trusted=same_boot and whole)
            self._sign()  # last: killed before, the next run must not trust the marks either
            self._checkpoint()  # runs that are killed one after the other leave no long log
        except BlockingIOError:
            raise LedgerError(f"{path}: another scaler uses this ledger; give it its own") from None
        except (OSError, sqlite3.Error) as error:
            raise LedgerError(f"{path}: not a ledger that can be used: {error}") from None
        self._places = {row.request_id: row.place for row in self.earlier}
        taken = set(self._places.values())
        self._next = max(taken, default=-1) + 1
        self._free = [place for place in range(self._next) if place not in taken]
        self._thread = threading.Thread(target=self._write, name="ledger", daemon=True)
        self._thread.start()

    # Slots. A place is taken by `intend` and free again by `gone`.

    async def intend(
        self, request_id: str, instance_id: str, key: str, runtime: str, timeout_s: int, memory: int
    ) -> None:
        """CreateSlot is about to be sent. Returns when that is on disk; raises LedgerError."""
        known = place = self._places.get(request_id)
        if place is None:
            place = self._free.pop() if self._free else self._next
            if place >= CAPACITY:
                raise LedgerError(f"{self.path}: full, {CAPACITY} slots")
            self._next = max(self._next, place + 1)
            self._places[request_id] = place
        self._marks[place] = STARTING
        try:
            await self._durable(
                "INSERT OR REPLACE INTO slots VALUES (?, ?, ?, NULL, ?, ?, ?, ?)",
                (place, request_id, instance_id, key, runtime, timeout_s, str(memory)),
            )
        except LedgerError:
            if known is None:  # never sent: there is no such slot, and no row
                del self._places[request_id]
                self._free.append(place)
            raise

    async def created(self, request_id: str, slot_id: str) -> None:
        """CreateSlot answered. Returns when that is on disk; raises LedgerError."""
        place = self._places[request_id]
        await self._durable("UPDATE slots SET slot_id = ? WHERE place = ?", (slot_id, place))

    def gone(self, request_id: str) -> None:
        """There is no such slot any more, or never was."""
        place = self._places.pop(request_id, None)
        if place is None:
            return
        self._tell(_DELETE_SLOT, (place,))
        self._free.append(place)

    # What instances do, now; by the CreateSlot of their slot

    def idle(self, request_id: str) -> None:
        """It runs and serves nobody."""
        place = self._places.get(request_id)
        if place is not None:
            self._marks[place] = IDLE

    def busy(self, request_id: str, serves: str) -> None:
        """It serves the request of this id."""
        place = self._places.get(request_id)
        if place is not None:
            self._marks[place] = request_mark(serves)

    def leaving(self, request_id: str) -> None:
        """It may serve nobody any more: its slot is to be destroyed."""
        place = self._places.get(request_id)
        if place is not None:
            self._marks[place] = LEAVING

    # What was learned

    def save_learned(self, now_ms: float, key: str, learned: bytes) -> None:
        """Keeps what was learned of an app, in place of what was kept before."""
        values = (key, int(now_ms), learned)
        self._hand_over("INSERT OR REPLACE INTO learned_apps VALUES (?, ?, ?)", values)

    def save_learned_of_all(self, learned: bytes) -> None:
        """Keeps what was learned of no app in particular, in place of what was kept before."""
        self._hand_over("INSERT OR REPLACE INTO learned_of_all VALUES (0, ?)", (learned,))

    def learned_of_all(self) -> bytes | None:
        """What was kept of it. To be read before the first write. Raises LedgerError."""
        try:
            row = self._database.execute("SELECT learned FROM learned_of_all").fetchone()
        except sqlite3.Error as error:
            raise LedgerError(f"{self.path}: not a ledger that can be used: {error}") from None
        return None if row is None or not isinstance(row[0], bytes) else row[0]

    def forget_learned(self, key: str) -> None:
        """The app is forgotten."""
        self._hand_over("DELETE FROM learned_apps WHERE app = ?", (key,))

    def learned(self, keep_ms: float, most: int) -> dict[str, bytes]:
        """What was kept, the latest `most` apps saved within `keep_ms` of the newest (see
        `retention`); the others' is dropped. To be read before the first write. Raises LedgerError.
        """
        try:
            rows = self._database.execute("SELECT saved_ms FROM learned_apps ORDER BY saved_ms")
            saved_ms = [int(at_ms) for (at_ms,) in rows]
            aged = zip(saved_ms, ages(saved_ms, PAUSE_SHARE * keep_ms), strict=True)
            limit_ms = next((at_ms for at_ms, age_ms in aged if age_ms <= keep_ms), 0)
            self._database.execute(
                "DELETE FROM learned_apps WHERE app NOT IN"
                " (SELECT app FROM learned_apps WHERE saved_ms >= ? ORDER BY saved_ms DESC LIMIT ?)",
                (limit_ms, most),
            )
            return dict(self._database.execute("SELECT app, learned FROM learned_apps"))
        except sqlite3.Error as error:
            raise LedgerError(f"{self.path}: not a ledger that can be used: {error}") from None

    def count(self) -> int:
        """Slots in it now, or on their way in."""
        return len(self._places)

    async def flush(self) -> None:
        """Returns when all that was told before is on disk. Raises LedgerError."""
        await self._durable("SELECT 1", ())

    def close(self) -> None:
        """Writes what waits, and closes."""
        self._hand_over("", ())
        self._thread.join()
        self._database.close()
        self._marks.release()
        self._map.close()
        self._marks_file.close()

    # How

    def _check_format(self) -> bool:
        """Whether the marks are of this boot of the machine."""
        about = dict(self._database.execute("SELECT name, value FROM about"))
        if about.get("format", str(FORMAT)) != str(FORMAT):
            raise LedgerError(
                f"{self.path}: format {about['format']}, this scaler reads {FORMAT}; "
                "run the scaler that wrote it until it is drained"
            )
        return about.get("boot") == _boot()

    def _sign(self) -> None:
        self._database.executemany(
            "INSERT OR REPLACE INTO about VALUES (?, ?)",
            [("format", str(FORMAT)), ("boot", _boot())],
        )

    def _read(self, *, trusted: bool) -> list[Row]:
        rows = []
        for place, request, instance, slot, app, runtime, timeout_s, mb in self._database.execute(
            "SELECT place, request_id, instance_id, slot_id, app, runtime, timeout_s, memory_mb"
            " FROM slots ORDER BY place"
        ):
            if not 0 <= place < CAPACITY:
                raise LedgerError(f"{self.path}: slots: place {place} is outside the marks")
            if not trusted:
                self._marks[place] = LEAVING
            mark = self._marks[place]
            rows.append(Row(place, request, instance, slot, app, runtime, timeout_s, int(mb), mark))
        return rows

    @property
    def _here(self) -> bool:
        """Whether the event loop may write: the thread has nothing to do, and nothing is due that
        waits for the disk."""
        return not self._sync and self._handed == self._done and self._unsaved < CHECKPOINT_EVERY

    def _tell(self, statement: str, values: tuple[object, ...]) -> None:
        if self._here:
            self._transact([(statement, values, None)])
        else:
            self._hand_over(statement, values)

    async def _durable(self, statement: str, values: tuple[object, ...]) -> None:
        if self._here:
            error = self._transact([(statement, values, None)])
            if error is not None:
                raise error
        else:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._hand_over(statement, values, future)
            await future

    def _hand_over(
        self,
        statement: str,
        values: tuple[object, ...],
        future: asyncio.Future[None] | None = None,
    ) -> None:
        self._handed += 1
        self._queue.put((statement, values, future))

    def _transact(self, batch: list[_Write]) -> LedgerError | None:
        """All of it or nothing. Of one that fails nobody but us would delete the rows: that is done
        first in the next, as their places may be taken in it."""
        batch = self._left + batch
        error: LedgerError | None = None
        try:
            if len(batch) > 1:
                self._database.execute("BEGIN IMMEDIATE")
            for statement, values, _ in batch:
                self._database.execute(statement, values)
            if len(batch) > 1:
                self._database.execute("COMMIT")
        except (sqlite3.Error, ValueError, OverflowError) as failure:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            error = LedgerError(f"{self.path}: cannot be written: {failure}")
        self._unsaved += len(batch)
        self._left = [] if error is None else [each for each in batch if each[0] == _DELETE_SLOT]
        if self._failing != (error is not None):
            self._failing = error is not None
            self.on_problem(None if error is None else str(error))
        return error

    def _write(self) -> None:
        """The thread."""
        ended = False
        while not ended:
            batch = [self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get())
            ended = not all(statement for statement, _, _ in batch)
            error = self._transact(batch)
            futures = [future for _, _, future in batch if future is not None]
            if futures:
                futures[0].get_loop().call_soon_threadsafe(_resolve, futures, error)
            if self._unsaved >= CHECKPOINT_EVERY:
                self._checkpoint()
            if not ended:  # else the event loop would write to what is closed
                self._done += len(batch)

    def _checkpoint(self) -> None:
        """The write after it begins the log anew, for which SQLite waits for the disk once more.

        Where it fails the log grows, and is written on until there is no room for that either.
        """
        self._unsaved = 0
        with contextlib.suppress(sqlite3.Error):
            self._database.execute("PRAGMA wal_checkpoint")
            self._sign()


def _boot() -> str:
    return _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""


def _resolve(futures: list[asyncio.Future[None]], error: LedgerError | None) -> None:
    for future in futures:
        if not future.done():
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)


def remove(path: Path) -> None:
    """Deletes a ledger's files."""
    for end in ("", "-wal", "-shm", ".marks"):
        if os.path.exists(f"{path}{end}"):
            os.unlink(f"{path}{end}")
