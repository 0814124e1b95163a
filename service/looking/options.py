"""How apps are looked at."""

from __future__ import annotations

from dataclasses import dataclass

from warmscaler.replicas.forecast import Forecast
from warmscaler.replicas.overrides import Override

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class LookingOptions:
    """Times in seconds."""

    interval_s: float = 15.0
    """From one look to the next."""
    acts_s: float = 0.0
    """Until whoever scales has heard of a look: the HPA asks every 15 s. Plans are for so much later."""
    history_s: float = 2 * DAY_S
    """What is read of an app when it is first seen."""
    hold_s: float = 300.0
    """For so long the last floor stands when nothing can be observed; then there is none."""
    forget_s: float = 3_600.0
    """An app that nobody asks for is not looked at any more after so long."""
    most_apps: int = 10_000
    overrides: tuple[Override, ...] = ()
    forecast: Forecast | None = None
    """The learned forecast; without one the others are followed."""
