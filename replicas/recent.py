"""Last value and seasonal naive: what is observed, and the same time a day before."""

from __future__ import annotations

import numpy as np

_DAY_S = 86_400.0


class Recent:
    """One day of peaks by look, in a ring, and the last observation."""

    __slots__ = ("_at", "_look_s", "_peaks", "in_use", "last", "last_s")

    def __init__(self, look_s: float) -> None:
        slots = round(_DAY_S / look_s) + 1
        self._look_s = look_s
        self._peaks = np.zeros(slots, dtype=np.float32)
        self._at = np.full(slots, -1, dtype=np.int64)  # the look that a place holds
        self.in_use, self.last, self.last_s = 0, 0.0, -float("inf")

    def add(self, now_s: float, concurrency: float, in_use: int) -> None:
        """Left out if older than the last one."""
        if now_s < self.last_s:
            return
        look = int(now_s // self._look_s)
        place = look % len(self._peaks)
        if self._at[place] != look:
            self._at[place], self._peaks[place] = look, 0.0
        self._peaks[place] = max(self._peaks[place], concurrency)
        self.in_use, self.last, self.last_s = in_use, concurrency, now_s

    def forecast(self, at_s: float) -> tuple[float, str]:
        """The larger of the last value and that of a day before `at_s`, and whose it is."""
        look = int((at_s - _DAY_S) // self._look_s)
        place = look % len(self._peaks)
        before = float(self._peaks[place]) if self._at[place] == look else 0.0
        return (before, "seasonal naive") if before > self.last else (self.last, "last value")
