"""The account of an app: why it is up or down, until when, what is expected, what cold starts cost.

Pure: it is given a pool, its instances and what happened, live or replayed, and reads no clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from warmscaler.models.outlook import Outlook
from warmscaler.models.policy import Instance, Pool, State
from warmscaler.service.explaining.history import MB_MS_PER_GB_S, AppHistory, ColdStart, Span


@dataclass(frozen=True, slots=True)
class InstanceNow:
    """One instance as it is. Times in ms since the epoch."""

    id: str
    state: str
    since_ms: float
    until_ms: float
    """Until when it is kept if nothing comes; `inf` where that is not known."""


@dataclass(frozen=True, slots=True)
class AppAccount:
    """One app at one instant. Times in ms since the epoch."""

    key: str
    memory_mb: int
    now_ms: float
    start_ms: float
    """What a start is believed to take, in ms."""
    instances: Sequence[InstanceNow]
    waiting: int
    outlook: Outlook
    requests: int
    cold: int
    causes: dict[str, int]
    waited_ms: float
    wasted_gb_s: float
    cold_starts: Sequence[ColdStart]
    """The last ones, oldest first."""
    spans: Sequence[Span]
    """What its instances did of late."""

    @property
    def is_up(self) -> bool:
        """Whether an instance of it is there or on its way."""
        return bool(self.instances)


def account_of(
    now_ms: float, pool: Pool, instances: Iterable[Instance], history: AppHistory | None
) -> AppAccount:
    """`instances` are all that are there; those of other apps are passed over."""
    history = history or AppHistory()
    own = [each for each in instances if each.pool is pool and each.state < State.DESTROYING]
    idle_mb_ms = sum(
        (now_ms - each.idle_since_ms) * each.memory_mb
        for each in own
        if each.state is State.IDLE and each.idle_since_ms > 0.0
    )
    return AppAccount(
        key=pool.key,
        memory_mb=pool.memory_mb,
        now_ms=now_ms,
        start_ms=pool.start_ms,
        instances=[_now(each) for each in own],
        waiting=len(pool.waiting),
        outlook=pool.policy.outlook(now_ms, pool),
        requests=history.requests,
        cold=history.cold,
        causes=dict(history.causes),
        waited_ms=history.waited_ms,
        wasted_gb_s=history.wasted_gb_s + idle_mb_ms / MB_MS_PER_GB_S,
        cold_starts=tuple(history.colds),
        spans=[Span(*each) for each in history.spans],
    )


def _now(instance: Instance) -> InstanceNow:
    idle = instance.state is State.IDLE
    since_ms = instance.idle_since_ms if idle else instance.started_ms
    return InstanceNow(
        id=instance.id,
        state=instance.state.name.lower(),
        since_ms=since_ms or instance.started_ms,
        until_ms=instance.expires_ms if idle else inf,
    )


def as_json(account: AppAccount) -> dict[str, Any]:
    """For programs and the page: plain values, None for what is never."""
    outlook = account.outlook
    expected = outlook.expected
    return {
        "app": account.key,
        "memory_mb": account.memory_mb,
        "now_ms": account.now_ms,
        "start_ms": account.start_ms,
        "waiting": account.waiting,
        "instances": [
            {
                "id": each.id,
                "state": each.state,
                "since_ms": each.since_ms,
                "until_ms": _finite(each.until_ms),
            }
            for each in account.instances
        ],
        "rule": outlook.rule,
        "pre_warm_ms": _finite(outlook.start_ms),
        "expected": None
        if expected is None
        else {
            "since_ms": expected.since_ms,
            "idle_times": expected.idle_times,
            "longer": expected.longer,
            "due": None
            if expected.due is None
            else {
                "from_ms": expected.due.from_ms,
                "to_ms": expected.due.to_ms,
                "share": expected.due.share,
            },
            "by_ms": [_finite(each) for each in expected.by_ms],
        },
        "requests": account.requests,
        "cold": account.cold,
        "causes": account.causes,
        "waited_ms": account.waited_ms,
        "wasted_gb_s": account.wasted_gb_s,
        "cold_starts": [
            {
                "arrival_ms": each.arrival_ms,
                "waited_ms": each.waited_ms,
                "cause": each.cause,
                "idle_ms": each.idle_ms,
                "released": each.released,
            }
            for each in account.cold_starts
        ],
        "spans": [list(each) for each in account.spans],
    }


def _finite(value: float) -> float | None:
    return value if value < inf else None
