"""How many requests of an app a start keeps waiting, each counted by the share it waits of it."""

from __future__ import annotations

from math import inf

SMOOTHING = 0.05
"""Weight of a new window, at least."""
BEFORE = 2
"""What is believed before any window is seen weighs as much as so many. With the first few windows it is a
plain mean: a new app that calls in bursts must not have to do so twenty times to be believed."""


class Crowd:
    """Counted in windows of a start each, from the first arrival after the last window."""

    __slots__ = ("_now", "_since_ms", "mean", "windows")

    def __init__(self) -> None:
        self.mean = 1.0
        """Over windows of late."""
        self.windows = 0
        """How many it is the mean of, or fewer."""
        self._now = 1.0
        self._since_ms = -inf

    @property
    def most(self) -> float:
        """The mean, or what is seen right now where that is more."""
        return max(self.mean, self._now)

    def arrived(self, now_ms: float, start_ms: float) -> None:
        behind_ms = now_ms - self._since_ms
        if behind_ms < start_ms:
            self._now += 1.0 - behind_ms / start_ms
        else:
            self.windows += 1
            weight = max(SMOOTHING, 1.0 / (self.windows + BEFORE))
            self.mean += weight * (self._now - self.mean)
            self._now = 1.0
            self._since_ms = now_ms
