"""What a model was trained on, for its manifest."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from warmscaler.data.trace import Trace


def trained_on(part: Trace) -> dict[str, Any]:
    """Name, span, requests and apps of the requests in `part`; JSON."""
    return {
        "name": part.name,
        "first_arrival_ms": int(part.arrival_ms[0]),
        "last_arrival_ms": int(part.arrival_ms[-1]),
        "requests": len(part),
        "apps": len(np.unique(part.app)),
        "notes": list(part.notes),
    }


@cache
def code_sha256() -> str:
    """Of the program's own source: which code made a model, between releases too."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for room in ("data", "models", "service", "simulator", "training"):
        for file in sorted((root / room).rglob("*.py")):
            digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()
