"""The apps a scheduler knows, and which of them it may forget."""

from __future__ import annotations

from collections import OrderedDict
from math import inf

from warmscaler.models.policy import Pool


class Apps(dict[str, Pool]):
    """Pools by key. Those with no instance and no request are vacant, and forgotten if need be.

    Vacant apps that came back once are forgotten after all those that never did: a caller that
    makes keys up pushes out its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._new: OrderedDict[str, float] = OrderedDict()
        self._known: OrderedDict[str, float] = OrderedDict()
        """When each became vacant, the longest first."""

    def vacate(self, now_ms: float, pool: Pool) -> None:
        """Its last instance is gone and no request waits."""
        vacant = self._known if pool.known else self._new
        vacant[pool.key] = now_ms
        vacant.move_to_end(pool.key)

    def occupy(self, pool: Pool) -> None:
        """It gets an instance again."""
        vacant = self._known if pool.known else self._new
        if vacant.pop(pool.key, None) is not None:
            pool.known = True

    def forget_one(self) -> str | None:
        """Forgets the vacant app that is missed least. Returns its key, None if there is none."""
        for vacant in (self._new, self._known):
            if vacant:
                key, _ = vacant.popitem(last=False)
                self._forget(key)
                return key
        return None

    def forget_before(self, limit_ms: float) -> list[str]:
        """Forgets the apps vacant since before `limit_ms`; returns their keys."""
        keys = []
        for vacant in (self._new, self._known):
            while vacant and next(iter(vacant.values())) < limit_ms:
                key, _ = vacant.popitem(last=False)
                self._forget(key)
                keys.append(key)
        return keys

    def _forget(self, key: str) -> None:
        pool = self.pop(key)
        pool.timer_ms = inf  # a timer that still rings is stale
        pool.policy.wake_ms = inf
