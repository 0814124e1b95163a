"""The external scaler in this process, over real gRPC, looking at a real Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import grpc.aio
import pytest

from tests.keda.published import Client
from tests.keda.world import PATIENCE_S
from warmscaler.service.front.own_transport import OwnTransport
from warmscaler.service.front.transport import Serving
from warmscaler.service.keda.servicer import ExternalScaler
from warmscaler.service.looking.looking import Looking
from warmscaler.service.looking.options import LookingOptions
from warmscaler.service.looking.told import Defaults

QUICK = LookingOptions(interval_s=0.3, history_s=60.0, hold_s=30.0)


@dataclass
class Here:
    """A client, and what is behind it."""

    client: Client
    looking: Looking

    async def until(self, holds: Callable[[], Awaitable[Any]]) -> Any:
        """What it gives, once that is true. Errors of a call count as not yet."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    if found := await holds():
                        return found
                except grpc.aio.AioRpcError:
                    pass
                await asyncio.sleep(0.05)


@asynccontextmanager
async def external_scaler(
    prometheus: str | None, *, dry_run: bool = False, **options: Any
) -> AsyncIterator[Here]:
    looking = Looking(replace(QUICK, **options), Random(1).random)
    scaler = ExternalScaler(looking, Defaults(prometheus), dry_run=dry_run)
    transport = OwnTransport(Serving("127.0.0.1:0", scaler.methods()))
    port = await transport.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Here(Client(channel), looking)
    finally:
        await transport.stop(1.0)
        await looking.close()


async def refused(call: Awaitable[Any]) -> tuple[grpc.StatusCode, str]:
    """How a call fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), str(caught.value.details())


def trigger(app: str, /, **more: str) -> dict[str, str]:
    """Metadata that is whole."""
    query = f'in_flight{{app="{app}"}}'
    return {"query": query, "memoryMb": "512", "startSeconds": "1"} | more
