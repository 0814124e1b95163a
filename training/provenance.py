"""What a model was trained on, for its manifest."""

from __future__ import annotations

from typing import Any

import numpy as np

from data.trace import Trace


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
