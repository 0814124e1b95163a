"""The service `externalscaler.ExternalScaler`: KEDA asks, the last look answers.

KEDA's contract: the metric over its target is the replicas wanted (AverageValue, the default type),
so the target is 1. An error stands for "not known": the HPA keeps what it has and scales up by other
triggers only, and KEDA's `fallback` counts it; a 0 would scale down what is in use.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from warmscaler.service.front.http2.requests import Code
from warmscaler.service.front.methods import Caller, Conversation, Failed, Later, Method, Unary
from warmscaler.service.looking.followed import Followed
from warmscaler.service.looking.looking import Full, Looking
from warmscaler.service.looking.told import PLAIN, Defaults, ToldError, read
from warmscaler.service.proto import externalscaler_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["ExternalScaler"].full_name
METRIC = "scaler-replicas"
"""KEDA puts its trigger's number before it; a path segment, as the HPA asks for external metrics."""
TARGET = 1
FIRST_LOOK_S = 3.0
"""For so long a caller waits for the first look at an app."""

M = TypeVar("M", bound=Message)


class ExternalScaler:
    """Bytes in, bytes out, whatever carries them."""

    def __init__(
        self, looking: Looking, defaults: Defaults = PLAIN, *, dry_run: bool = False
    ) -> None:
        """With `dry_run` it follows every app and answers that nothing is wanted."""
        self._looking = looking
        self._defaults = defaults
        self._dry_run = dry_run

    def methods(self) -> list[Method]:
        """What a transport serves."""
        return [
            Unary(f"/{SERVICE}/IsActive", self.is_active),
            Unary(f"/{SERVICE}/GetMetricSpec", self.metric_spec),
            Unary(f"/{SERVICE}/GetMetrics", self.metrics),
            Conversation(f"/{SERVICE}/StreamIsActive", self.stream_is_active),
            Conversation(f"/{SERVICE}/StreamMetricSpec", self.stream_metric_spec),
        ]

    def is_active(self, message: bytes, caller: Caller) -> bytes | Later:
        """Whether any replica is wanted."""
        app = self._app(_message(pb.ScaledObjectRef, message))
        return self._told(app, caller, _active)

    def metric_spec(self, message: bytes, caller: Caller) -> bytes:
        """Always the same; the app is followed from here on."""
        self._app(_message(pb.ScaledObjectRef, message))
        return _SPEC

    def metrics(self, message: bytes, caller: Caller) -> bytes | Later:
        """The replicas wanted."""
        request = _message(pb.GetMetricsRequest, message)
        if request.metricName != METRIC:
            raise Failed(
                Code.INVALID_ARGUMENT, f"metricName: {request.metricName!r}: there is {METRIC} only"
            )
        return self._told(self._app(request.scaledObjectRef), caller, _metrics)

    async def stream_is_active(self, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Whether any replica is wanted: now, and each time that changes. Silent while not known."""
        app = self._app(_message(pb.ScaledObjectRef, await anext(messages, b"")))
        changed = asyncio.Event()
        app.streams += 1
        app.changed[changed.set] = None
        told = None
        try:
            while True:
                changed.clear()
                wanted = self._wanted(app)
                if wanted is not None and (active := wanted > 0) != told:
                    told = active
                    yield _active(wanted)
                await changed.wait()
        finally:
            app.streams -= 1
            app.changed.pop(changed.set, None)

    async def stream_metric_spec(self, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The spec once: it never changes, and the stream stays open until its caller leaves."""
        self._app(_message(pb.ScaledObjectRef, await anext(messages, b"")))
        yield _SPEC
        await asyncio.Event().wait()

    def _app(self, ref: pb.ScaledObjectRef) -> Followed:
        """Raises Failed, which names the field."""
        if not ref.name:
            raise Failed(Code.INVALID_ARGUMENT, "name: it is empty: no ScaledObject is named")
        # Edited metadata is another app: it is read anew, and what was is forgotten in time.
        key = (ref.namespace, ref.name, frozenset(ref.scalerMetadata.items()))
        if (app := self._looking.known(key)) is not None:
            return app
        name = f"{ref.namespace}/{ref.name}"
        try:
            spec, source = read(ref.scalerMetadata, name, self._defaults)
            return self._looking.follow(key, spec, source)
        except ToldError as error:
            raise Failed(Code.INVALID_ARGUMENT, f"{name}: {error}") from None
        except Full as error:
            raise Failed(Code.RESOURCE_EXHAUSTED, str(error)) from None

    def _wanted(self, app: Followed) -> int | None:
        floor = self._looking.floor(app)
        if floor is None:
            return None
        return 0 if self._dry_run else floor.replicas

    def _told(self, app: Followed, caller: Caller, answer: Callable[[int], bytes]) -> bytes | Later:
        wanted = self._wanted(app)
        if wanted is not None:
            return answer(wanted)
        if app.observed is None and app.problem is None:
            return _FirstLook(app, caller, lambda: self._settled(app, answer))
        raise self._unknown(app)

    def _settled(self, app: Followed, answer: Callable[[int], bytes]) -> bytes | Failed:
        wanted = self._wanted(app)
        return self._unknown(app) if wanted is None else answer(wanted)

    def _unknown(self, app: Followed) -> Failed:
        text = f"{app.spec.app}: the replicas wanted are not known: {self._looking.trouble(app)}"
        return Failed(Code.UNAVAILABLE, text)


class _FirstLook(Later):
    """A call for an app that is being looked at for the first time."""

    def __init__(self, app: Followed, caller: Caller, answer: Callable[[], bytes | Failed]) -> None:
        self._app, self._caller, self._answer = app, caller, answer
        self._timer = asyncio.get_running_loop().call_later(FIRST_LOOK_S, self._end)
        app.changed[self._end] = None

    def leave(self) -> None:
        """See Later."""
        self._timer.cancel()
        self._app.changed.pop(self._end, None)

    def _end(self) -> None:
        self.leave()
        self._caller.settle(self._answer())


def _message(kind: type[M], content: bytes) -> M:
    try:
        return kind.FromString(content)
    except DecodeError:
        raise Failed(Code.INVALID_ARGUMENT, "the message cannot be read") from None


def _active(wanted: int) -> bytes:
    return pb.IsActiveResponse(result=wanted > 0).SerializeToString()


def _metrics(wanted: int) -> bytes:
    value = pb.MetricValue(metricName=METRIC, metricValue=wanted, metricValueFloat=wanted)
    return pb.GetMetricsResponse(metricValues=[value]).SerializeToString()


_SPEC = pb.GetMetricSpecResponse(
    metricSpecs=[pb.MetricSpec(metricName=METRIC, targetSize=TARGET, targetSizeFloat=TARGET)]
).SerializeToString()
