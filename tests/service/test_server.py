"""The service over real gRPC: what is not as it should be, on the wire and around it."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Awaitable
from pathlib import Path

import grpc
import grpc.aio
import pytest

from tests.fuzz.messages import PREFACE
from tests.service.running import META, assign, done, scaler, served, until
from warmscaler.models.published.fixed import Fixed
from warmscaler.service.front.server import ScalerServer, ServerEnded, serve_until_signal
from warmscaler.service.front.servicer import SERVICE
from warmscaler.service.live.serving_policy import Chosen
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.proto.scaler_pb2_grpc import ScalerStub
from warmscaler.simulator.platform import Misuse, SimulatedPlatform

pytestmark = pytest.mark.usefixtures("transport")


async def code_of(call: Awaitable[object]) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    code: grpc.StatusCode = refused.value.code()
    assert refused.value.details()
    return code


def test_an_assign_that_lacks_what_is_needed() -> None:
    async def run() -> None:
        async with served() as here:
            absurd = pb.Meta(key="app", memory_in_mb=(1 << 40) + 1)
            for meta in (None, pb.Meta(memory_in_mb=128), pb.Meta(key="app"), absurd):
                call = here.stub.Assign(pb.AssignRequest(request_id="r", meta_data=meta))
                assert await code_of(call) is grpc.StatusCode.INVALID_ARGUMENT
            assert not here.platform.slots

    asyncio.run(run())


def test_bytes_that_are_no_message(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async with (
            served() as here,
            grpc.aio.insecure_channel(f"127.0.0.1:{here.server.port}") as channel,
        ):
            for name in ("Assign", "Idle"):
                call = channel.unary_unary(f"/{SERVICE}/{name}", None, None)
                assert await code_of(call(b"\xff" * 9)) is grpc.StatusCode.INVALID_ARGUMENT

    asyncio.run(run())
    assert not caplog.records


def test_a_path_that_is_no_text_ends_nothing() -> None:
    def header(name: bytes, value: bytes) -> bytes:
        return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value

    def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
        head = len(body).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
        return head + body

    async def run() -> None:
        async with served() as here:
            headers = {b":method": b"POST", b":scheme": b"http", b":path": b"/\xff/Assign"}
            headers |= {b"te": b"trailers", b"content-type": b"application/grpc"}
            block = b"".join(header(name, value) for name, value in headers.items())
            _, writer = await asyncio.open_connection("127.0.0.1", here.server.port)
            writer.write(PREFACE + frame(4, 0, 0) + frame(1, 5, 1, block))
            await writer.drain()
            await asyncio.sleep(0.2)
            writer.close()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{here.server.port}") as another:
                stub = ScalerStub(another)  # type: ignore[no-untyped-call]
                reply = await stub.Assign(assign("app"))
                await stub.Idle(done(reply.assigment))

    asyncio.run(run())


def test_a_server_that_ends_by_itself_is_not_served_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can call any more: the process must not stay as if all were well."""
    start = ScalerServer.start

    async def ends(self: ScalerServer) -> None:
        await start(self)
        await self._transport.stop(0.0)

    monkeypatch.setattr(ScalerServer, "start", ends)
    chosen = Chosen(Fixed(1.0), about={"policy": "fixed"})
    with pytest.raises(ServerEnded):
        asyncio.run(serve_until_signal(chosen, "127.0.0.1:1", "127.0.0.1:0"))


def test_idle_without_for_unknown_and_twice() -> None:
    async def run() -> None:
        async with served() as here:
            stub = here.stub
            missing = pb.IdleRequest(result=pb.Result(status_code=200))
            assert await code_of(stub.Idle(missing)) is grpc.StatusCode.INVALID_ARGUMENT
            stranger = pb.Assignment(request_id="r", meta_key="stranger", instance_id="i")
            reply = await stub.Idle(done(stranger))
            assert reply.status == pb.InternalError
            assert reply.error_message

            mine = (await stub.Assign(assign())).assigment
            never = pb.Assignment(request_id="r", meta_key="app", instance_id="never")
            assert await code_of(stub.Idle(done(never))) is grpc.StatusCode.NOT_FOUND
            assert (await stub.Idle(done(mine))).status == pb.Ok
            # Another request has the instance now: a second Idle of the first must not free it.
            again = (await stub.Assign(assign("r2"))).assigment
            assert again.instance_id == mine.instance_id
            assert (await stub.Idle(done(mine))).status == pb.Ok
            third = (await stub.Assign(assign("r3"))).assigment
            assert third.instance_id != again.instance_id
            for each in (again, third):
                assert (await stub.Idle(done(each))).status == pb.Ok

    asyncio.run(run())


def test_need_destroy_gives_the_slot_back() -> None:
    async def run() -> None:
        async with served() as here:
            first = (await here.stub.Assign(assign())).assigment
            await here.stub.Idle(done(first, need_destroy=True))
            await until(lambda: here.platform.live_slots == 0)
            second = (await here.stub.Assign(assign("r2"))).assigment
            assert second.instance_id != first.instance_id
            assert (await here.stub.Idle(done(first))).status == pb.Ok  # gone, but known
            await here.stub.Idle(done(second))
            assert here.platform.misuse == Misuse()

    asyncio.run(run())


def test_a_deadline_already_past() -> None:
    async def run() -> None:
        async with served() as here:
            call = here.stub.Assign(assign(), timeout=-1.0)
            assert await code_of(call) is grpc.StatusCode.DEADLINE_EXCEEDED
            reply = await here.stub.Assign(assign("r2"), timeout=30.0)
            await here.stub.Idle(done(reply.assigment))

    asyncio.run(run())


def test_a_caller_that_goes_away_leaves_its_instance_to_the_next() -> None:
    async def run() -> None:
        async with served(create_ms=300.0) as here:
            call = here.stub.Assign(assign())
            scheduler = here.server.driver.scheduler
            await until(lambda: bool(scheduler.instances))
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await until(lambda: any(scheduler.idle_instances()))
            [slot] = here.platform.slots.values()
            reply = await here.stub.Assign(assign("r2"))
            assert reply.assigment.instance_id == slot.instance_id
            await here.stub.Idle(done(reply.assigment))
            assert len(here.platform.slots) == 1

    asyncio.run(run())


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        line = refused("--policy", "fixed:300", "--port", port)
        assert f"127.0.0.1:{port}" in line
        assert "in use" in line


def refused(*arguments: object) -> str:
    """The one line with which `scaler serve` ends, without a traceback and with exit code 2."""
    command = [sys.executable, "-m", "warmscaler", "serve", *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2, ended
    [line] = [line for line in ended.stderr.splitlines() if " INFO " not in line]
    assert line.startswith("scaler: ")
    return line


def test_a_platform_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        nobody = held.getsockname()[1]
    with (
        scaler("--policy", "fixed:300", "--platform", f"127.0.0.1:{nobody}") as process,
        grpc.insecure_channel(process.address) as channel,
    ):
        stub = ScalerStub(channel)  # type: ignore[no-untyped-call]
        try:
            reply = stub.Assign(assign(), timeout=60.0)
            answer = (reply.status, reply.error_message)
        except grpc.RpcError as error:
            answer = (error.code(), error.details() or "")
        assert answer[0] in (grpc.StatusCode.INTERNAL, pb.InternalError)
        assert "CreateSlot" in answer[1]
        assert process.terminate() == 0


def test_sigterm_drains_and_gives_every_slot_back(tmp_path: Path) -> None:
    async def run() -> None:
        platform = SimulatedPlatform({"app": 1.0, "other": 1.0}, create_ms=1.0)
        await platform.start()
        serving = ("--policy", "fixed:300", "--platform", f"127.0.0.1:{platform.port}")
        with scaler(*serving, "--drain", 20) as process:
            address = await asyncio.to_thread(lambda: process.address)
            async with grpc.aio.insecure_channel(address) as channel:
                stub = ScalerStub(channel)  # type: ignore[no-untyped-call]
                replies = [await stub.Assign(assign(f"r{number}")) for number in range(5)]
                for reply in replies[1:]:
                    await stub.Idle(done(reply.assigment))
                assert platform.live_slots == 5
                ending = asyncio.create_task(asyncio.to_thread(process.terminate))
                await until(lambda: platform.live_slots == 1)
                late = stub.Assign(assign("late", pb.Meta(key="other", memory_in_mb=128)))
                assert await code_of(late) is grpc.StatusCode.UNAVAILABLE
                await stub.Idle(done(replies[0].assigment))  # what runs may finish
                assert await ending == 0
        assert platform.live_slots == 0
        assert platform.misuse == Misuse()
        await platform.stop()

    asyncio.run(run())


def test_the_largest_message_is_bounded() -> None:
    async def run() -> None:
        async with served() as here:
            meta = pb.Meta(key="app", runtime="x" * (2 << 20), memory_in_mb=128)
            call = here.stub.Assign(assign(meta=meta))
            assert await code_of(call) is grpc.StatusCode.RESOURCE_EXHAUSTED
            reply = await here.stub.Assign(assign(meta=META))
            await here.stub.Idle(done(reply.assigment))

    asyncio.run(run())
