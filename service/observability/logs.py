"""Structured logs on stderr: text or JSON, nothing unescaped, nothing without end.

What gRPC prints to stderr past its loggers becomes log lines as well (`stderr_in_log`).

What callers and the platform send may end up in an argument of a log line. Every argument that is
not a number is escaped, bounded and, where it is not one plain word, quoted, so that no key and no
error text can begin a line or a field of its own.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr
from datetime import UTC, datetime
from enum import StrEnum
from io import TextIOBase
from typing import TextIO

import orjson

MAX_VALUE = 256
"""Characters of one argument."""
MAX_LINE = 4_096
MAX_TRACEBACK = 16_384
BURST = 10
"""Lines of one kind (one place in the code) in a row, before the others are counted only."""
REFILL_S = 10.0
"""After so long one more line of a kind is written."""
_KINDS = 1_000
_MAX_PRINTED = 100
"""Lines of a traceback that was printed, before it is taken to be over."""
_CALLERS_DID = {
    "DecodeError": "a message that cannot be read",
    "UnicodeDecodeError": "a path that cannot be read",
    "ExecuteBatchError": "a caller that went before its answer came",
}
"""What gRPC raises, and logs with a traceback, because of a caller."""


class LogFormat(StrEnum):
    """How a line is written."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """The least level that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def configure(
    form: LogFormat = LogFormat.TEXT, level: LogLevel = LogLevel.INFO, stream: TextIO | None = None
) -> None:
    """Sends every logger's lines to `stream` (stderr). Replaces what was configured before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form is LogFormat.JSON else TextFormatter())
    handler.addFilter(RateLimit())
    handler.addFilter(_no_traceback_for_callers)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # It has a line for every request that went well.
    logging.getLogger("httpx2").setLevel(logging.WARNING)


@contextmanager
def stderr_in_log() -> Iterator[None]:
    """Whatever prints to `sys.stderr` meanwhile writes log lines instead, escaped and limited like
    all: gRPC prints some tracebacks there. Call `configure` first; it keeps the stream itself."""
    with redirect_stderr(_Printed(sys.stderr)) as printed:
        try:
            yield
        finally:
            printed.close()


class _Printed(TextIOBase):
    """Logs each line that is written, and each traceback as one event."""

    _log = logging.getLogger("stderr")

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # Of each thread: a lock around the log's own could be taken the other way around.
        self._of_thread = threading.local()

    def write(self, text: str) -> int:
        mine = self._of_thread.__dict__
        if mine.get("logs"):  # the log itself fails, and says so
            return self._stream.write(text)
        *lines, mine["rest"] = (mine.get("rest", "") + text).split("\n")
        mine["rest"] = mine["rest"][-MAX_LINE:]
        mine["logs"] = True
        try:
            for line in lines:
                self._line(line, mine.setdefault("traceback", []))
        finally:
            mine["logs"] = False
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return False

    def close(self) -> None:
        """Logs what this thread began and did not end. Leaves the stream open."""
        if self._of_thread.__dict__.get("rest"):
            self.write("\n")

    def _line(self, line: str, traceback: list[str]) -> None:
        if traceback or line.startswith("Traceback "):
            traceback.append(line)
            is_last = len(traceback) > 1 and line[:1] not in ("", " ")
            if is_last or len(traceback) > _MAX_PRINTED:
                self._raised(traceback)
                traceback.clear()
        elif line:
            self._log.warning("%s", line)

    def _raised(self, traceback: Iterable[str]) -> None:
        *_, last = traceback
        name = last.partition(":")[0].rpartition(".")[2]
        did = _CALLERS_DID.get(name)
        level = logging.ERROR if did is None else logging.INFO
        message, arguments = (did, ()) if did else ("%s", (last,))
        # Its exception stands where code does, so that RateLimit takes it for a kind of its own.
        record = self._log.makeRecord(self._log.name, level, name, 0, message, arguments, None)
        if did is None:
            record.exc_text = "\n".join(traceback)
        if self._log.isEnabledFor(level):
            self._log.handle(record)


def _no_traceback_for_callers(record: logging.LogRecord) -> bool:
    """gRPC logs what a caller did as if it were ours."""
    if record.exc_info and record.exc_info[0] is not None and record.name.startswith("grpc"):
        did = _CALLERS_DID.get(record.exc_info[0].__name__)
        if did is not None:
            record.levelno, record.levelname = logging.INFO, "INFO"
            record.msg, record.args = did, ()
            record.exc_info = record.exc_text = None
    return True


def escaped(text: str, limit: int = MAX_VALUE) -> str:
    """`text` on one line: what does not print is escaped, what is longer than `limit` is cut."""
    cut = text[:limit]
    if not cut.isprintable():
        cut = "".join(
            each if each.isprintable() else each.encode("unicode_escape").decode() for each in cut
        )[: 2 * limit]
    return cut if len(text) <= limit else f"{cut}… ({len(text)} characters)"


def value(argument: object) -> object:
    """An argument as it may stand in a line: numbers as they are, all else escaped and quoted."""
    if argument is None or isinstance(argument, bool | int | float):
        return argument
    text = escaped(str(argument))
    plain = text and not any(each in ' "=\\' for each in text)
    return text if plain else '"' + text.replace('"', "'") + '"'


def message(record: logging.LogRecord) -> str:
    """The record's line, its arguments made harmless. Never raises: a log line is not worth it."""
    arguments = record.args
    try:
        if isinstance(arguments, dict):
            text = str(record.msg) % {name: value(each) for name, each in arguments.items()}
        elif arguments:
            text = str(record.msg) % tuple(value(each) for each in arguments)
        else:
            text = str(record.msg)
    except (TypeError, ValueError, KeyError):
        text = f"{record.msg!s} {arguments!r}"
    return escaped(text, MAX_LINE)


class TextFormatter(logging.Formatter):
    """`TIME LEVEL LOGGER MESSAGE`; a traceback follows, its lines set in."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname} {record.name} {message(record)}"
        for traceback in _traceback(self, record):
            line += f"\n  | {traceback}"
        return line


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, and `exception` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message(record),
        }
        traceback = _traceback(self, record)
        if traceback:
            fields["exception"] = traceback
        return orjson.dumps(fields).decode()


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    text = record.exc_text or ""
    if record.exc_info:
        text = formatter.formatException(record.exc_info)
    return [escaped(line, MAX_LINE) for line in text[-MAX_TRACEBACK:].split("\n")] if text else []


class RateLimit(logging.Filter):
    """Lets BURST lines of one kind through, then one every REFILL_S, which says how many it stands
    for: a platform that is down must not fill the disk."""

    def __init__(self) -> None:
        super().__init__()
        self._kinds: OrderedDict[tuple[object, ...], _Kind] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        raised = record.exc_info[0] if record.exc_info else None
        # All of gRPC's compiled part is one place: what was raised tells its lines apart.
        key = (record.pathname, record.lineno, record.levelno, type(record.msg), raised)
        now_s = time.monotonic()
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = _Kind(now_s)
            if len(self._kinds) > _KINDS:
                self._kinds.popitem(last=False)
        kind.left = min(float(BURST), kind.left + (now_s - kind.seen_s) / REFILL_S)
        kind.seen_s = now_s
        if kind.left < 1.0:
            kind.hidden += 1
            return False
        kind.left -= 1.0
        if kind.hidden:
            record.msg = f"{record.msg} (and {kind.hidden} more like it)"
            kind.hidden = 0
        return True


class _Kind:
    """What is left of a kind's burst."""

    __slots__ = ("hidden", "left", "seen_s")

    def __init__(self, now_s: float) -> None:
        self.left = float(BURST)
        self.seen_s = now_s
        self.hidden = 0
