"""What Prometheus is told of apps that are looked at: wanted, forecast, and what came."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from warmscaler.service.looking.looking import Looking
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
        for app in looking:
            label = app_label(app.spec.app)
            floor = looking.floor(app)
            if floor is None or app.observed is None:
                continue
            wanted.add_metric((label,), floor.replicas)
            lead.add_metric((label,), app.spec.start_s)
            came.add_metric((label,), app.observed)
            for probability, concurrency in floor.quantiles:
                forecast.add_metric((label, f"{probability:g}"), concurrency)
        yield from (wanted, forecast, lead, came)

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
        for name, place in self._looking.places.items():
            label = app_label(name)
            away.add_metric((label,), float(place.problem is not None))
            asked.add_metric((label,), place.asked)
            failed.add_metric((label,), place.failed)
        yield from (away, asked, failed)
