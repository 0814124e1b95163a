"""The pause before a call is tried again."""

from __future__ import annotations

from collections.abc import Callable

RETRY_FIRST_S = 0.1
RETRY_LAST_S = 5.0
MAX_DOUBLINGS = 30
"""Far beyond RETRY_LAST_S, and far from where a float ends: 1,023, an hour of retries."""


def backoff_ms(failures: int, chance: Callable[[], float]) -> float:
    """After so many failures in a row: doubling, half of it by chance."""
    doublings = min(failures - 1, MAX_DOUBLINGS)
    pause_s = min(RETRY_FIRST_S * 2.0**doublings, RETRY_LAST_S)
    return 1000.0 * pause_s * (0.5 + chance() / 2.0)
