"""How old what was written down is, whatever the clock said when it was.

Nothing here asks the clock: one start with it forty days ahead would make everything too old. Age is
counted back from what is newest, and a stretch in which nothing was written counts for little: a
clock that was wrong for a while only makes such a stretch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

PAUSE_SHARE = 0.1
"""A stretch in which nothing was written counts for so much, at most, of how long things are kept."""


def ages(times: Sequence[float], pause: float) -> list[float]:
    """How old each of `times`, in order, is; the last is new. No step counts more than `pause`."""
    age = 0.0
    found = [age]
    for earlier, later in pairwise(reversed(times)):
        age += min(earlier - later, pause)
        found.append(age)
    return found[::-1] if times else []
