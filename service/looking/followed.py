"""One app that is looked at: what was observed of it, and the floor that follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from warmscaler.replicas.planner import ReplicaPlanner, Wanted
from warmscaler.replicas.spec import AppSpec


@dataclass(frozen=True, slots=True)
class Source:
    """Where an app's concurrency is read."""

    prometheus: str
    """Its address, http://HOST:PORT."""
    query: str
    """Gives one series: requests at once."""
    nothing_is_zero: bool = False
    """Whether a query that finds no series says that nothing runs, not that nothing is known."""


class Followed:
    """An app's floor is that of the last look that succeeded, for a while; then there is none.

    Nothing is observed that was not measured: where no number came, the planner hears of none.
    """

    __slots__ = (
        "asked_s",
        "changed",
        "failures",
        "observed",
        "observed_s",
        "planner",
        "problem",
        "retry_s",
        "seen_s",
        "source",
        "spec",
        "streams",
        "wanted",
    )

    def __init__(self, spec: AppSpec, source: Source, planner: ReplicaPlanner) -> None:
        self.spec, self.source, self.planner = spec, source, planner
        self.asked_s = 0.0
        """When somebody last asked for its floor."""
        self.streams = 0
        """Who is told of its floor for as long as they listen."""
        self.seen_s = -float("inf")
        """Until when all there is of it was read."""
        self.observed_s = -float("inf")
        self.observed: float | None = None
        self.wanted: Wanted | None = None
        self.problem: str | None = None
        """Why the last look brought no number."""
        self.retry_s = 0.0
        """A query that cannot be answered is not asked before."""
        self.failures = 0
        """How often in a row nobody answered it who answered others."""
        self.changed: dict[Callable[[], None], None] = {}
        """Called after every look."""

    @property
    def is_new(self) -> bool:
        """Whether nothing of it was read yet."""
        return self.seen_s == -float("inf")

    def remember(self, found: Sequence[tuple[float, float]]) -> None:
        """All that was measured before it was followed. Takes a while; any thread may do it."""
        if found:
            times_s, values = zip(*found, strict=True)
            self.planner.remember(times_s, values)
            self.observed_s, self.observed = found[-1]

    def observe(self, at_s: float, concurrency: float) -> None:
        """A number that was measured."""
        if at_s > self.observed_s:
            self.planner.observe(at_s, concurrency)
            self.observed_s, self.observed = at_s, concurrency

    def looked(self, now_s: float, problem: str | None) -> None:
        """A look is over; with a problem what was wanted before is held."""
        self.problem = problem
        if problem is None and self.observed is not None:
            self.wanted = self.planner.wanted(now_s)
        self.tell()

    def floor(self, now_s: float, hold_s: float) -> Wanted | None:
        """What is wanted; None where nothing was observed for longer than `hold_s`.

        Nor where the clock was put back by more: what is observed from there on is older.
        """
        return self.wanted if abs(now_s - self.observed_s) <= hold_s else None

    def tell(self) -> None:
        """Whoever waits for a look."""
        for listener in list(self.changed):
            listener()
