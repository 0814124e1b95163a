"""What a source does not say and has to be drawn: start-up times and runtimes, seeded by the key.

The start-up times follow what is known of the contest's third set: quantiles of 211 of its apps.
"""

from __future__ import annotations

import hashlib

import numpy as np

RUNTIMES = ("python", "nodejs", "dotnet", "java", "go", "custom")
_INIT_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_INIT_MS = (100.0, 134.0, 207.0, 1_225.0, 3_979.0, 8_724.0, 18_754.0)


def seeded_by(key: str, seed: int = 0) -> np.random.Generator:
    """A generator that depends only on `key` and `seed`, on any machine."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def draw_init_ms(random: np.random.Generator) -> int:
    """A start-up time like those of the contest's third set, in ms."""
    # Interpolated in the logarithm: the set has two clumps an order of magnitude apart.
    quantile = np.interp(random.random(), _INIT_QUANTILES, np.log(_INIT_MS))
    return round(float(np.exp(quantile)))


def draw_runtime(random: np.random.Generator) -> str:
    """A runtime's name."""
    return RUNTIMES[int(random.integers(len(RUNTIMES)))]
