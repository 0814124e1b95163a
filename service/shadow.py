"""Shadow mode: another policy plans beside the one that serves, on the same requests, and never acts.

Its scheduler is the same as ours; its platform is imagined: a start takes what starts of that app
were seen to take. A request ends there as long after it got its instance as it took here, or now,
where that is past already: a request that waited longer here than it would have there keeps its
imagined instance until it is done here. So the shadow is never flattered.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from heapq import heappop, heappush
from math import inf
from typing import Any, TypeVar

from warmscaler.models.policy import Instance, Policy, Pool
from warmscaler.service.observer import Observer, Served
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.scheduler.actions import (
    Actions,
    Assign,
    CreateSlot,
    DestroySlot,
    InitInstance,
    Refuse,
)
from warmscaler.service.scheduler.limits import SERVING, Limits
from warmscaler.service.scheduler.scheduler import Scheduler

log = logging.getLogger("scaler.shadow")
_MB_MS_PER_GB_S = 1_024.0 * 1_000.0
_CREATED, _READY, _DONE = range(3)

_F = TypeVar("_F", bound=Callable[..., None])


@dataclass(slots=True)
class Tally:
    """What a policy cost since the shadow began, over the requests that were served."""

    requests: int = 0
    cold: int = 0
    waited_ms: float = 0.0
    slot_mb_ms: float = 0.0
    """Of instances that are gone; see `Shadow.slot_gb_s`."""
    since: dict[str, tuple[float, int]] = field(default_factory=dict)
    """When each instance that is there began, and its memory."""

    def began(self, instance: Instance, now_ms: float) -> None:
        self.since[instance.id] = (now_ms, instance.memory_mb)

    def ended(self, instance: Instance, now_ms: float) -> None:
        begun = self.since.pop(instance.id, None)
        if begun is not None:
            self.slot_mb_ms += (now_ms - begun[0]) * begun[1]

    def slot_gb_s(self, now_ms: float) -> float:
        """Memory times time of all its instances up to `now_ms`."""
        there = sum((now_ms - since_ms) * memory for since_ms, memory in self.since.values())
        return (self.slot_mb_ms + there) / _MB_MS_PER_GB_S


@dataclass(slots=True)
class _Open:
    """A request that is not done here. Times in ms."""

    key: str
    arrival_ms: float
    cold: bool = False
    """It found no idle instance there."""
    bound_ms: float = inf
    """When it got its imagined instance."""
    instance: str | None = None
    duration_ms: float | None = None
    """Known once it is done here."""
    bad: bool = False


def _harmless(method: _F) -> _F:
    """What fails in the shadow ends the shadow, and nothing else."""

    @wraps(method)
    def guarded(self: Shadow, *arguments: Any, **named: Any) -> None:
        if self.problem is None:
            try:
                method(self, *arguments, **named)
            except Exception as error:
                self.problem = f"{type(error).__name__}: {error}"
                log.exception("the shadow %s ends", self.policy)

    return guarded  # type: ignore[return-value]


class Shadow(Observer):
    """Told by the driver, on the event loop."""

    def __init__(self, policy: Policy, limits: Limits = SERVING) -> None:
        self.policy = policy.name
        self.problem: str | None = None
        """Why it plans no more; None as long as it does."""
        self.serving = Tally()
        self.planned = Tally()
        self.refusals = 0
        """Requests that it would have turned away, at the same limits."""
        self._scheduler = Scheduler(policy, id_prefix="shadow-", limits=limits)
        self._events: list[tuple[float, int, int, Any]] = []
        self._count = 0
        self._open: dict[int, _Open] = {}
        self._waiting: dict[tuple[str, float], deque[int]] = {}
        """Those that wait here, by app and arrival."""
        self._of: dict[str, int] = {}
        """The request that each instance of ours serves."""
        self._start_ms: dict[str, float] = {}
        """What the last start of each app took here."""
        self._believed: set[str] = set()
        """Imagined instances whose start takes as long as is believed, as none was seen here yet."""

    # Told by the driver

    @_harmless
    def waits(self, now_ms: float, pool: Pool, starts: int, *, first: bool) -> None:
        token = self._arrives(now_ms, pool)
        self._waiting.setdefault((pool.key, now_ms), deque()).append(token)

    @_harmless
    def assigned(self, served: Served) -> None:
        instance = served.instance
        pool = instance.pool
        self.serving.requests += 1
        if served.cold:
            self.serving.cold += 1
            self.serving.waited_ms += served.assigned_ms - served.arrival_ms
            token = self._no_longer_waits(pool.key, served.arrival_ms)
        else:
            token = self._arrives(served.arrival_ms, pool)
        if token is not None:
            self._forget(served.assigned_ms, self._of.get(instance.id))
            self._of[instance.id] = token

    @_harmless
    def completed(self, now_ms: float, served: Served, result: pb.Result) -> None:
        bad = bool(result.need_destroy)
        self._ends(self._of.pop(served.instance.id, None), now_ms, served.assigned_ms, bad=bad)

    @_harmless
    def overdue(self, now_ms: float, served: Served) -> None:
        self._ends(self._of.pop(served.instance.id, None), now_ms, served.assigned_ms, bad=True)

    @_harmless
    def refused(
        self, now_ms: float, meta: pb.Meta, arrival_ms: float, reason: str, *, overload: bool
    ) -> None:
        self._forget(now_ms, self._no_longer_waits(meta.key, arrival_ms))

    @_harmless
    def gone(self, now_ms: float, meta: pb.Meta, arrival_ms: float) -> None:
        self._forget(now_ms, self._no_longer_waits(meta.key, arrival_ms))

    @_harmless
    def instance_ready(self, now_ms: float, instance: Instance) -> None:
        key, took_ms = instance.pool.key, now_ms - instance.started_ms
        pool = self._scheduler.pools.get(key)
        if key not in self._start_ms and pool is not None:
            pool.saw_start(took_ms)
        self._start_ms[key] = took_ms
        self.serving.since[instance.id] = (instance.started_ms, instance.memory_mb)

    @_harmless
    def slot_released(self, now_ms: float, instance: Instance, reason: str) -> None:
        self.serving.ended(instance, now_ms)
        self._forget(now_ms, self._of.pop(instance.id, None))

    # Its own time

    @_harmless
    def advance(self, now_ms: float) -> None:
        """Lets the imagined platform and the timers catch up with `now_ms`."""
        while True:
            event_ms = self._events[0][0] if self._events else inf
            wake_ms = self._scheduler.next_wake_ms
            at_ms = min(event_ms, wake_ms)
            if at_ms > now_ms:
                return
            if wake_ms < event_ms:
                self._carry_out(at_ms, self._scheduler.wake(at_ms))
                continue
            _, _, kind, what = heappop(self._events)
            if kind == _CREATED:
                self._carry_out(at_ms, self._scheduler.slot_created(at_ms, what))
            elif kind == _READY:
                self._ready(at_ms, what)
            else:
                opened = self._open.pop(what)
                if opened.instance is not None:
                    idle = self._scheduler.idle(at_ms, opened.instance, need_destroy=opened.bad)
                    self._carry_out(at_ms, idle)

    def _ready(self, at_ms: float, instance_id: str) -> None:
        instance = self._scheduler.instances.get(instance_id)
        if instance is None:
            return
        pool = instance.pool
        known = pool.start_ms, pool.starts_seen
        self._carry_out(at_ms, self._scheduler.instance_ready(at_ms, instance_id))
        if instance_id in self._believed:  # that taught nothing
            self._believed.remove(instance_id)
            pool.start_ms, pool.starts_seen = known

    def _arrives(self, now_ms: float, pool: Pool) -> int:
        self.advance(now_ms)
        self._count += 1
        token = self._count
        self._open[token] = opened = _Open(pool.key, now_ms)
        actions = self._scheduler.arrival(now_ms, token, pool.key, pool.memory_mb, pool.runtime)
        first = actions[0] if actions else None
        opened.cold = not (isinstance(first, Assign) and first.request == token)
        self._carry_out(now_ms, actions)
        return token

    def _ends(self, token: int | None, now_ms: float, assigned_ms: float, *, bad: bool) -> None:
        """A request is done here; there as long after it began."""
        opened = None if token is None else self._open.get(token)
        if opened is None:
            return
        self.advance(now_ms)
        opened.duration_ms, opened.bad = now_ms - assigned_ms, bad
        if opened.instance is not None:
            self._push(max(now_ms, opened.bound_ms + opened.duration_ms), _DONE, token)

    def _forget(self, now_ms: float, token: int | None) -> None:
        """A request got no instance here, or was given up: it shall count nowhere."""
        opened = None if token is None else self._open.get(token)
        if opened is None:
            return
        self.advance(now_ms)
        if opened.instance is None:
            del self._open[token]  # type: ignore[arg-type]
            gone = self._scheduler.request_gone(now_ms, opened.key, token)
            self._carry_out(now_ms, gone)
        elif opened.duration_ms is None:
            opened.duration_ms = 0.0
            self._push(now_ms, _DONE, token)

    def _no_longer_waits(self, key: str, arrival_ms: float) -> int | None:
        waiting = self._waiting.get((key, arrival_ms))
        if not waiting:
            return None
        token = waiting.popleft()
        if not waiting:
            del self._waiting[(key, arrival_ms)]
        return token

    def _carry_out(self, now_ms: float, actions: Actions) -> None:
        for action in actions:
            if isinstance(action, Assign):
                self._bind(now_ms, action)
            elif isinstance(action, CreateSlot):
                self.planned.began(action.instance, now_ms)
                pool = action.instance.pool
                if pool.key not in self._start_ms:
                    self._believed.add(action.instance.id)
                half_ms = self._start_ms.get(pool.key, pool.start_ms) / 2.0
                self._push(now_ms + half_ms, _CREATED, action.instance.id)
            elif isinstance(action, InitInstance):
                half_ms = now_ms - action.instance.started_ms
                self._push(now_ms + half_ms, _READY, action.instance.id)
            elif isinstance(action, DestroySlot):
                self.planned.ended(action.instance, now_ms)
                self._believed.discard(action.instance.id)
                destroyed = self._scheduler.slot_destroyed(now_ms, action.instance.id)
                self._carry_out(now_ms, destroyed)
            elif isinstance(action, Refuse):
                self._open.pop(action.request, None)  # type: ignore[call-overload]
                self.refusals += 1

    def _bind(self, now_ms: float, action: Assign) -> None:
        token: int = action.request  # type: ignore[assignment]
        opened = self._open.get(token)
        if opened is None:  # its caller is gone: the instance is free again
            self._carry_out(now_ms, self._scheduler.idle(now_ms, action.instance.id))
            return
        opened.instance, opened.bound_ms = action.instance.id, now_ms
        self.planned.requests += 1
        self.planned.cold += opened.cold
        self.planned.waited_ms += now_ms - opened.arrival_ms
        if opened.duration_ms is not None:
            self._push(now_ms + opened.duration_ms, _DONE, token)

    def _push(self, at_ms: float, kind: int, what: Any) -> None:
        self._count += 1
        heappush(self._events, (at_ms, self._count, kind, what))


def said(shadow: Shadow, serving: str, now_ms: float) -> str:
    """One line: what the shadow would have cost beside what was served."""
    ours, theirs = shadow.serving, shadow.planned
    if shadow.problem is not None:
        return f"shadow {shadow.policy} ended: {shadow.problem}"
    return (
        f"shadow {shadow.policy} beside {serving}: {ours.requests} requests,"
        f" {ours.cold} -> {theirs.cold} without an idle instance,"
        f" {ours.waited_ms / 1_000.0:.1f} -> {theirs.waited_ms / 1_000.0:.1f} s waited,"
        f" {ours.slot_gb_s(now_ms):.1f} -> {theirs.slot_gb_s(now_ms):.1f} GB*s held"
    )
