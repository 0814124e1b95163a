"""What happened to each app of late, so that it can be told why: bounded, and cheap to keep."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import NamedTuple

from warmscaler.models.policy import Instance, Pool
from warmscaler.service.observer import Observer, Served
from warmscaler.service.proto import scaler_pb2 as pb

CAUSES = ("first", "released", "busy", "starting")
"""Why a request found no idle instance: its app was not known; none was kept; all that are there
serve; one is on its way."""
APPS = 4_096
"""Apps whose history is kept: those that were called last."""
COLD_STARTS = 10
SPANS = 160
"""Of the latest of an app."""
MB_MS_PER_GB_S = 1_024.0 * 1_000.0


def cause_of(pool: Pool, starts: int, *, first: bool) -> str:
    """Why a request found no idle instance; `starts` were begun for it and are counted in `pool`."""
    if first:
        return "first"
    if pool.busy:
        return "busy"
    return "starting" if pool.starting > starts else "released"


@dataclass(frozen=True, slots=True)
class ColdStart:
    """A request that found no idle instance. Times in ms since the epoch."""

    arrival_ms: float
    waited_ms: float
    cause: str
    idle_ms: float | None
    """How long its app had been without a request; None where it was never called."""
    released: str | None
    """What the last instance was given back for, where that is why."""


class Span(NamedTuple):
    """A stretch of an instance's life: `starting`, `idle` or `busy`. Times in ms since the epoch."""

    instance: str
    kind: str
    from_ms: float
    to_ms: float


class AppHistory:
    """One app since it was last met anew."""

    __slots__ = (
        "called",
        "causes",
        "cold",
        "colds",
        "idle_mb_ms",
        "last_ms",
        "released",
        "requests",
        "spans",
        "starting_mb_ms",
        "waited_ms",
        "waits",
    )

    def __init__(self) -> None:
        self.called = True
        """Since `History` last looked."""
        self.requests = 0
        self.cold = 0
        self.waited_ms = 0.0
        self.idle_mb_ms = 0.0
        self.starting_mb_ms = 0.0
        self.causes: Counter[str] = Counter()
        self.colds: deque[ColdStart] = deque(maxlen=COLD_STARTS)
        self.spans: deque[tuple[str, str, float, float]] = deque(maxlen=SPANS)
        """Rows of `Span`; plain tuples, as every request makes two."""
        self.waits: deque[tuple[float, str, float | None, str | None]] = deque(maxlen=SPANS)
        """Of requests that wait: arrival, cause, how long the app was quiet, what was released."""
        self.last_ms: float | None = None
        """When its last request came, or ended if that is later."""
        self.released: str | None = None

    @property
    def wasted_gb_s(self) -> float:
        """Of instances that are no longer idle or starting."""
        return (self.idle_mb_ms + self.starting_mb_ms) / MB_MS_PER_GB_S


class History(Observer):
    """Of the apps called last; told by the driver, on the event loop, in the path of every request."""

    def __init__(self, apps: int = APPS) -> None:
        self._most = apps
        self._apps: dict[str, AppHistory] = {}

    def of(self, key: str) -> AppHistory | None:
        """What is known of an app."""
        return self._apps.get(key)

    def _new(self, key: str) -> AppHistory:
        while len(self._apps) >= self._most:
            # The one longest there goes, unless it was called since it was last looked at.
            oldest = next(iter(self._apps))
            app = self._apps.pop(oldest)
            if app.called:
                app.called = False
                self._apps[oldest] = app
        app = self._apps[key] = AppHistory()
        return app

    def waits(self, now_ms: float, pool: Pool, starts: int, *, first: bool) -> None:
        app = self._apps.get(pool.key) or self._new(pool.key)
        cause = cause_of(pool, starts, first=first)
        app.causes[cause] += 1
        quiet_ms = None if app.last_ms is None else max(now_ms - app.last_ms, 0.0)
        app.waits.append((now_ms, cause, quiet_ms, app.released if cause == "released" else None))
        app.last_ms = now_ms

    def assigned(self, served: Served) -> None:
        instance = served.instance
        key = instance.pool.key
        app = self._apps.get(key) or self._new(key)
        app.called = True
        app.requests += 1
        since_ms, assigned_ms = instance.idle_since_ms, served.assigned_ms
        if 0.0 < since_ms < assigned_ms:
            app.idle_mb_ms += (assigned_ms - since_ms) * instance.memory_mb
            app.spans.append((instance.id, "idle", since_ms, assigned_ms))
        if served.cold:
            self._cold(app, served)
        else:
            app.last_ms = assigned_ms

    @staticmethod
    def _cold(app: AppHistory, served: Served) -> None:
        app.cold += 1
        waited_ms = served.assigned_ms - served.arrival_ms
        app.waited_ms += waited_ms
        # Who waited before and got nothing is passed over: arrivals are in order.
        while app.waits:
            arrival_ms, cause, quiet_ms, released = app.waits.popleft()
            if arrival_ms >= served.arrival_ms:
                app.colds.append(ColdStart(arrival_ms, waited_ms, cause, quiet_ms, released))
                break

    def completed(self, now_ms: float, served: Served, result: pb.Result) -> None:
        instance = served.instance
        app = self._apps.get(instance.pool.key)
        if app is not None:
            app.last_ms = now_ms
            app.spans.append((instance.id, "busy", served.assigned_ms, now_ms))

    def instance_ready(self, now_ms: float, instance: Instance) -> None:
        app = self._apps.get(instance.pool.key)
        if app is not None:
            app.starting_mb_ms += (now_ms - instance.started_ms) * instance.memory_mb
            app.spans.append((instance.id, "starting", instance.started_ms, now_ms))

    def slot_released(self, now_ms: float, instance: Instance, reason: str) -> None:
        app = self._apps.get(instance.pool.key)
        if app is not None:
            app.released = reason
            since_ms = instance.idle_since_ms
            if 0.0 < since_ms < now_ms:
                app.idle_mb_ms += (now_ms - since_ms) * instance.memory_mb
                app.spans.append((instance.id, "idle", since_ms, now_ms))
