"""When to start an instance for each level that has none, ahead of its next use, and which of them
are started together."""

from __future__ import annotations

from math import inf
from typing import NamedTuple

FILLED_BELOW = 2
"""A level is pre-warmed where at most this many instances make it up, its own among them."""


class Due(NamedTuple):
    """What is to be done for the levels whose time has come."""

    starts: int
    called: list[int]
    """The levels that these are for; those below them are filled as well."""
    alone: list[tuple[int, float]]
    """Levels with more than one empty one below, which know better, and when the first of those is due."""


class Ahead:
    """One time a level, in ms."""

    __slots__ = ("_at_ms",)

    def __init__(self) -> None:
        self._at_ms: dict[int, float] = {}

    def set(self, number: int, at_ms: float) -> None:
        """For that level, at that time."""
        self._at_ms[number] = at_ms

    def drop(self, number: int) -> None:
        """The level is in use."""
        if self._at_ms:
            self._at_ms.pop(number, None)

    def due(self, now_ms: float, *, here: int, in_use: int) -> Due:
        """Of the levels whose time has come, which are set no more; `here` are the app's instances,
        `in_use` its requests."""
        numbers = sorted(number for number, at_ms in self._at_ms.items() if at_ms <= now_ms)
        starts, called, early = 0, [], []
        for number in numbers:
            del self._at_ms[number]
            if number > in_use:
                # The levels below come into use first, so they must be filled as well.
                if number <= here + starts + FILLED_BELOW:
                    starts = max(starts, number - here)
                    called.append(number)
                else:
                    early.append(number)
        empty = here + starts + 1
        below = ((n, min(map(self.of, range(empty, n)), default=inf)) for n in early)
        return Due(starts, called, [each for each in below if each[1] < inf])

    def of(self, number: int) -> float:
        """When for that level; inf is never."""
        return self._at_ms.get(number, inf)

    @property
    def next_ms(self) -> float:
        """When for the first of all; inf is never."""
        return min(self._at_ms.values(), default=inf)
