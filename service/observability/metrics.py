"""What Prometheus is told: counters kept on the event loop, gauges read from the scheduler.

The counters are plain numbers: all of them live on the event loop, where prometheus_client's own
would lock for nothing in the path of every request. They become metrics when they are scraped.
Labels take few values, all ours; an app's key becomes one only if `top_apps` asks for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric

from warmscaler.models.policy import Instance, Pool, State
from warmscaler.service.explaining.history import CAUSES, MB_MS_PER_GB_S, cause_of
from warmscaler.service.live.driver import Driver
from warmscaler.service.observability.counts import LABEL_LENGTH, Histogram, TopApps, app_label
from warmscaler.service.observability.health import PARTS, Health
from warmscaler.service.observability.logs import escaped
from warmscaler.service.observer import Observer, Served
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.slots.breaker import BreakerState
from warmscaler.service.slots.effects import ODDITIES

DECISION_S = (5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 0.1)
WAIT_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
LEAD_S = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)
START_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)


@dataclass(slots=True)
class _Counts:
    """Everything counted since the start."""

    warm: int = 0
    cold: int = 0
    queued: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    throttled: int = 0
    failed: int = 0
    gone: int = 0
    completed: int = 0
    broken: int = 0
    overdue: int = 0
    slots_created: int = 0
    starts_failed: int = 0
    slots_destroyed: int = 0
    windows_used: int = 0
    windows_unused: int = 0
    prewarmed_used: int = 0
    prewarmed_unused: int = 0
    starting_mb_ms: float = 0.0
    idle_mb_ms: float = 0.0
    busy_mb_ms: float = 0.0


class Metrics(Observer):
    """Counts what it is told of, and reads the rest when it is scraped: all on the event loop."""

    def __init__(self, health: Health, *, top_apps: int = 0) -> None:
        """`top_apps` is how many apps are shown by key; 0 shows none."""
        self._health = health
        self._driver: Driver | None = None
        self._now_ms: Callable[[], float] = lambda: 0.0
        self._more: list[Callable[[], Iterable[Metric]]] = []
        self._model: Mapping[str, str] = {}
        self._counts = _Counts()
        self._decision = {"Assign": Histogram(DECISION_S), "Idle": Histogram(DECISION_S)}
        self._decided_assign = self._decision["Assign"].observe
        self._decided_idle = self._decision["Idle"].observe
        self._wait = Histogram(WAIT_S)
        self._start = Histogram(START_S)
        self._lead = Histogram(LEAD_S)
        self._fresh: set[str] = set()
        """Instances that run and served nobody yet."""
        self._apps = TopApps(top_apps) if top_apps > 0 else None

    def watch(self, driver: Driver) -> None:
        """Whose state to show."""
        self._driver = driver
        self._now_ms = driver.now_ms

    def add(self, collect: Callable[[], Iterable[Metric]]) -> None:
        """More metrics, asked for at every scrape, on the event loop."""
        self._more.append(collect)

    def set_model(self, about: Mapping[str, str]) -> None:
        """Which policy and model serve, as labels."""
        self._model = {name: escaped(each, LABEL_LENGTH) for name, each in about.items()}

    @property
    def model(self) -> Mapping[str, str]:
        """Which policy and model serve."""
        return self._model

    # Told by the driver

    def assigned(self, served: Served) -> None:
        counts = self._counts
        instance = served.instance
        if served.cold:
            if served.queued:
                counts.queued += 1
            else:
                counts.cold += 1
            self._wait.observe((served.assigned_ms - served.arrival_ms) / 1000.0)
            self._fresh.discard(instance.id)
            if instance.idle_since_ms > 0.0:  # idle while the start made for this request failed
                counts.idle_mb_ms += self._idle_mb_ms(served.assigned_ms, instance)
        else:
            self._decided_assign((self._now_ms() - served.arrival_ms) / 1000.0)
            counts.warm += 1
            counts.idle_mb_ms += self._idle_mb_ms(served.arrival_ms, instance)
            if instance.id in self._fresh:
                self._fresh.remove(instance.id)
                counts.prewarmed_used += 1
                self._lead.observe((served.arrival_ms - instance.idle_since_ms) / 1000.0)
            else:
                counts.windows_used += 1
        if self._apps is not None:
            self._apps.add(served.meta.key)

    def completed(self, now_ms: float, served: Served, result: pb.Result) -> None:
        self._decided_idle((self._now_ms() - now_ms) / 1000.0)
        counts = self._counts
        instance = served.instance
        counts.completed += 1
        counts.busy_mb_ms += (now_ms - served.assigned_ms) * instance.memory_mb
        if result.need_destroy:
            counts.broken += 1

    def overdue(self, now_ms: float, served: Served) -> None:
        self._counts.overdue += 1
        self._counts.busy_mb_ms += (now_ms - served.assigned_ms) * served.instance.memory_mb

    def waits(self, now_ms: float, pool: Pool, starts: int, *, first: bool) -> None:
        cause = cause_of(pool, starts, first=first)
        self._counts.causes[cause] += 1

    def refused(
        self, now_ms: float, meta: pb.Meta, arrival_ms: float, reason: str, *, overload: bool
    ) -> None:
        if overload:
            self._counts.throttled += 1
        else:
            self._counts.failed += 1

    def gone(self, now_ms: float, meta: pb.Meta, arrival_ms: float) -> None:
        self._counts.gone += 1

    def slot_created(self, now_ms: float, instance: Instance) -> None:
        self._counts.slots_created += 1

    def instance_ready(self, now_ms: float, instance: Instance) -> None:
        self._fresh.add(instance.id)
        self._start.observe((now_ms - instance.started_ms) / 1000.0)
        self._counts.starting_mb_ms += (now_ms - instance.started_ms) * instance.memory_mb

    def start_failed(self, now_ms: float, instance: Instance, reason: str) -> None:
        self._counts.starts_failed += 1

    def slot_released(self, now_ms: float, instance: Instance, reason: str) -> None:
        fresh = instance.id in self._fresh
        self._fresh.discard(instance.id)
        if instance.idle_since_ms > 0.0:
            counts = self._counts
            counts.idle_mb_ms += self._idle_mb_ms(now_ms, instance)
            if fresh:
                counts.prewarmed_unused += 1
            else:
                counts.windows_unused += 1

    def slot_destroyed(self, now_ms: float, instance: Instance) -> None:
        self._counts.slots_destroyed += 1

    @staticmethod
    def _idle_mb_ms(until_ms: float, instance: Instance) -> float:
        return (until_ms - instance.idle_since_ms) * instance.memory_mb

    # Scraped

    def collect(self) -> Iterator[Metric]:
        """Every metric as it is now."""
        yield from self._of_requests()
        yield from self._of_slots()
        yield from self._of_predictions()
        yield from self._of_health()
        for more in self._more:
            yield from more()

    def _of_requests(self) -> Iterator[Metric]:
        counts = self._counts
        yield _counter(
            "scaler_assignments",
            "Requests that got an instance: idle, started for them, or busy when they came.",
            "start",
            {"warm": counts.warm, "cold": counts.cold, "queued": counts.queued},
        )
        yield _counter(
            "scaler_cold_starts",
            "Requests that found no idle instance, by why.",
            "cause",
            {cause: counts.causes[cause] for cause in CAUSES},
        )
        yield _counter(
            "scaler_requests_unserved",
            "Requests that got no instance: beyond a limit, failed, or their caller went away.",
            "outcome",
            {
                "throttled": counts.throttled,
                "failed": counts.failed,
                "caller_gone": counts.gone,
            },
        )
        yield _counter(
            "scaler_completions",
            "Idle calls, by whether the instance is bad.",
            "result",
            {"good": counts.completed - counts.broken, "bad": counts.broken},
        )
        yield CounterMetricFamily(
            "scaler_idles_overdue",
            "Instances taken back because their Idle did not come.",
            counts.overdue,
        )
        waiting = self._driver.waiting if self._driver is not None else 0
        yield GaugeMetricFamily("scaler_waiting_requests", "Requests that wait now.", waiting)
        family = HistogramMetricFamily(
            "scaler_wait_seconds", "What requests without an idle instance waited for one."
        )
        self._wait.add_to(family)
        yield family
        family = HistogramMetricFamily(
            "scaler_decision_seconds",
            "What the scaler itself took: warm Assigns and Idles.",
            labels=("call",),
        )
        for call, histogram in self._decision.items():
            histogram.add_to(family, (call,))
        yield family
        if self._apps is not None:
            gauge = GaugeMetricFamily(
                "scaler_app_requests", "Requests of the apps with the most.", labels=("app",)
            )
            for app, requests in self._apps.top():
                gauge.add_metric((app_label(app),), requests)
            yield gauge

    def _of_slots(self) -> Iterator[Metric]:
        states: Counter[State] = Counter()
        memory_mb: Counter[State] = Counter()
        idle_mb_ms = 0.0
        if self._driver is not None:
            now_ms = self._now_ms()
            for instance in self._driver.scheduler.instances.values():
                states[instance.state] += 1
                memory_mb[instance.state] += instance.memory_mb
                if instance.state is State.IDLE:
                    idle_mb_ms += self._idle_mb_ms(now_ms, instance)
            apps = len(self._driver.scheduler.pools)
            yield GaugeMetricFamily("scaler_apps", "Apps known.", apps)
        slots = GaugeMetricFamily("scaler_slots", "Slots by state.", labels=("state",))
        memory = GaugeMetricFamily(
            "scaler_slot_memory_bytes", "Memory of slots by state.", labels=("state",)
        )
        for state in State:
            slots.add_metric((state.name.lower(),), states[state])
            memory.add_metric((state.name.lower(),), memory_mb[state] * 2.0**20)
        yield slots
        yield memory
        counts = self._counts
        yield _counter(
            "scaler_slot_events",
            "Slots created, given back, and starts that failed.",
            "event",
            {
                "created": counts.slots_created,
                "destroyed": counts.slots_destroyed,
                "start_failed": counts.starts_failed,
            },
        )
        family = HistogramMetricFamily(
            "scaler_start_seconds", "From CreateSlot to an app that runs."
        )
        self._start.add_to(family)
        yield family
        yield _counter(
            "scaler_slot_gb_seconds",
            "Memory times time of slots; what is idle is wasted.",
            "state",
            {
                "starting": counts.starting_mb_ms / MB_MS_PER_GB_S,
                "idle": (counts.idle_mb_ms + idle_mb_ms) / MB_MS_PER_GB_S,
                "busy": counts.busy_mb_ms / MB_MS_PER_GB_S,
            },
        )

    def _of_predictions(self) -> Iterator[Metric]:
        counts = self._counts
        yield _counter(
            "scaler_windows",
            "Instances kept after a request: used again within their window, or not.",
            "outcome",
            {"used": counts.windows_used, "unused": counts.windows_unused},
        )
        yield _counter(
            "scaler_precreated",
            "Instances that were ready before a request wanted them: used, or released unused.",
            "outcome",
            {"used": counts.prewarmed_used, "unused": counts.prewarmed_unused},
        )
        family = HistogramMetricFamily(
            "scaler_precreated_lead_seconds", "How long before its request one was ready."
        )
        self._lead.add_to(family)
        yield family

    def _of_health(self) -> Iterator[Metric]:
        yield InfoMetricFamily("scaler_model", "The policy and the model.", dict(self._model))
        status = GaugeMetricFamily("scaler_status", "1 for the one it is in.", labels=("status",))
        for each in ("starting", "ready", "degraded", "draining"):
            status.add_metric((each,), float(self._health.status == each))
        yield status
        degraded = GaugeMetricFamily(
            "scaler_degraded", "1 where a part is not as it should be.", labels=("part",)
        )
        for part in PARTS:
            degraded.add_metric((part,), float(part in self._health.problems))
        yield degraded
        breaker = GaugeMetricFamily(
            "scaler_breaker", "The breaker before the platform: 1 for its state.", labels=("state",)
        )
        now = BreakerState.CLOSED if self._driver is None else self._driver.slots.breaker.state
        for state in BreakerState:
            breaker.add_metric((state.value,), float(state is now))
        yield breaker
        slots = None if self._driver is None else self._driver.slots
        yield GaugeMetricFamily(
            "scaler_apps_held_off",
            "Apps that the platform fails to start, and that are tried seldom.",
            0 if slots is None else slots.lives.breakers.held_off,
        )
        yield CounterMetricFamily(
            "scaler_stalls",
            "Times this process was seen to have stood still.",
            0 if slots is None else slots.stalls,
        )
        yield _counter(
            "scaler_platform_oddities",
            "Slots of the platform that were not taken as it gave them.",
            "kind",
            {kind: 0 if slots is None else slots.odd[kind] for kind in ODDITIES},
        )


def _counter(name: str, about: str, label: str, values: Mapping[str, float]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, about, labels=(label,))
    for each, count in values.items():
        family.add_metric((each,), count)
    return family
