"""Traces: formats in and out, validation, splits and a generator of look-alikes."""

from warmscaler.data.trace import App, Trace, TraceError

__all__ = ["App", "Trace", "TraceError"]
