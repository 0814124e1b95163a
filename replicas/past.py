"""What was measured before an app is followed, taken in at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from warmscaler.replicas.compiled import compilable, fast
from warmscaler.replicas.experts import Accounts, Terms, charge, propose
from warmscaler.replicas.levels import LOOK_S, THRESHOLDS, Memory, advance
from warmscaler.replicas.spec import AppSpec

PLAIN_LOOKS = 50_000
"""So many take as long as compiling does."""


@compilable
def replay(
    memory: Memory, accounts: Accounts, terms: Terms, looks: Any, needed: Any, mean: Any
) -> None:
    """Takes the looks in as a planner without a model does, one after another."""
    none = np.zeros(0)
    for i in range(len(looks)):
        missing = looks[i] - looks[i - 1] - 1 if i else 0
        charge(accounts, terms, needed[i], mean[i])
        advance(memory, looks[i], missing, needed[i])
        propose(accounts, memory, terms, looks[i], none, 0)


_taken = [0]


def replayer(looks: int) -> Callable[..., None]:
    """`replay`, compiled once this process has so many looks to take in that it is worth the wait."""
    _taken[0] += looks
    return fast(replay) if _taken[0] > PLAIN_LOOKS else replay


def by_look(spec: AppSpec, times_s: Any, concurrency: Any) -> tuple[Any, Any, Any]:
    """Looks that were seen, replicas needed at their peaks, and used, each of shape (looks,).

    `times_s` rise; each observation belongs to the look that its time is nearest to.
    """
    looks, first = np.unique(
        np.rint(np.asarray(times_s) / LOOK_S).astype(np.int64), return_index=True
    )
    peak = np.maximum.reduceat(np.maximum(np.asarray(concurrency, dtype=np.float64), 0.0), first)
    needed = np.ceil(peak / spec.container_concurrency - 1e-9)
    return looks, np.minimum(needed, THRESHOLDS[-1]), peak / spec.container_concurrency
