"""Records every invocation, off the path of requests, as a trace that training reads.

On the event loop a record is one tuple put in a queue. A thread takes them out four times a second,
writes them to the open segment's journal, and closes the segment once it is old or large enough. A
kill costs what is in the queue: less than a second. What a killed process left open is closed by
the next one that records into the same folder; processes may share it.

A disk that is full, or broken, costs records and raises `problem`; serving knows nothing of it.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import ceil
from pathlib import Path
from threading import Event, Thread
from typing import Any

from warmscaler.data.files import PARTIAL
from warmscaler.data.recording import (
    COLUMNS,
    JOURNAL,
    NAME,
    SEGMENT,
)
from warmscaler.data.trace import LIMITS
from warmscaler.models.policy import Instance
from warmscaler.service.observer import Observer, Served
from warmscaler.service.persistence.retention import PAUSE_SHARE, ages
from warmscaler.service.persistence.segment import Segment, begun_s, fold
from warmscaler.service.proto import scaler_pb2 as pb

log = logging.getLogger("scaler.recording")

FLUSH_S = 0.25
CHUNK = 250
"""Records that the thread turns into columns before it lets the event loop run."""
MAX_QUEUE = 200_000
"""Records that wait to be written; one more is dropped and counted."""
MAX_APPS = 100_000
"""Apps whose start-up times are remembered."""
RETRY_S = 5.0
"""After a failure nothing is written for so long."""
START_SMOOTHING = 0.3
DAY_S = 86_400.0

_UNKNOWN = (0.0, 0.0)
_Record = tuple[float, pb.Meta, float, float, bool, str, int, int]
"""Arrival, whose, execution and wait in ms, cold, outcome, result code, duration as reported."""


class RecordingError(Exception):
    """A folder that cannot be recorded into. Its text is one line."""


class Recorder(Observer):
    """Writes what the driver tells of to `folder`, from `start` to `close`."""

    def __init__(
        self,
        folder: Path,
        *,
        segment_s: float = 900.0,
        segment_rows: int = 250_000,
        max_age_s: float = 30.0 * DAY_S,
        max_bytes: int = 10 << 30,
    ) -> None:
        """Segments are closed at `segment_s` or `segment_rows`, taken away at `max_age_s` before
        the newest, the oldest first where all are more than `max_bytes`, the newest never. Raises
        RecordingError where `folder` can be no such folder; a full disk is no reason not to start.
        """
        self.folder = folder
        self.problem: str | None = None
        """Why nothing is recorded now; None while all is well."""
        self.recorded = 0
        """Records in the journal or a segment."""
        self.dropped = 0
        """Records lost because they could not be written, or came too fast."""
        self._segment_s = segment_s
        self._segment_rows = segment_rows
        self._max_age_s = max_age_s
        self._max_bytes = max_bytes
        self._on_problem: Callable[[str | None], None] = lambda _: None
        self._now_ms: Callable[[], float] | None = None
        self._queue: deque[_Record] = deque()
        self._create_ms: dict[str, float] = {}
        """By instance that is being initialised: what CreateSlot took."""
        self._starts: dict[str, tuple[float, float]] = {}
        """By app: what CreateSlot and Init take, smoothed."""
        self._segment: Segment | None = None
        self._stop = Event()
        self._thread = Thread(target=self._run, name="recording", daemon=True)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise RecordingError(f"--record {folder}: {error.strerror}") from None
        else:
            if not os.access(folder, os.W_OK | os.X_OK):
                raise RecordingError(f"--record {folder}: no permission to write there")

    def start(
        self,
        on_problem: Callable[[str | None], None] = lambda _: None,
        now_ms: Callable[[], float] | None = None,
    ) -> None:
        """Closes what another process left open, and records from now on. `on_problem` hears of
        the alarm, on the writing thread, when it is raised and when it is over. `now_ms` is the
        clock of what is told: what is written goes by the wall's, which may be set meanwhile; with
        None it is the same."""
        self._on_problem = on_problem
        self._now_ms = now_ms
        self._thread.start()

    def close(self) -> None:
        """Writes what is left and closes the segment. Blocks for as long as that takes."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    # Told by the driver, on the event loop

    def completed(self, now_ms: float, served: Served, result: pb.Result) -> None:
        if len(self._queue) >= MAX_QUEUE:
            self.dropped += 1
            return
        self._queue.append(
            (
                served.arrival_ms,
                served.meta,
                now_ms - served.assigned_ms,
                served.assigned_ms - served.arrival_ms,
                served.cold,
                "bad" if result.need_destroy else "kept",
                result.status_code,
                result.duration_in_ms,
            )
        )

    def refused(
        self, now_ms: float, meta: pb.Meta, arrival_ms: float, reason: str, *, overload: bool
    ) -> None:
        self._unserved(now_ms, meta, arrival_ms, "refused")

    def gone(self, now_ms: float, meta: pb.Meta, arrival_ms: float) -> None:
        self._unserved(now_ms, meta, arrival_ms, "gone")

    def slot_created(self, now_ms: float, instance: Instance) -> None:
        self._create_ms[instance.id] = now_ms - instance.started_ms

    def instance_ready(self, now_ms: float, instance: Instance) -> None:
        create_ms = self._create_ms.pop(instance.id, 0.0)
        init_ms = now_ms - instance.started_ms - create_ms
        known = self._starts.get(instance.pool.key)
        if known is not None:
            create_ms = known[0] + START_SMOOTHING * (create_ms - known[0])
            init_ms = known[1] + START_SMOOTHING * (init_ms - known[1])
        elif len(self._starts) >= MAX_APPS:
            del self._starts[next(iter(self._starts))]
        self._starts[instance.pool.key] = (create_ms, init_ms)

    def start_failed(self, now_ms: float, instance: Instance, reason: str) -> None:
        self._create_ms.pop(instance.id, None)

    def _unserved(self, now_ms: float, meta: pb.Meta, arrival_ms: float, outcome: str) -> None:
        if len(self._queue) >= MAX_QUEUE:
            self.dropped += 1
            return
        self._queue.append((arrival_ms, meta, 0.0, now_ms - arrival_ms, True, outcome, 0, 0))

    # On the writing thread

    def _run(self) -> None:
        self._fold_what_was_left()
        while not self._stop.wait(FLUSH_S):
            self._turn(last=False)
        self._turn(last=True)

    def _turn(self, *, last: bool) -> None:
        try:
            self._write(last=last)
        except OSError as error:
            self._alarm(f"{self.folder}: recording stopped: {error.strerror or error}")
        except Exception as error:
            # Whatever it is, it must not end the thread and grow the queue without a word.
            log.exception("a batch of records was lost")
            self._alarm(f"{self.folder}: recording stopped: {error}")
        else:
            return
        self._stop.wait(RETRY_S if not last else 0.0)
        self.dropped += len(self._queue)
        self._queue.clear()

    def _write(self, *, last: bool) -> None:
        # What comes meanwhile waits for the next turn: taken at once, it would be a few at a time.
        left = len(self._queue)
        while left:
            columns = self._take(min(left, CHUNK))
            count = len(columns["app"])
            left -= count
            try:
                if self._segment is None:
                    self._segment = Segment(self.folder)
                elif self._segment.rows > 4 * self._segment_rows:
                    raise OSError(errno.ENOSPC, "the open segment cannot be closed")
                self._segment.add(columns)
            except BaseException:
                self.dropped += count
                raise
            self.recorded += count
            self._close_if_due(last=False)
            if not last:
                time.sleep(0.0005)  # the event loop must not wait behind a long batch
        self._close_if_due(last=last)

    def _close_if_due(self, *, last: bool) -> None:
        segment = self._segment
        if segment is None:
            return
        if last or segment.rows >= self._segment_rows or segment.age_s() >= self._segment_s:
            segment.close()
            self._segment = None
            self._retain()
        if self.problem is not None:
            self._alarm(None)

    def _take(self, count: int) -> dict[str, list[Any]]:
        """The next records as columns. By column, not by record: it is twice as fast."""
        records = [self._queue.popleft() for _ in range(count)]
        arrived, metas, ran, waits, colds, outcomes, codes, reported = zip(*records, strict=True)
        ahead_ms = 0.0 if self._now_ms is None else time.time() * 1000.0 - self._now_ms()
        apps = [meta.key for meta in metas]
        starts = [self._starts.get(app, _UNKNOWN) for app in apps]
        longest_ms, largest_mb = LIMITS["duration_ms"][1], LIMITS["memory_mb"][1]
        columns: dict[str, list[Any]] = {
            "arrival_ms": [int(at_ms + ahead_ms) for at_ms in arrived],
            "app": apps,
            "runtime": [meta.runtime for meta in metas],
            "memory_mb": [min(meta.memory_in_mb, largest_mb) for meta in metas],
            "timeout_s": [meta.timeout_in_secs for meta in metas],
            "init_ms": [round(init_ms) for _, init_ms in starts],
            # What a caller says it took is at most the time from its Assign to its Idle.
            "duration_ms": [
                min(said_ms, longest_ms, ceil(ran_ms)) if said_ms else round(ran_ms)
                for said_ms, ran_ms in zip(reported, ran, strict=True)
            ],
            "status_code": list(map(_status, outcomes, codes)),
            "wait_ms": list(waits),
            "cold": list(colds),
            "outcome": list(outcomes),
            "result_code": list(codes),
            "create_ms": [round(create_ms) for create_ms, _ in starts],
        }
        return {name: columns[name] for name in COLUMNS}

    def _alarm(self, problem: str | None) -> None:
        if (problem is None) != (self.problem is None):
            if problem is None:
                log.info("recording again; %d records were lost", self.dropped)
            else:
                log.error("ALARM: %s", problem)
            self.problem = problem
            self._on_problem(problem)

    def _fold_what_was_left(self) -> None:
        """Journals whose process is gone become segments."""
        try:
            for partial in self.folder.glob(f".*{SEGMENT}.*{PARTIAL}"):
                if time.time() - partial.stat().st_mtime > 3_600.0:
                    partial.unlink(missing_ok=True)
            for journal in sorted(self.folder.glob(f"*{JOURNAL}")):
                if NAME.fullmatch(journal.stem):
                    fold(journal)
            self._retain()
        except Exception as error:  # it must not keep new records from being written
            log.warning("%s: cannot be tidied: %s", self.folder, error)

    def _retain(self) -> None:
        """Takes the oldest segments away, by age and by size."""
        files = []
        for file in sorted(self.folder.glob(f"*{SEGMENT}")):
            if NAME.fullmatch(file.stem):
                # Another scaler that records here may take it away at the same time.
                with suppress(FileNotFoundError):
                    files.append((file, begun_s(file.stem), file.stat().st_size))
        total = sum(size for _, _, size in files)
        pause_s = max(PAUSE_SHARE * self._max_age_s, 2.0 * self._segment_s)
        by_age = ages([segment_s for _, segment_s, _ in files], pause_s)
        gone = []
        for (file, _, size), age_s in list(zip(files, by_age, strict=True))[:-1]:
            if age_s > self._max_age_s or total > self._max_bytes:
                file.unlink(missing_ok=True)
                total -= size
                gone.append(file.stem)
        if gone:
            log.info(
                "took %d of %d segments away, begun from %s to %s: they are over %g days older than"
                " the newest, or all were over %.3g GB",
                *(len(gone), len(files), *(name.partition("-")[0] for name in (gone[0], gone[-1]))),
                *(self._max_age_s / DAY_S, self._max_bytes / 2**30),
            )


def _status(outcome: str, code: int) -> int:
    """2xx exactly where the instance was kept, whatever Idle said."""
    kept = outcome == "kept"
    return code if kept == (200 <= code < 300) else 200 if kept else 500
