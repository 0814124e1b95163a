"""A circuit breaker: a platform that is down is asked seldom, and its callers hear so at once.

M. Nygard, "Release It!", 2nd edition, 2018, chapter 5. The clock comes with each question.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from random import Random

THRESHOLD = 5
"""Failures in a row that open it: one in twenty calls failing at random never does."""
FIRST_OPEN_MS = 500.0
LAST_OPEN_MS = 5_000.0
PROBE_MS = 30_000.0
"""A probe that has not ended by then is taken for lost."""
JITTER = 0.2


class BreakerState(Enum):
    """Closed: calls go through. Open: none do. Half open: one does, to see."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Opens after failures in a row, for longer each time; then lets one call through to see."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._failures = 0
        self._open_ms = 0.0
        """For how long it was opened last; 0 while it is closed."""
        self._until_ms = 0.0
        self.state = BreakerState.CLOSED
        self.on_change: Callable[[bool], None] = lambda _: None
        """Is told, whenever it changes, whether calls go through."""

    def wait_ms(self, now_ms: float) -> float:
        """0 where a call may go ahead (then tell its end), else when to ask again."""
        if self.state is BreakerState.CLOSED:
            return 0.0
        if now_ms < self._until_ms:
            return self._until_ms - now_ms if self.state is BreakerState.OPEN else FIRST_OPEN_MS
        self.state = BreakerState.HALF_OPEN
        self._until_ms = now_ms + PROBE_MS
        return 0.0

    def not_made(self, now_ms: float) -> None:
        """A call that might go ahead was not made: the next may, to see."""
        if self.state is BreakerState.HALF_OPEN:
            self.state = BreakerState.OPEN
            self._until_ms = now_ms

    def succeeded(self) -> None:
        """A call did what was asked."""
        self._failures = 0
        self._open_ms = 0.0
        if self.state is not BreakerState.CLOSED:
            self.state = BreakerState.CLOSED
            self.on_change(True)

    def failed(self, now_ms: float) -> None:
        """A call did not, and the platform is to blame."""
        if self.state is BreakerState.OPEN:
            return  # it began before
        self._failures += 1
        if self.state is BreakerState.HALF_OPEN or self._failures >= THRESHOLD:
            self.state = BreakerState.OPEN
            self._open_ms = min(max(2.0 * self._open_ms, FIRST_OPEN_MS), LAST_OPEN_MS)
            self._until_ms = now_ms + self._open_ms * (1.0 + JITTER * self._random.random())
            self.on_change(False)
