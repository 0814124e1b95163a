"""What the live page shows: a picture of the fleet a second, and one app's account."""

from __future__ import annotations

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
STATES = tuple(each.name.lower() for each in State)
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
        states, memory_mb = [0] * len(STATES), [0] * len(STATES)
        idle_mb_ms: dict[Pool, float] = {}
        until_ms: dict[Pool, float] = {}
        idle_state = State.IDLE
        # Here and below: plain sums in locals, as requests wait while we look.
        for instance in scheduler.instances.values():
            state = instance.state
            states[state] += 1
            memory_mb[state] += instance.memory_mb
            if state is idle_state:
                pool, since_ms = instance.pool, instance.idle_since_ms
                if since_ms > 0.0:
                    idle_mb_ms[pool] = (
                        idle_mb_ms.get(pool, 0.0) + (now_ms - since_ms) * instance.memory_mb
                    )
                if instance.expires_ms > until_ms.get(pool, 0.0):
                    until_ms[pool] = instance.expires_ms
        price = self.price
        rows = []
        requests = cold = queued = 0
        all_waited_ms = all_wasted_gb_s = 0.0
        history_of = self._history.of
        for key, pool in scheduler.pools.items():
            of = history_of(key) or _NOTHING
            wasted_gb_s = of.wasted_gb_s + idle_mb_ms.get(pool, 0.0) / MB_MS_PER_GB_S
            waited_s = of.waited_ms / 1_000.0
            until = until_ms.get(pool, inf)
            requests += of.requests
            cold += of.cold
            queued += of.causes.get("busy", 0)
            all_waited_ms += of.waited_ms
            all_wasted_gb_s += wasted_gb_s
            rows.append(
                (
                    *(key, pool.memory_mb, len(pool.idle), pool.busy, pool.starting),
                    *(len(pool.waiting), of.requests, of.cold, round(waited_s, 3)),
                    *(round(wasted_gb_s, 3), round(waited_s + price * wasted_gb_s, 3)),
                    round(until) if until < inf else None,
                )
            )
        totals = {
            "requests": requests,
            "cold": cold,
            "queued": queued,
            "waited_ms": round(all_waited_ms),
            "wasted_mb_s": round(1_024.0 * all_wasted_gb_s),
        }
        return {
            "now_ms": now_ms,
            "status": self._health.status,
            "problems": dict(self._health.problems),
            "about": dict(self._about()),
            "price": price,
            "states": {name: count for name, count in zip(STATES, states, strict=True) if count},
            "memory_mb": {name: mb for name, mb in zip(STATES, memory_mb, strict=True) if mb},
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
