"""OpenTelemetry traces: a span for each request's wait, one for each start. Off unless asked for.

The libraries are an extra (`otel`) and imported only then. Spans leave on a thread of their own; what
the collector cannot take in time is dropped.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from importlib import import_module
from typing import Any

from warmscaler.models.policy import Instance
from warmscaler.service.address import DIRECT
from warmscaler.service.observability.logs import escaped
from warmscaler.service.observer import Observer, Served
from warmscaler.service.proto import scaler_pb2 as pb

MAX_OPEN = 100_000
"""Starts whose end is awaited; more of them than that are not traced."""
_NS_PER_MS = 1_000_000
_PARENT: ContextVar[str] = ContextVar("traceparent", default="")


class TracingError(Exception):
    """Traces cannot be sent. Its text is one line: what to do."""


class Tracing(Observer):
    """Tells a collector of requests and starts."""

    def __init__(self, target: str) -> None:
        """`target` is the collector's HOST:PORT, OTLP over gRPC. Raises TracingError."""
        try:
            self._trace: Any = import_module("opentelemetry.trace")
            propagation = import_module("opentelemetry.trace.propagation.tracecontext")
            resources = import_module("opentelemetry.sdk.resources")
            sdk = import_module("opentelemetry.sdk.trace")
            export = import_module("opentelemetry.sdk.trace.export")
            otlp = import_module("opentelemetry.exporter.otlp.proto.grpc.trace_exporter")
        except ImportError as error:
            raise TracingError(
                f"--otlp {target}: {error.name} is not installed: pip install 'warmscaler[otel]'"
            ) from None
        self._propagator = propagation.TraceContextTextMapPropagator()
        self._provider = sdk.TracerProvider(
            resource=resources.Resource.create({"service.name": "scaler"})
        )
        exporter = otlp.OTLPSpanExporter(
            endpoint=target, insecure=True, timeout=5, channel_options=(DIRECT,)
        )
        self._provider.add_span_processor(export.BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("scaler")
        self._starts: dict[str, Any] = {}
        """Spans of starts under way, by instance."""
        self._error = self._trace.Status(self._trace.StatusCode.ERROR)

    def heard(self, traceparent: str) -> None:
        """The request that now comes is part of this span of its caller's; "" is none."""
        _PARENT.set(traceparent[:64])

    def close(self) -> None:
        """Sends what is left; blocks for as long as five seconds."""
        self._provider.shutdown()

    def assigned(self, served: Served) -> None:
        meta = served.meta
        span = self._begin("Assign", meta, served.arrival_ms, served.assigned_ms)
        span.set_attribute("scaler.cold", served.cold)
        span.set_attribute("scaler.instance", served.instance.id)
        span.end(end_time=time.time_ns())

    def refused(
        self, now_ms: float, meta: pb.Meta, arrival_ms: float, reason: str, *, overload: bool
    ) -> None:
        span = self._begin("Assign", meta, arrival_ms, now_ms)
        span.set_attribute("scaler.refused", escaped(reason))
        span.set_status(self._error)
        span.end(end_time=time.time_ns())

    def gone(self, now_ms: float, meta: pb.Meta, arrival_ms: float) -> None:
        span = self._begin("Assign", meta, arrival_ms, now_ms)
        span.set_attribute("scaler.caller_gone", True)
        span.end(end_time=time.time_ns())

    def slot_created(self, now_ms: float, instance: Instance) -> None:
        if len(self._starts) < MAX_OPEN:
            span = self._begin_start(instance, now_ms)
            span.add_event("slot created", timestamp=time.time_ns())
            self._starts[instance.id] = span

    def instance_ready(self, now_ms: float, instance: Instance) -> None:
        span = self._starts.pop(instance.id, None)
        if span is not None:
            span.end(end_time=time.time_ns())

    def start_failed(self, now_ms: float, instance: Instance, reason: str) -> None:
        span = self._starts.pop(instance.id, None) or self._begin_start(instance, now_ms)
        span.set_attribute("scaler.reason", escaped(reason))
        span.set_status(self._error)
        span.end(end_time=time.time_ns())

    def slot_released(self, now_ms: float, instance: Instance, reason: str) -> None:
        span = self._starts.pop(instance.id, None)
        if span is not None:  # given back before its app ran
            span.end(end_time=time.time_ns())

    def _begin(self, name: str, meta: pb.Meta, at_ms: float, now_ms: float) -> Any:
        parent = _PARENT.get()
        context = self._propagator.extract({"traceparent": parent}) if parent else None
        attributes = {
            "scaler.app": escaped(meta.key),
            "scaler.memory_mb": _int64(meta.memory_in_mb),
        }
        return self._tracer.start_span(
            name, context, self._trace.SpanKind.SERVER, attributes, start_time=_ns(at_ms, now_ms)
        )

    def _begin_start(self, instance: Instance, now_ms: float) -> Any:
        attributes = {
            "scaler.app": escaped(instance.pool.key),
            "scaler.instance": instance.id,
            "scaler.memory_mb": _int64(instance.memory_mb),
        }
        return self._tracer.start_span(
            "start instance",
            None,
            self._trace.SpanKind.INTERNAL,
            attributes,
            start_time=_ns(instance.started_ms, now_ms),
        )


def _ns(at_ms: float, now_ms: float) -> int:
    """On the wall's clock, which is set now and then: the driver's is not, and says `now_ms` now."""
    return time.time_ns() - int((now_ms - at_ms) * _NS_PER_MS)


def _int64(number: int) -> int:
    """OTLP's integers are signed."""
    return min(number, 2**63 - 1)
