"""A connection to the platform that goes silent without being closed, and platforms that are slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import pytest

from tests.chaos.platform import ChaosPlatform
from tests.service.running import META, assign, done, until
from warmscaler.models.published.fixed import Fixed
from warmscaler.service.front.server import ScalerServer
from warmscaler.service.live import line, platform_client
from warmscaler.service.live.platform_client import PlatformClient
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.proto import scaler_pb2_grpc
from warmscaler.service.proto.scaler_pb2_grpc import ScalerStub
from warmscaler.simulator.platform import Fault, Misuse, SimulatedPlatform

SILENCE_S = 0.3
OTHER = pb.Meta(key="other", runtime="go", timeout_in_secs=60, memory_in_mb=128)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform_client, "SILENCE_S", SILENCE_S)
    monkeypatch.setattr(line, "PROBE_S", SILENCE_S)


class Proxy:
    """Passes bytes both ways, until it is told to pass none on the connections there are."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._silent: set[asyncio.StreamWriter] = set()
        self.connections = 0
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def go_silent(self) -> None:
        self._silent.update(self._writers)

    async def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        for task in self._tasks:
            task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers += [writer, back]
        self._tasks += [
            asyncio.create_task(self._pass(reader, back)),
            asyncio.create_task(self._pass(there, writer)),
        ]

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            if writer not in self._silent:
                writer.write(data)
        writer.close()


@asynccontextmanager
async def behind_a_proxy() -> AsyncIterator[tuple[ScalerServer, Any, SimulatedPlatform, Proxy]]:
    # One that knows a CreateSlot that is repeated.
    platform = ChaosPlatform({"app": 1.0, "other": 1.0}, create_ms=1.0)
    await platform.start()
    proxy = Proxy(platform.port)
    await proxy.start()
    server = ScalerServer(Fixed(300.0), f"127.0.0.1:{proxy.port}", "127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield server, ScalerStub(channel), platform, proxy  # type: ignore[no-untyped-call]
    finally:
        await server.stop(2.0)
        await proxy.stop()
        await platform.stop()
    assert platform.live_slots == 0


@pytest.mark.parametrize("call", [pb.CreateSlotRequest, pb.InitRequest, pb.DestroySlotRequest])
def test_a_connection_that_goes_silent_is_replaced(
    call: type, caplog: pytest.LogCaptureFixture
) -> None:
    """Before the call of this kind; every one of them comes to its end over a new connection."""

    async def run() -> None:
        async with behind_a_proxy() as (_, stub, platform, proxy):
            first = await stub.Assign(assign("r1"), timeout=30.0)

            def silent(each: object) -> Fault | None:
                if type(each) is call and proxy.connections == 1:
                    proxy.go_silent()  # its answer is lost
                return None

            platform.faults = silent
            second = await stub.Assign(assign("r2", OTHER), timeout=30.0)
            await stub.Idle(done(first.assigment, need_destroy=True))
            await stub.Idle(done(second.assigment))
            await until(lambda: proxy.connections == 2)
            await until(lambda: platform.live_slots == 1)

    asyncio.run(run())
    assert "went silent" in caplog.text


def test_a_platform_that_is_slow_keeps_its_connection() -> None:
    async def run() -> None:
        async with behind_a_proxy() as (_, stub, platform, proxy):
            platform.faults = lambda call: (
                Fault(delay_s=5.0 * SILENCE_S) if isinstance(call, pb.InitRequest) else None
            )
            reply = await stub.Assign(assign(), timeout=30.0)
            assert proxy.connections == 1
            assert len(platform.slots) == 1
            assert platform.misuse == Misuse()
            platform.faults = lambda _: None
            await stub.Idle(done(reply.assigment))

    asyncio.run(run())


def test_a_platform_that_answers_no_check_either_is_only_slow() -> None:
    """One that does one thing at a time: no connection is better than the first."""

    class OneAtATime(scaler_pb2_grpc.PlatformServicer):
        inits = 0

        async def Init(self, request: pb.InitRequest, context: object) -> pb.InitReply:  # noqa: N802
            self.inits += 1
            await asyncio.sleep(6.0 * SILENCE_S)
            return pb.InitReply()

    async def hangs(request: bytes, context: object) -> bytes:
        await asyncio.sleep(60.0)
        return b""

    async def run() -> None:
        server = grpc.aio.server()
        platform = OneAtATime()
        scaler_pb2_grpc.add_PlatformServicer_to_server(platform, server)  # type: ignore[no-untyped-call]
        handlers = {"Check": grpc.unary_unary_rpc_method_handler(hangs)}
        check = grpc.method_handlers_generic_handler("grpc.health.v1.Health", handlers)
        server.add_generic_rpc_handlers([check])
        client = PlatformClient(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
        await client.init("r", "slot", "i", META)
        assert platform.inits == 1
        await client.close()
        await server.stop(None)

    asyncio.run(run())


def test_a_call_that_its_caller_cancels_is_cancelled() -> None:
    async def run() -> None:
        async with behind_a_proxy() as (server, _, platform, _):
            arrived: list[object] = []

            def slow(request: object) -> Fault:
                arrived.append(request)
                return Fault(delay_s=30.0)

            platform.faults = slow
            call = asyncio.create_task(server._platform.create_slot("r", 128))
            await until(lambda: bool(arrived))
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await until(lambda: platform.live_slots == 1)  # made all the same, and nobody's
            platform.slots.clear()

    asyncio.run(run())
