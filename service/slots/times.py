"""How long is waited for what, and when slots want to be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import inf

from warmscaler.service.slots.life import Life

_SPARE = 1_000


@dataclass(frozen=True, slots=True)
class StartLimits:
    """For how long is waited for a start. Large models take minutes to load."""

    slow_create_s: float = 120.0
    """A CreateSlot without an answer for so long is sent once more, under another request id, if a
    request waits for it. Whichever answers first serves; the other slot is given back."""
    init_s: float = 1_200.0
    """An Init without an answer for so long has failed."""
    wait_s: float = 1_800.0
    """A request that waited for so long is refused, whatever its caller's deadline."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not 0.0 < getattr(self, name) < inf:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")


class Alarms:
    """A heap of which an entry counts only if it is still its slot's `due_ms`."""

    __slots__ = ("_heap", "_set", "_worth")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Life]] = []
        self._set = 0
        self._worth = _SPARE

    @property
    def next_ms(self) -> float:
        """When the first rings, stale or not."""
        return self._heap[0][0] if self._heap else inf

    def set(self, life: Life, due_ms: float) -> None:
        life.due_ms = due_ms
        if due_ms == inf:
            return
        self._set += 1
        heappush(self._heap, (due_ms, self._set, life))
        if len(self._heap) > self._worth:  # else what is gone would be held until it rings
            self._heap = [each for each in self._heap if each[2].due_ms == each[0]]
            heapify(self._heap)
            self._worth = 2 * len(self._heap) + _SPARE

    def pop_due(self, now_ms: float) -> tuple[float, Life] | None:
        """The next that is due, and since when; its alarm is then unset."""
        while self._heap and self._heap[0][0] <= now_ms:
            due_ms, _, life = heappop(self._heap)
            if life.due_ms == due_ms:
                life.due_ms = inf
                return due_ms, life
        return None
