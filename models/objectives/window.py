"""What a fixed keep-alive window would have cost on the requests that were served: a shadow account.

Of each app it keeps when every instance that the window would have went idle. A request takes the one
that went idle last before it came, if that is within its window, else it waits for a start of its own
(early binding, as the reference server does). Requests are told when they are done, so that their
executions are known, and not always in the order they came in: two that change places take each
other's instance, which changes neither how many starts there are nor, by much, the memory.
"""

from __future__ import annotations

from bisect import bisect_right, insort


class Window:
    """One window for all apps. Times in ms."""

    __slots__ = ("_idle", "idle_mb_ms", "keep_ms", "starts", "waited_ms")

    def __init__(self, keep_ms: float) -> None:
        self.keep_ms = keep_ms
        self.waited_ms = 0.0
        self.starts = 0.0
        """Requests that wait for one."""
        self.idle_mb_ms = 0.0
        """Memory times time of instances that start or are idle, and are used again or gone."""
        self._idle: dict[str, list[float]] = {}
        """By app: when each of its instances went idle, or will, in order."""

    def served(
        self,
        key: str,
        memory_mb: int,
        start_ms: float,
        arrival_ms: float,
        use_ms: float,
        *,
        broke: bool = False,
    ) -> float | None:
        """A request of `key` came at `arrival_ms`, executed for `use_ms` and is done; its instance is
        bad and goes where it `broke`. Returns what it would have waited; None for the first of its
        app, which no window could have served."""
        idle = self._idle.get(key)
        if idle is None:
            self._idle[key] = [] if broke else [arrival_ms + start_ms + use_ms]
            return None
        keep_ms = self.keep_ms
        waits_ms = 0.0
        place = bisect_right(idle, arrival_ms) - 1
        if place >= 0 and (unused_ms := arrival_ms - idle[place]) <= keep_ms:
            del idle[place]
            self.idle_mb_ms += unused_ms * memory_mb
        else:
            waits_ms = start_ms
            self.starts += 1.0
            self.waited_ms += start_ms
            self.idle_mb_ms += start_ms * memory_mb
        if not broke:
            insort(idle, arrival_ms + waits_ms + use_ms)
        # Twice the window: one that came sooner may be done later.
        while idle and idle[0] + 2.0 * keep_ms < arrival_ms:
            del idle[0]
            self.idle_mb_ms += keep_ms * memory_mb
        return waits_ms

    def forget(self, key: str) -> None:
        """The app is not known any more."""
        self._idle.pop(key, None)
