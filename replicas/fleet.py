"""What all apps together do: a rise that many share is seen before each shows it alone."""

from __future__ import annotations

from typing import Any

from warmscaler.replicas.compiled import compilable
from warmscaler.replicas.levels import DAY_LOOKS

_FAST, _SLOW = 1.0 - 0.5 ** (1.0 / 20.0), 1.0 - 0.5 ** (1.0 / DAY_LOOKS)


@compilable
def levels_of(total: Any, out: Any) -> None:
    """The fleet's level at each look from the looks before: five minutes against a day.

    `total[i]` is the replicas that all apps needed in look i.
    """
    recent, usual = 0.0, 0.0
    for i in range(len(total)):
        out[i] = recent / usual if usual > 0.0 else 1.0
        recent += _FAST * (total[i] - recent)
        usual += _SLOW * (total[i] - usual)


class Fleet:
    """Shared by the planners of one fleet."""

    __slots__ = ("_look", "_needed", "_recent", "_total", "_usual", "level")

    def __init__(self) -> None:
        self._needed: dict[str, float] = {}
        self._look, self._total = -1, 0.0
        self._recent, self._usual = 0.0, 0.0
        self.level = 1.0
        """Five minutes against a day, up to the look before."""

    def note(self, app: str, look: int, needed: float) -> None:
        """An app needed so many replicas in a look."""
        if look > self._look >= 0:
            self._recent += _FAST * (self._total - self._recent)
            self._usual += _SLOW * (self._total - self._usual)
            self.level = self._recent / self._usual if self._usual > 0.0 else 1.0
        self._look = max(self._look, look)
        self._total += needed - self._needed.get(app, 0.0)
        self._needed[app] = needed

    def forget(self, app: str) -> None:
        """An app is no longer planned."""
        self._total -= self._needed.pop(app, 0.0)
