"""KEDA's loop and the HPA's arithmetic, for one ScaledObject, by what they publish.

KEDA 2.x: pkg/scalers/external_scaler.go, pkg/scaling/executor/scale_scaledobjects.go, pkg/fallback.
The HPA: https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import grpc.aio

from tests.keda.published import Client

MILLI = 1_000


def hpa_wanted(metric_milli: int, target_milli: int, current: int, tolerance: float = 0.1) -> int:
    """Replicas by an external metric with an AverageValue target."""
    ratio = metric_milli / (target_milli * current)
    if 1.0 - tolerance <= ratio <= 1.0 + tolerance:
        return current
    return math.ceil(metric_milli / target_milli)


@dataclass
class Scaled:
    """A Deployment under a ScaledObject whose only trigger is ours."""

    client: Client
    ref: Any
    replicas: int = 0
    least: int = 0
    most: int = 100
    tolerance: float = 0.0
    """As deploy/keda sets it."""
    fallback: int | None = None
    failure_threshold: int = 3
    failures: int = 0
    errors: list[str] = field(default_factory=list)
    index: int = 0
    """Of the trigger."""

    async def poll(self) -> None:
        """KEDA every pollingInterval: between nothing and something (its cool-down left out)."""
        found = await self._metric()
        if found is None:  # without an active trigger and with an error nothing is scaled
            return
        _, active = found
        if active and self.replicas == 0:
            self.replicas = max(self.least, 1)
        elif not active and self.least == 0:
            self.replicas = 0

    async def hpa(self) -> None:
        """The HPA every 15 s, through KEDA's metrics server; scaling down without stabilization."""
        if self.replicas == 0:
            return  # it is switched off
        try:
            spec = await self.client.spec(self.ref)
        except grpc.aio.AioRpcError as error:
            self.errors.append(str(error.details()))
            return
        target = spec.targetSizeFloat if spec.targetSizeFloat > 0 else spec.targetSize
        found = await self._metric()
        if found is None:
            if self.fallback is None or self.failures <= self.failure_threshold:
                return
            metric = target * self.fallback
        else:
            metric = found[0]
        wanted = hpa_wanted(int(metric * MILLI), int(target * MILLI), self.replicas, self.tolerance)
        self.replicas = min(max(wanted, self.least, 1), self.most)

    async def _metric(self) -> tuple[float, bool] | None:
        """GetMetrics, then IsActive; None after an error of either."""
        try:
            spec = await self.client.spec(self.ref)
            name = f"s{self.index}-{spec.metricName}"
            metric = await self.client.metric(self.ref, name.split("-", 1)[1])
            active = await self.client.is_active(self.ref)
        except grpc.aio.AioRpcError as error:
            self.failures += 1
            self.errors.append(str(error.details()))
            return None
        self.failures = 0
        return metric, active
