"""What is told of an app before its first observation, and checked."""

from __future__ import annotations

import math
from dataclasses import dataclass

_NUMBERS: dict[str, tuple[float, float]] = {
    "start_s": (0.0, 86_400.0),
    "memory_mb": (1.0, 2.0**24),
    "price": (1e-6, 1e6),
    "container_concurrency": (1.0, 1e6),
    "least": (0.0, 1e6),
    "most": (1.0, 1e6),
    "cool_down_s": (0.0, 604_800.0),
    "step_up": (1.0, 1e6),
    "step_down": (1.0, 1e6),
    "objective": (0.5, 0.9999),
    "reaction_s": (0.0, 3_600.0),
}
"""The least and the most of each field."""


class SpecError(ValueError):
    """A field that cannot be. Its text is one line: which field, what is wrong, what it may be.

    `field` is the name of the field in AppSpec.
    """

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field = field


@dataclass(frozen=True, slots=True)
class AppSpec:
    """One app whose replicas are wanted. Raises SpecError where a field cannot be."""

    app: str
    start_s: float
    """From the decision to a replica that serves, as measured or told."""
    memory_mb: float
    """Of one replica."""
    price: float
    """Seconds of waiting that a GB·s (1024 MB) is worth."""
    container_concurrency: int = 1
    """Requests that a replica serves at once."""
    least: int = 0
    most: int = 1_000
    cool_down_s: float = 0.0
    """How long a replica stays after it was last wanted."""
    step_up: int | None = None
    """The most replicas more than at the look before; None for no limit."""
    step_down: int | None = None
    """The most replicas fewer than at the look before; None for no limit."""
    objective: float | None = None
    """Instead of the price: how sure to be that there are enough, as 0.99."""
    reaction_s: float = 2.0
    """Until the platform itself sees a request that waits: Knative's tick is 2 s, HPA's sync 15 s."""

    def __post_init__(self) -> None:
        if not self.app:
            raise SpecError("app", "app: it is empty; name it")
        for field, (least, most) in _NUMBERS.items():
            value = getattr(self, field)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise SpecError(field, f"{field} {value!r}: it must be a number")
            if not least <= value <= most or math.isnan(value):
                text = f"{field} {value:g}: it must be from {least:g} to {most:g}"
                raise SpecError(field, text)
        for field in ("container_concurrency", "least", "most", "step_up", "step_down"):
            value = getattr(self, field)
            if value is not None and not isinstance(value, int):
                raise SpecError(field, f"{field} {value:g}: it must be a whole number")
        if self.least > self.most:
            raise SpecError("least", f"least {self.least}: it is above most, {self.most}")

    def replicas_for(self, concurrency: float) -> int:
        """How many replicas hold so many requests at once."""
        return math.ceil(max(concurrency, 0.0) / self.container_concurrency - 1e-9)
