"""How the scaler is: ready, draining, degraded; told to gRPC health checks and to /healthz."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from types import MappingProxyType

PARTS = ("model", "platform", "ledger", "recording")
"""What can have a problem while requests are served all the same."""


class Phase(Enum):
    """Where the server is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


class Health:
    """The phase, and what is wrong by its part; of `scaler serve` one of PARTS.

    A scaler with problems is degraded: it serves, though not as it should. Lives on one thread.
    """

    def __init__(self) -> None:
        self._phase = Phase.STARTING
        self._problems: dict[str, str] = {}
        self._listeners: list[Callable[[], None]] = []

    @property
    def phase(self) -> Phase:
        """Where the server is in its life."""
        return self._phase

    @property
    def problems(self) -> MappingProxyType[str, str]:
        """What is wrong, one line each, by its part."""
        return MappingProxyType(self._problems)

    @property
    def status(self) -> str:
        """`starting`, `ready`, `degraded` or `draining`."""
        if self._phase is Phase.READY and self._problems:
            return "degraded"
        return self._phase.value

    @property
    def serves(self) -> bool:
        """Whether requests may be sent here: ready or degraded."""
        return self._phase is Phase.READY

    def enter(self, phase: Phase) -> None:
        """The server starts, is ready, drains."""
        self._phase = phase
        self._tell()

    def set_problem(self, part: str, problem: str | None) -> None:
        """What is wrong with a part; None when it is well again."""
        if problem is None:
            self._problems.pop(part, None)
        else:
            self._problems[part] = problem
        self._tell()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Calls `listener` now and after every change."""
        self._listeners.append(listener)
        listener()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
