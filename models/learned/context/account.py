"""Whether the context pays for an app: what it was worth in training, then what it spares online."""

from __future__ import annotations

SMOOTHING = 0.0025
"""Of the idle times foreseen: what they spare is a small difference of large ones."""
BELIEVED = 200.0
"""What training says weighs as much as so many of them."""
DOUBT = 1.0
"""It is left off where it costs more by so many standard errors."""


class Account:
    """Costs of an app's idle times, planned by its own past alone and in the context."""

    __slots__ = ("_count", "_plain", "_spared", "_squares", "gain", "pays")

    def __init__(self, gain: float) -> None:
        """`gain` is the share of the cost that training expects to be spared."""
        self.gain = gain
        self._count = self._plain = self._spared = self._squares = 0.0
        self.pays = gain > 0.0

    def add(self, plain: float, own: float) -> None:
        """One idle time's cost, by either plan."""
        keep = 1.0 - SMOOTHING
        spared = plain - own
        self._count = keep * self._count + 1.0
        self._plain = keep * self._plain + plain
        self._spared = keep * self._spared + spared
        self._squares = keep * self._squares + spared * spared
        believed = BELIEVED * self.gain * self._plain / self._count
        self.pays = (
            self._spared + believed > -DOUBT * self._squares**0.5
            if self.gain > 0.0
            else (self._spared + believed > DOUBT * self._squares**0.5)
        )
