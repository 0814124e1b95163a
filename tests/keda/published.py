"""KEDA's side of the wire: a client made from the facts of its published proto, not from our file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "externalscaler.ExternalScaler"
MESSAGES = {
    "ScaledObjectRef": "string name=1; string namespace=2; map<string, string> scalerMetadata=3;",
    "IsActiveResponse": "bool result=1;",
    "GetMetricSpecResponse": "repeated MetricSpec metricSpecs=1;",
    "MetricSpec": "string metricName=1; int64 targetSize=2; double targetSizeFloat=3;",
    "GetMetricsRequest": "ScaledObjectRef scaledObjectRef=1; string metricName=2;",
    "GetMetricsResponse": "repeated MetricValue metricValues=1;",
    "MetricValue": "string metricName=1; int64 metricValue=2; double metricValueFloat=3;",
}
"""Names and numbers of KEDA 2.x, pkg/scalers/externalscaler/externalscaler.proto."""
METHODS = {
    "IsActive": ("ScaledObjectRef", "IsActiveResponse", False),
    "StreamIsActive": ("ScaledObjectRef", "IsActiveResponse", True),
    "GetMetricSpec": ("ScaledObjectRef", "GetMetricSpecResponse", False),
    "GetMetrics": ("GetMetricsRequest", "GetMetricsResponse", False),
    "StreamMetricSpec": ("ScaledObjectRef", "GetMetricSpecResponse", True),
}


@cache
def classes() -> dict[str, Any]:
    """Each message's class, in a pool of its own: the same names are in our generated code."""
    text = 'syntax = "proto3"; package externalscaler;'
    text += "".join(f"message {name} {{ {fields} }}" for name, fields in MESSAGES.items())
    with TemporaryDirectory() as folder:
        source, made = Path(folder) / "published.proto", Path(folder) / "set"
        source.write_text(text)
        protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}"]
        subprocess.run([*protoc, f"--descriptor_set_out={made}", str(source)], check=True)
        files = descriptor_pb2.FileDescriptorSet.FromString(made.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"externalscaler.{name}"))
        for name in MESSAGES
    }


class Client:
    """What KEDA's operator calls."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        known = classes()
        self._calls: dict[str, Any] = {}
        for name, (request, reply, streams) in METHODS.items():
            make: Any = channel.unary_stream if streams else channel.unary_unary
            self._calls[name] = make(
                f"/{SERVICE}/{name}",
                request_serializer=known[request].SerializeToString,
                response_deserializer=known[reply].FromString,
            )

    async def is_active(self, ref: Any) -> bool:
        return bool((await self._calls["IsActive"](ref)).result)

    async def spec(self, ref: Any) -> Any:
        [spec] = (await self._calls["GetMetricSpec"](ref)).metricSpecs
        return spec

    async def metric(self, ref: Any, name: str) -> float:
        """As KEDA reads it: the float where it is above 0."""
        request = classes()["GetMetricsRequest"](scaledObjectRef=ref, metricName=name)
        [value] = (await self._calls["GetMetrics"](request)).metricValues
        return float(value.metricValueFloat if value.metricValueFloat > 0 else value.metricValue)

    async def active_stream(self, ref: Any) -> AsyncIterator[bool]:
        async for reply in self._calls["StreamIsActive"](ref):
            yield bool(reply.result)

    async def spec_stream(self, ref: Any) -> AsyncIterator[Any]:
        async for reply in self._calls["StreamMetricSpec"](ref):
            yield reply.metricSpecs[0]


def scaled_object(name: str, metadata: Mapping[str, str], namespace: str = "default") -> Any:
    """What KEDA sends of one: every string of the trigger's metadata, its own among them."""
    of_keda = {"scalerAddress": "scaler:9001"}
    return classes()["ScaledObjectRef"](
        name=name, namespace=namespace, scalerMetadata=of_keda | dict(metadata)
    )
