"""Files that are there whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident

PARTIAL = ".partial"
"""How the names of unfinished files end; they begin with a dot and the name of what they become."""


@contextmanager
def whole(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yields where to write what shall be `path`, which is what it was until the block ends well.

    `durable` has it on the disk by then. What is no file, /dev/stdout or a pipe, is written as it is;
    a link stays one. Raises OSError.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    path = path.resolve() if path.is_symlink() else path
    partial = path.with_name(f".{path.name}.{os.getpid()}-{get_ident()}{PARTIAL}")
    try:
        yield partial
        if durable:
            sync(partial)  # the name must not reach the disk before what it names
        partial.replace(path)
        if durable:
            sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Brings a file's bytes, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
