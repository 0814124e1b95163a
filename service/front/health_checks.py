"""gRPC's standard health check, answered from `Health`."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from warmscaler.service.front.wire import SERVICE
from warmscaler.service.observability.health import PARTS, Health

Reply = health_pb2.HealthCheckResponse
Context = grpc.aio.ServicerContext[Any, Any]


class HealthChecks(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """The service as a whole, under "" and its own name, and each part under `SERVICE/part`.

    A part with a problem says so under its own name only: the service as a whole serves. grpcio's own
    servicer holds a lock while it writes to a watcher: one that reads nothing would stop every change
    of status, and with it the drain.
    """

    def __init__(self, health: Health) -> None:
        self._health = health
        self._changed = asyncio.Event()
        health.on_change(self._tell)

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> Any:
        """NOT_FOUND where there is no such name."""
        status = self._status(request.service)
        if status == Reply.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        return Reply(status=status)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:
        """The status now, and each time it is another."""
        told = None
        while True:
            changed, status = self._changed, self._status(request.service)
            if status == told:
                await changed.wait()
            else:
                await context.write(Reply(status=status))
                told = status

    def _status(self, name: str) -> int:
        service, _, part = name.partition("/")
        if service not in ("", SERVICE) or (part and (part not in PARTS or not service)):
            return int(Reply.SERVICE_UNKNOWN)
        well = self._health.serves and part not in self._health.problems
        return int(Reply.SERVING if well else Reply.NOT_SERVING)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
