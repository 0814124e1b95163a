"""Memory that is there when serving begins, and stays."""

from __future__ import annotations

import gc


def settle_memory() -> None:
    """Takes all that is there when serving begins out of later garbage collections: every full one
    would look through it, libraries and all, and hold the event loop for tens of milliseconds."""
    gc.collect()
    gc.freeze()
