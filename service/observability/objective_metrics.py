"""The metrics of the objective: which it is, the price now, and how far it is met."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from warmscaler.models.learned.policy import Learned
from warmscaler.models.objectives.steering import FollowsScore, StaysSafe
from warmscaler.models.policy import Policy


def objective_metrics(policy: Callable[[], Policy]) -> Iterator[Metric]:
    """Of the policy that serves now; nothing where it has no objective. On the event loop."""
    of = policy()
    if not isinstance(of, Learned):
        return
    yield InfoMetricFamily(
        "scaler_objective", "What is asked for.", {"objective": str(of.objective)}
    )
    yield GaugeMetricFamily(
        "scaler_price_seconds_per_gb_second",
        "Seconds of waiting that a GB·s is worth, now.",
        of.price,
    )
    steering = of.steering
    if steering is None:
        return
    used = steering.used
    if used is not None:
        yield GaugeMetricFamily(
            "scaler_objective_used_ratio",
            "Spent of what the objective allows, of late; at most 1 is met.",
            used,
        )
    yield CounterMetricFamily(
        "scaler_waited_seconds",
        "What requests that are done waited in all.",
        steering.waited_ms / 1e3,
    )
    if isinstance(steering, StaysSafe):
        yield CounterMetricFamily(
            "scaler_window_waited_seconds",
            "What they would have waited under fixed:300.",
            steering.window.waited_ms / 1e3,
        )
    if isinstance(steering, FollowsScore) and steering.score is not None:
        yield GaugeMetricFamily(
            "scaler_score", "The contest's score so far, of 100.", steering.score
        )
