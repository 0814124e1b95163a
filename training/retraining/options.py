"""What a retraining is asked for, and how it is refused."""

from __future__ import annotations

from dataclasses import dataclass

from warmscaler.models.objectives.words import Objective
from warmscaler.simulator.replay import CREATE_MS

DAY_MS = 86_400_000.0
GUARD = 0.1


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
    guard: float = GUARD
    """Nothing is promoted under which requests wait longer, or more of them for a start, by more than
    that share; inf allows it."""
    objective: Objective | None = None
    """In service and in judging; None is that of the model in service, else the default."""
    create_ms: float = CREATE_MS
    create_ms_recorded: bool = False
    """It is what the recording says, not what was asked for."""
    jobs: int = 1
    context: bool = False
    """What all apps teach of when calls come is learned too."""
    keep: int = 30
    """Versions that stay in the store."""
