"""What Prometheus is told of apps that are looked at: wanted, forecast, and what came."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from warmscaler.service.looking.followed import Followed
from warmscaler.service.looking.looking import Looking
from warmscaler.service.looking.place import Place
from warmscaler.service.observability.counts import app_label
from warmscaler.service.observability.health import Health


class Gauges:
    """Read when they are scraped, on the event loop. What is not known has no series."""

    def __init__(self, looking: Looking, health: Health) -> None:
        self._looking = looking
        self._health = health

    def collect(self) -> Iterator[Metric]:
        """Every metric as it is now."""
        yield from self._of_apps()
        yield from self._of_places()
        status = GaugeMetricFamily("scaler_status", "1 for the one it is in.", labels=("status",))
        for each in ("starting", "ready", "degraded", "draining"):
            status.add_metric((each,), float(self._health.status == each))
        yield status

    def _of_apps(self) -> Iterator[Metric]:
        looking = self._looking
        yield GaugeMetricFamily("scaler_apps", "Apps known.", len(looking))
        wanted = GaugeMetricFamily(
            "scaler_desired_replicas",
            "Replicas to have started by now, so that they are ready when needed.",
            labels=("app",),
        )
        forecast = GaugeMetricFamily(
            "scaler_forecast_concurrency",
            "Quantiles of the requests at once when a replica started now would be ready.",
            labels=("app", "quantile"),
        )
        lead = GaugeMetricFamily(
            "scaler_forecast_lead_seconds", "How far ahead the forecast is.", labels=("app",)
        )
        came = GaugeMetricFamily(
            "scaler_observed_concurrency", "Requests at once as last observed.", labels=("app",)
        )
        for label, app in self._shown().items():
            floor = looking.floor(app)
            if floor is None or app.observed is None:
                continue
            wanted.add_metric((label,), floor.replicas)
            lead.add_metric((label,), app.spec.start_s)
            came.add_metric((label,), app.observed)
            for probability, concurrency in floor.quantiles:
                forecast.add_metric((label, f"{probability:g}"), concurrency)
        yield from (wanted, forecast, lead, came)

    def _shown(self) -> dict[str, Followed]:
        """By label. Two triggers of a ScaledObject, and one before and after it was edited, have one
        name: of those that were asked for of late the one that wants most, as the HPA takes it."""
        looking, now_s = self._looking, self._looking.now_s()
        named: dict[str, list[tuple[float, int, Followed]]] = {}
        for app in looking:
            floor = looking.floor(app)
            asked_s = now_s if app.streams else app.asked_s
            wants = -1 if floor is None else floor.replicas
            named.setdefault(app_label(app.spec.app), []).append((asked_s, wants, app))
        shown = {}
        for label, every in named.items():
            late_s = max(asked_s for asked_s, _, _ in every) - looking.options.hold_s
            of_late = [(wants, app) for asked_s, wants, app in every if asked_s >= late_s]
            _, shown[label] = max(of_late, key=itemgetter(0))
        return shown

    def _of_places(self) -> Iterator[Metric]:
        away = GaugeMetricFamily(
            "scaler_prometheus_away", "1 where it does not answer.", labels=("address",)
        )
        asked = CounterMetricFamily(
            "scaler_prometheus_requests", "Looks and histories asked for.", labels=("address",)
        )
        failed = CounterMetricFamily(
            "scaler_prometheus_failures", "Of them, those not answered.", labels=("address",)
        )
        named: dict[str, list[Place]] = {}
        for place in self._looking.places.values():
            named.setdefault(app_label(place.name), []).append(place)
        for label, every in named.items():
            away.add_metric((label,), float(any(place.problem is not None for place in every)))
            asked.add_metric((label,), sum(place.asked for place in every))
            failed.add_metric((label,), sum(place.failed for place in every))
        yield from (away, asked, failed)
