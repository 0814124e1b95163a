"""What the live page shows: a picture of the fleet a second, and one app's account."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from math import inf
from typing import Any

from warmscaler.models.learned.habits import DEFAULT_PRICE
from warmscaler.models.policy import Pool, State
from warmscaler.service.explaining.account import AppAccount, account_of
from warmscaler.service.explaining.history import MB_MS_PER_GB_S, AppHistory, History
from warmscaler.service.live.driver import Driver
from warmscaler.service.observability.health import Health
from warmscaler.service.observability.shadow_metrics import shadow_told
from warmscaler.service.shadow import Shadow

MOST_APPS = 500
"""Apps in one picture: those that cost most."""
_NOTHING = AppHistory()


class Board:
    """Reads the driver: all of it on the event loop, and quickly."""

    def __init__(
        self,
        driver: Driver,
        history: History,
        health: Health,
        about: Callable[[], Mapping[str, str]] = dict,
        shadow: Shadow | None = None,
    ) -> None:
        """`about` says which policy and model serve."""
        self._shadow = shadow
        self._driver = driver
        self._history = history
        self._health = health
        self._about = about

    def account(self, key: str) -> AppAccount | None:
        """Of the app `key`; None where it is not known, or forgotten."""
        scheduler = self._driver.scheduler
        pool = scheduler.pools.get(key)
        if pool is None:
            return None
        instances = list(scheduler.instances.values())
        return account_of(self._driver.now_ms(), pool, instances, self._history.of(key))

    def fleet(self) -> dict[str, Any]:
        """Everything but single apps' accounts; JSON. Apps are rows of APP_COLUMNS."""
        scheduler = self._driver.scheduler
        now_ms = self._driver.now_ms()
        states: Counter[str] = Counter()
        memory_mb: Counter[str] = Counter()
        idle_mb_ms: Counter[Pool] = Counter()
        until_ms: dict[Pool, float] = {}
        for instance in scheduler.instances.values():
            name, pool = instance.state.name.lower(), instance.pool
            states[name] += 1
            memory_mb[name] += instance.memory_mb
            if instance.state is State.IDLE:
                if instance.idle_since_ms > 0.0:
                    idle_mb_ms[pool] += int((now_ms - instance.idle_since_ms) * instance.memory_mb)
                until_ms[pool] = max(until_ms.get(pool, 0.0), instance.expires_ms)
        price = self.price
        rows = []
        totals = Counter[str]()
        for key, pool in scheduler.pools.items():
            of = self._history.of(key) or _NOTHING
            wasted = of.wasted_gb_s + idle_mb_ms[pool] / MB_MS_PER_GB_S
            waited_s = of.waited_ms / 1_000.0
            until = until_ms.get(pool, inf)
            totals["requests"] += of.requests
            totals["cold"] += of.cold
            totals["queued"] += of.causes["busy"]
            totals["waited_ms"] += int(of.waited_ms)
            totals["wasted_mb_s"] += int(wasted * 1_024.0)
            rows.append(
                (
                    *(key, pool.memory_mb, len(pool.idle), pool.busy, pool.starting),
                    *(len(pool.waiting), of.requests, of.cold, round(waited_s, 3)),
                    *(round(wasted, 3), round(waited_s + price * wasted, 3)),
                    round(until) if until < inf else None,
                )
            )
        return {
            "now_ms": now_ms,
            "status": self._health.status,
            "problems": dict(self._health.problems),
            "about": dict(self._about()),
            "price": price,
            "states": states,
            "memory_mb": memory_mb,
            "waiting": self._driver.waiting,
            "known": len(rows),
            "totals": totals,
            "apps": rows,
            "shadow": None if self._shadow is None else shadow_told(self._shadow, now_ms),
        }

    @property
    def price(self) -> float:
        """Seconds of waiting that a GB·s is worth: the policy's, where it has one."""
        return float(getattr(self._driver.scheduler.policy, "price", DEFAULT_PRICE))


APP_COLUMNS = (
    *("app", "memory_mb", "idle", "busy", "starting", "waiting", "requests", "cold"),
    *("waited_s", "wasted_gb_s", "cost_s", "until_ms"),
)
COST = APP_COLUMNS.index("cost_s")


def told(fleet: dict[str, Any]) -> dict[str, Any]:
    """The picture as it is sent: of too many apps those that cost most. Off the event loop."""
    rows = sorted(fleet["apps"], key=lambda row: -row[COST])[:MOST_APPS]
    return fleet | {"columns": APP_COLUMNS, "apps": rows}
