"""The gRPC server: the contest's Scaler service, standard health checking and reflection."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from models.policy import Policy
from service.driver import Driver, Refused, UnknownApp, UnknownInstance, log
from service.observer import Observer
from service.platform_client import PlatformClient
from service.proto import scaler_pb2 as pb
from service.proto import scaler_pb2_grpc
from service.scheduler import Scheduler

SERVICE = pb.DESCRIPTOR.services_by_name["Scaler"].full_name
MAX_MESSAGE_BYTES = 1 << 20
DRAIN_GRACE_S = 20.0

Context = grpc.aio.ServicerContext[Any, Any]


class PortInUse(Exception):
    """The address cannot be listened on; its text says which."""


class ScalerServicer(scaler_pb2_grpc.ScalerServicer):
    """Checks what comes in, asks the driver, says its answer in the contest's words."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def Assign(self, request: pb.AssignRequest, context: Context) -> pb.AssignReply:
        """One instance of its app for the request, and for no other until its Idle."""
        meta = request.meta_data
        if not meta.key or not meta.memory_in_mb:
            await _refuse_assign(request, context)
        try:
            instance_id = await self._driver.assign(request.request_id, meta)
        except Refused as refused:
            draining = self._driver.scheduler.draining
            code = grpc.StatusCode.UNAVAILABLE if draining else grpc.StatusCode.INTERNAL
            await context.abort(code, str(refused))
        return pb.AssignReply(
            assigment=pb.Assignment(
                request_id=request.request_id, meta_key=meta.key, instance_id=instance_id
            )
        )

    async def Idle(self, request: pb.IdleRequest, context: Context) -> pb.IdleReply:
        """The request is done; its instance is kept or destroyed."""
        if not request.HasField("assigment"):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "assigment is missing")
        try:
            self._driver.idle(request.assigment, request.result)
        except UnknownApp:
            return pb.IdleReply(
                status=pb.InternalError, error_message="no request of this app was ever assigned"
            )
        except UnknownInstance:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such instance")
        return pb.IdleReply()


async def _refuse_assign(request: pb.AssignRequest, context: Context) -> None:
    meta = request.meta_data
    if not request.HasField("meta_data"):
        reason = "meta_data is missing"
    elif not meta.key:
        reason = "meta_data.key is empty"
    else:
        reason = "meta_data.memory_in_mb is zero"
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)


class ScalerServer:
    """A server on one address, and everything behind it."""

    def __init__(
        self,
        policy: Policy,
        platform_target: str,
        address: str,
        *,
        observers: Sequence[Observer] = (),
    ) -> None:
        """`address` is HOST:PORT; port 0 lets the system choose (see `port` after `start`)."""
        # Ids must differ from those of an earlier run, of which the platform may still have some.
        self._platform = PlatformClient(platform_target)
        self.driver = Driver(
            Scheduler(policy, id_prefix=f"{uuid.uuid4().hex[:8]}-"),
            self._platform,
            observers=observers,
        )
        self._address = address
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ]
        )
        self.port = 0

    async def start(self) -> None:
        """Listens. Raises PortInUse."""
        server = self._server
        scaler_pb2_grpc.add_ScalerServicer_to_server(ScalerServicer(self.driver), server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        try:
            self.port = server.add_insecure_port(self._address)
        except RuntimeError:
            self.port = 0
        if self.port == 0:
            raise PortInUse(f"{self._address}: cannot listen there; is the port in use?")
        await server.start()
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace_s: float = DRAIN_GRACE_S) -> None:
        """Drains: no new work, running requests finish, every slot is given back."""
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        await self.driver.drain(grace_s)
        await self._server.stop(1.0)
        await self._platform.close()

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", SERVICE):
            await self._health.set(name, status)


async def serve_until_signal(
    policy: Policy, platform_target: str, address: str, *, grace_s: float = DRAIN_GRACE_S
) -> None:
    """Serves until SIGTERM or SIGINT, then drains. Raises PortInUse."""
    server = ScalerServer(policy, platform_target, address)  # belongs to the loop it is made in
    await server.start()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log.info("serving on port %d", server.port)
    await stop.wait()
    log.info("draining")
    await server.stop(grace_s)
    log.info("stopped")
