"""Fixed keep-alive: every idle instance is kept for the same time."""

from __future__ import annotations

from math import floor

from warmscaler.models.outlook import Outlook
from warmscaler.models.policy import AppPolicy, Policy, Pool


class _FixedApp(AppPolicy):
    __slots__ = ("_keep_ms",)

    def __init__(self, keep_ms: float) -> None:
        super().__init__()
        self._keep_ms = keep_ms

    def idle(self, now_ms: float, pool: Pool) -> float:
        return now_ms + self._keep_ms

    def outlook(self, now_ms: float, pool: Pool) -> Outlook:
        return Outlook(f"keeps an instance for {self._keep_ms / 1_000.0:g} s after each use")


class Fixed(Policy):
    """Destroys an instance exactly when it has been idle for `keep_s` seconds."""

    def __init__(self, keep_s: float) -> None:
        self.name = f"fixed:{keep_s:g}"
        self.keep_s = keep_s

    def app(self, key: str, memory_mb: int, runtime: str) -> AppPolicy:
        return _FixedApp(self.keep_s * 1000.0)


class _ReferenceApp(AppPolicy):
    __slots__ = ("_keep_ms", "_tick_ms")

    def __init__(self, keep_ms: float, tick_ms: float) -> None:
        super().__init__()
        self._keep_ms = keep_ms
        self._tick_ms = tick_ms

    def idle(self, now_ms: float, pool: Pool) -> float:
        # "over" the limit: an instance exactly at it at a tick lives until the next one
        return (floor((now_ms + self._keep_ms) / self._tick_ms) + 1) * self._tick_ms

    def outlook(self, now_ms: float, pool: Pool) -> Outlook:
        return Outlook(
            f"looks every {self._tick_ms / 1_000.0:g} s for what is idle over"
            f" {self._keep_ms / 1_000.0:g} s"
        )


class Reference(Policy):
    """The contest's reference server: a loop every `tick_s` destroys what is idle over `keep_s`."""

    name = "reference"

    def __init__(self, keep_s: float = 300.0, tick_s: float = 10.0) -> None:
        self.keep_s = keep_s
        self.tick_s = tick_s

    def app(self, key: str, memory_mb: int, runtime: str) -> AppPolicy:
        return _ReferenceApp(self.keep_s * 1000.0, self.tick_s * 1000.0)
