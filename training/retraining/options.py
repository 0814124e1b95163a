"""What a retraining is asked for, and how it is refused."""

from __future__ import annotations

from dataclasses import dataclass

from warmscaler.simulator.replay import CREATE_MS

DAY_MS = 86_400_000.0


class RetrainError(Exception):
    """Input that nothing can be learned from. Its text is one line."""


class Busy(Exception):
    """Another job works on this store. Its text is one line."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a job was asked for."""

    window_ms: float = 14.0 * DAY_MS
    """How much of the recording, back from its newest request, is looked at."""
    holdout_ms: float | None = None
    """How much of that is held out; None is a fifth, and a day at most."""
    margin: float = 0.01
    """By which share of their costs the challenger must be below the others."""
    allow_more_waiting: bool = False
    """Promote what costs less although who calls waits more: see `judging.MORE_WAITING`."""
    price: float | None = None
    """Seconds of waiting that a GB·s is worth, in service and in judging; None is found."""
    create_ms: float = CREATE_MS
    create_ms_recorded: bool = False
    """It is what the recording says, not what was asked for."""
    jobs: int = 1
    keep: int = 30
    """Versions that stay in the store."""
