"""Circuit breakers: what fails is asked seldom, and its callers hear so at once.

M. Nygard, "Release It!", 2nd edition, 2018, chapter 5. One for each app and size counts what the
platform answers about them; one for the platform counts only what says that nobody is there, and
never holds off those that had no part in its failures. The clock comes with each question.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from enum import Enum

from warmscaler.service.slots.answers import PlatformError

THRESHOLD = 5
"""Failures in a row that open it: one in twenty calls failing at random never does."""
FIRST_OPEN_MS = 500.0
LAST_OPEN_MS = 5_000.0
PROBE_MS = 30_000.0
"""A probe that has not ended by then is taken for lost."""
PROBES = 8
"""Calls at once by which an open breaker before the platform looks whether it is back."""
APPS_SILENT = 2
"""Time-outs open the platform's breaker only where they are of so many apps."""
JITTER = 0.2
MOST_APPS = 10_000
"""Apps whose failures are remembered at once, the latest."""


class BreakerState(Enum):
    """Closed: calls go through. Open: none do. Half open: a few do, to see."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Opens after failures in a row, for longer each time; then lets `probes` through to see."""

    def __init__(self, chance: Callable[[], float], probes: int = 1) -> None:
        """`chance` draws from 0 to 1, for jitter."""
        self._chance = chance
        self._most_probes = probes
        self._probes: list[float] = []
        """When each call that went through an open breaker began."""
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
            return self._until_ms - now_ms
        self._probes = [each for each in self._probes if now_ms - each < PROBE_MS]
        if len(self._probes) >= self._most_probes:
            return FIRST_OPEN_MS
        self._probes.append(now_ms)
        self.state = BreakerState.HALF_OPEN
        return 0.0

    def not_made(self) -> None:
        """A call that might go ahead was not made: the next may, to see."""
        if self._probes:
            self._probes.pop()
        if self.state is BreakerState.HALF_OPEN and not self._probes:
            self.state = BreakerState.OPEN

    def succeeded(self) -> None:
        """A call did what was asked."""
        self._failures = 0
        if self.state is not BreakerState.CLOSED:
            self._open_ms = 0.0
            self._probes = []
            self.state = BreakerState.CLOSED
            self.on_change(True)

    def failed(self, now_ms: float, *, may_open: bool = True) -> None:
        """A call did not, and whom this breaker is for is to blame."""
        if self.state is BreakerState.OPEN:
            return  # it began before
        self._failures += 1
        if not may_open:
            return
        if self.state is BreakerState.HALF_OPEN or self._failures >= THRESHOLD:
            told = self.state is BreakerState.CLOSED
            self.state = BreakerState.OPEN
            self._probes = []
            self._open_ms = min(max(2.0 * self._open_ms, FIRST_OPEN_MS), LAST_OPEN_MS)
            self._until_ms = now_ms + self._open_ms * (1.0 + JITTER * self._chance())
            if told:
                self.on_change(False)


class Breakers:
    """Whom each answer of the platform speaks of: one app and size, or all."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self.platform = Breaker(chance, PROBES)
        self._chance = chance
        self._apps: OrderedDict[Hashable, tuple[Breaker, str]] = OrderedDict()
        """By app and size, the failing ones only, with the last reason."""
        self._silent: dict[Hashable, None] = {}
        """Apps that had a part in the platform's failures since it answered last."""
        self._heard_ms = float("-inf")

    @property
    def held_off(self) -> int:
        """Apps and sizes whose own breaker is not closed."""
        return sum(each.state is not BreakerState.CLOSED for each, _ in self._apps.values())

    def wait_ms(self, now_ms: float, app: Hashable) -> tuple[float, str]:
        """0 where CreateSlot of this app may be called, then tell its end; else for how long not,
        and why."""
        own, reason = self._apps.get(app, (None, ""))
        if own is not None and (wait_ms := own.wait_ms(now_ms)) > 0.0:
            return wait_ms, f"the last ones of this app failed: {reason}"
        # Its call may be slow and well: it waits for no place among those that look.
        wait_ms = self.platform.wait_ms(now_ms) if app in self._silent else 0.0
        if wait_ms > 0.0 and own is not None:
            own.not_made()
        return wait_ms, "the platform does not answer"

    def not_made(self, app: Hashable) -> None:
        """A CreateSlot that might go ahead was not sent."""
        if app in self._silent:
            self.platform.not_made()
        own, _ = self._apps.get(app, (None, ""))
        if own is not None:
            own.not_made()

    def answered(self, now_ms: float) -> None:
        """The platform is there, whatever it says."""
        self._heard_ms = now_ms
        self._silent.clear()
        self.platform.succeeded()

    def created(self, now_ms: float, app: Hashable) -> None:
        """CreateSlot did what was asked."""
        self._apps.pop(app, None)
        self.answered(now_ms)

    def create_failed(
        self, now_ms: float, app: Hashable, error: PlatformError, sent_ms: float
    ) -> None:
        """CreateSlot did not. A platform that refuses what makes no sense is well, and so is the
        app: it hears the same however often it asks."""
        if error.retry:
            own, _ = self._apps.get(app) or (Breaker(self._chance), "")
            own.failed(now_ms)
            self._apps[app] = own, str(error)
            self._apps.move_to_end(app)
            if len(self._apps) > MOST_APPS:
                self._apps.popitem(last=False)
        else:
            self._apps.pop(app, None)
        self.failed(now_ms, app, error, sent_ms)

    def failed(self, now_ms: float, app: Hashable, error: PlatformError, sent_ms: float) -> None:
        """A call for this app, sent at `sent_ms`, failed: is the platform gone?"""
        if error.unreachable:
            self._falls_silent(app)
            self.platform.failed(now_ms)
        elif error.timed_out:
            if self._heard_ms < sent_ms:  # else it answers others
                self._falls_silent(app)
                self.platform.failed(now_ms, may_open=len(self._silent) >= APPS_SILENT)
        else:
            self.answered(now_ms)

    def _falls_silent(self, app: Hashable) -> None:
        self._silent[app] = None
        if len(self._silent) > MOST_APPS:
            del self._silent[next(iter(self._silent))]
