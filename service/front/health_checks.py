"""gRPC's standard health check, answered from `Health`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from warmscaler.service.front.http2.requests import Code
from warmscaler.service.front.methods import Caller, Conversation, Failed, Method, Unary
from warmscaler.service.observability.health import Health

Reply = health_pb2.HealthCheckResponse
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class HealthChecks:
    """The service as a whole, under "" and its own name, and each part under `NAME/part`.

    A part with a problem says so under its own name only: the service as a whole serves.
    """

    def __init__(self, health: Health, name: str, parts: Collection[str]) -> None:
        self._health = health
        self._name = name
        self._parts = parts
        self._changed = asyncio.Event()
        health.on_change(self._tell)

    def methods(self) -> list[Method]:
        """What a transport serves."""
        return [
            Unary(f"/{HEALTH}/Check", self.check),
            Conversation(f"/{HEALTH}/Watch", self.watch),
        ]

    def check(self, message: bytes, caller: Caller) -> bytes:
        """NOT_FOUND where there is no such name."""
        status = self._status(_service(message))
        if status == Reply.SERVICE_UNKNOWN:
            raise Failed(Code.NOT_FOUND, "there is no such service")
        return bytes(Reply(status=status).SerializeToString())

    async def watch(self, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The status now, and each time it is another."""
        name = _service(await anext(messages, b""))
        told = None
        while True:
            changed, status = self._changed, self._status(name)
            if status == told:
                await changed.wait()
            else:
                yield Reply(status=status).SerializeToString()
                told = status

    def _status(self, name: str) -> int:
        service, _, part = name.partition("/")
        if service not in ("", self._name) or (part and (part not in self._parts or not service)):
            return int(Reply.SERVICE_UNKNOWN)
        well = self._health.serves and part not in self._health.problems
        return int(Reply.SERVING if well else Reply.NOT_SERVING)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _service(message: bytes) -> str:
    try:
        return str(health_pb2.HealthCheckRequest.FromString(message).service)
    except DecodeError:
        raise Failed(Code.INVALID_ARGUMENT, "the message cannot be read") from None
