"""What a platform's call came to: a slot made, or one kind of error."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Made:
    """CreateSlot's answer."""

    slot_id: str
    memory_mb: int = 0
    """What the platform says the slot has; 0 where it does not say."""


class PlatformError(Exception):
    """A call of the platform that did not do what was asked. Its text is the reason, one line."""

    def __init__(
        self,
        reason: str,
        *,
        retry: bool = False,
        in_doubt: bool = False,
        unreachable: bool = False,
        timed_out: bool = False,
        not_found: bool = False,
    ) -> None:
        """`retry`: the same call may do better. `in_doubt`: it may have been done all the same.
        `unreachable`: nobody was there to answer. `timed_out`: no answer came in time, of which
        the platform or this one call may be the cause. `not_found`: it knows no such slot.
        """
        super().__init__(reason)
        self.retry = retry
        self.in_doubt = in_doubt
        self.unreachable = unreachable
        self.timed_out = timed_out
        self.not_found = not_found


class NotAsked(PlatformError):
    """A breaker is open: not even asked."""

    def __init__(self, wait_ms: float, why: str) -> None:
        super().__init__(f"no start is tried now: {why}", retry=True)
        self.wait_ms = wait_ms
