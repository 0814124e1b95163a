"""The metrics of shadow mode: the policy that serves and the one that plans, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from warmscaler.service.shadow import Shadow


def shadow_metrics(shadow: Shadow, now_ms: Callable[[], float]) -> Iterator[Metric]:
    """As it is now. On the event loop."""
    at_ms = now_ms()
    shadow.advance(at_ms)
    values = {
        "scaler_shadow_requests": ("Requests served, and planned for.", "requests"),
        "scaler_shadow_cold_starts": ("Of them, those that found no idle instance.", "cold"),
    }
    tallies = {"serving": shadow.serving, "shadow": shadow.planned}
    for name, (about, field) in values.items():
        family = CounterMetricFamily(name, about, labels=("policy",))
        for who, tally in tallies.items():
            family.add_metric((who,), getattr(tally, field))
        yield family
    waited = CounterMetricFamily(
        "scaler_shadow_waited_seconds", "What they waited in all.", labels=("policy",)
    )
    held = CounterMetricFamily(
        "scaler_shadow_slot_gb_seconds", "Memory times time of instances.", labels=("policy",)
    )
    for who, tally in tallies.items():
        waited.add_metric((who,), max(tally.waited_ms, 0.0) / 1_000.0)
        held.add_metric((who,), tally.slot_gb_s(at_ms))
    yield waited
    yield held
    yield GaugeMetricFamily(
        "scaler_shadow_plans", "1 while the shadow plans.", float(shadow.problem is None)
    )


def shadow_told(shadow: Shadow, now_ms: float) -> dict[str, Any]:
    """For the live page; JSON."""
    shadow.advance(now_ms)
    return {"policy": shadow.policy, "problem": shadow.problem, "refusals": shadow.refusals} | {
        who: {
            "requests": tally.requests,
            "cold": tally.cold,
            "waited_ms": tally.waited_ms,
            "slot_gb_s": tally.slot_gb_s(now_ms),
        }
        for who, tally in (("serving", shadow.serving), ("shadow", shadow.planned))
    }
