"""An app deployed anew: which size and runtime its instances are to have.

The newest one that a request named is in force. During a rollout callers name both, the old and the
new; all of them are served by the new one, as soon as it was named once. An older one comes back,
as after a roll-back, when it is named and the one in force was not for COMES_BACK_MS.
"""

from __future__ import annotations

from warmscaler.models.policy import Pool

COMES_BACK_MS = 60_000.0
MOST_OLDER = 16
"""So many that were in force before are known as such; the oldest of more are new again."""


def names_another(now_ms: float, pool: Pool, memory_mb: int, runtime: str) -> bool:
    """Whether a request that names these is to change what is in force."""
    if memory_mb == pool.memory_mb and (not runtime or runtime == pool.runtime):
        return False  # who names no runtime wants no other
    return (memory_mb, runtime) not in pool.older or now_ms - pool.named_ms >= COMES_BACK_MS


def put_in_force(now_ms: float, pool: Pool, memory_mb: int, runtime: str) -> None:
    """Instances started from now on are these; see `Room.resize` for the size."""
    named, before = (memory_mb, runtime), (pool.memory_mb, pool.runtime)
    pool.older = [*(each for each in pool.older if each not in (named, before)), before][
        -MOST_OLDER:
    ]
    pool.runtime = runtime
    pool.deployment += 1
    pool.starts_seen = 0
    pool.named_ms = now_ms
