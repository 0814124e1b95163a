"""Where a report comes from: enough to make it again, and to see that it is the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from warmscaler.training.provenance import code_sha256

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Origin:
    """What the page says of itself."""

    version: str
    code_sha256: str
    written: datetime
    command: str
    trace_sha256: str | None
    """Of the file; of a folder, of the lines that `sha256sum` prints for its files in order of their
    names. None where there is no file."""
    notes: Sequence[str] = ()
    """What its user knows of the trace and the trace's file does not say, such as what was drawn."""


def origin(
    trace: Path, *, command: str, written: datetime | None = None, notes: Sequence[str] = ()
) -> Origin:
    """Of a report on the trace at `trace`, made by `command`. `written` is now unless told."""
    return Origin(
        version=version("warmscaler"),
        code_sha256=code_sha256(),
        written=written or datetime.now(UTC),
        command=command,
        trace_sha256=sha256_of(trace),
        notes=notes,
    )


def sha256_of(path: Path) -> str | None:
    """See `Origin.trace_sha256`."""
    if path.is_file():
        return _of_file(path)
    if not path.is_dir():
        return None
    digest = hashlib.sha256()
    for file in sorted(file for file in path.rglob("*") if file.is_file()):
        digest.update(f"{_of_file(file)}  {file.relative_to(path).as_posix()}\n".encode())
    return digest.hexdigest()


def _of_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
