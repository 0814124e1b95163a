"""What one scaler takes on at most, and how the room there is gets shared out: `Limits`, `Room`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import islice

from warmscaler.models.policy import Instance, Pool

NO_LIMIT = sys.maxsize
_LETS_PASS = 100
"""Of so many apps that want room the first is looked for that has not had its share."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Beyond each of these a request is answered with Throttle, at once. None are set by itself."""

    waiting: int = NO_LIMIT
    """Requests without an instance, of all apps."""
    waiting_per_app: int = NO_LIMIT
    starting: int = NO_LIMIT
    """Instances on their way. A start is as much work as many requests, and a platform makes only so
    many at once: what is begun beyond that comes too late for everybody."""
    apps: int = NO_LIMIT
    """Apps known at once. Those without an instance or a request are forgotten to make place."""
    slots: int = NO_LIMIT
    """Slots that exist or are on their way, those being destroyed too."""
    slots_per_app: int = NO_LIMIT
    memory_mb: int = NO_LIMIT
    """Memory of all those slots."""
    key_length: int = NO_LIMIT
    """Characters of an app's key, of its runtime, and of a request's id."""
    forget_ms: float = float("inf")
    """An app that had neither instance nor request for so long is forgotten."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ValueError(f"the limit {name} must be above 0, not {getattr(self, name)}")


UNLIMITED = Limits()
SERVING = Limits(
    waiting=20_000,
    waiting_per_app=2_000,
    starting=1_000,
    apps=20_000,
    slots=20_000,
    slots_per_app=2_000,
    key_length=512,
    forget_ms=7 * 86_400_000.0,
)
"""What a server starts from: more than one process can use, less than what would harm it."""


class Room:
    """The slots there are, their memory, and the apps that want a slot there is no room for.

    Apps that want room get it in turn. While one does, an app that has more than an equal share
    gives way: see `must_yield`.
    """

    __slots__ = (
        "_apps",
        "_leaving",
        "_leaving_mb",
        "_limits",
        "_newcomers",
        "_wanted",
        "_wanted_mb",
        "used_mb",
        "used_slots",
        "wanting",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.used_slots = 0
        self.used_mb = 0
        self._apps = 0
        """Apps with a slot."""
        self._leaving = 0
        self._leaving_mb = 0
        """Of those slots, the ones being destroyed: their room comes soon."""
        self.wanting: dict[Pool, int] = {}
        """How many slots an app wants, by app, in the order of their turns."""
        self._wanted = 0
        self._wanted_mb = 0
        self._newcomers = 0
        """Apps that want a slot and have none."""

    def takes(self, instance: Instance) -> None:
        """A slot of this instance is asked for."""
        self.used_slots += 1
        self.used_mb += instance.memory_mb
        pool = instance.pool
        if not pool.slots:
            self._apps += 1
            self._newcomers -= pool in self.wanting
        pool.slots += 1

    def leaves(self, instance: Instance) -> None:
        """The slot is being destroyed."""
        self._leaving += 1
        self._leaving_mb += instance.memory_mb

    def frees(self, instance: Instance, *, was_leaving: bool) -> None:
        """The slot is gone."""
        self.used_slots -= 1
        self.used_mb -= instance.memory_mb
        if was_leaving:
            self._leaving -= 1
            self._leaving_mb -= instance.memory_mb
        pool = instance.pool
        pool.slots -= 1
        if not pool.slots:
            self._apps -= 1
            self._newcomers += pool in self.wanting

    def full_for(self, pool: Pool) -> bool:
        """The app has all the slots that one app may have."""
        return pool.busy + pool.starting + len(pool.idle) >= self._limits.slots_per_app

    def has(self, memory_mb: int) -> bool:
        """There is room for one more slot of this size."""
        limits = self._limits
        return self.used_slots < limits.slots and self.used_mb + memory_mb <= limits.memory_mb

    def want(self, pool: Pool) -> None:
        """The app takes its place in the row, for one slot."""
        if pool not in self.wanting:
            self.wanting[pool] = 0
            self._newcomers += not pool.slots
        self._add(pool, 1)

    def next_in_turn(self) -> Pool | None:
        """The app that gets the next room: one that has more than an equal share lets others go
        first, or its starts that hang would keep everybody's."""
        first_few = islice(self.wanting, _LETS_PASS)
        within = next((pool for pool in first_few if not self._beyond_share(pool)), None)
        return next(iter(self.wanting), None) if within is None else within

    def had_its_turn(self, pool: Pool) -> None:
        """Gives up one place of the app in the row; others wait behind everyone else's."""
        self._add(pool, -1)
        if pool in self.wanting:
            self.wanting[pool] = self.wanting.pop(pool)

    def wants_at_most(self, pool: Pool, most: int) -> None:
        """Gives up the places beyond `most`, the last ones; the app keeps its turn."""
        self._add(pool, min(0, most - self.wanting[pool]))

    def resize(self, pool: Pool, memory_mb: int) -> None:
        """Slots of the app have another size from now on, those that it wants too."""
        self._wanted_mb += self.wanting.get(pool, 0) * (memory_mb - pool.memory_mb)
        pool.memory_mb = memory_mb

    def _add(self, pool: Pool, places: int) -> None:
        self.wanting[pool] += places
        self._wanted += places
        self._wanted_mb += places * pool.memory_mb
        if not self.wanting[pool]:
            del self.wanting[pool]
            self._newcomers -= not pool.slots

    def short(self) -> bool:
        """Even when all that leaves is gone there is no room for all that is wanted."""
        limits = self._limits
        slots = self.used_slots - self._leaving + self._wanted
        used_mb = self.used_mb - self._leaving_mb + self._wanted_mb
        return self._wanted > 0 and (slots > limits.slots or used_mb > limits.memory_mb)

    def must_yield(self, pool: Pool) -> bool:
        """Whether the app has more than an equal share while another one waits for room."""
        others = len(self.wanting) > (pool in self.wanting)
        return others and self.short() and self._beyond_share(pool)

    def _beyond_share(self, pool: Pool) -> bool:
        limits = self._limits
        sharers = self._apps + self._newcomers
        slots = pool.slots * sharers
        return slots > limits.slots or slots * pool.memory_mb > limits.memory_mb
