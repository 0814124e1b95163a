"""The wire: every message byte for byte, and real calls from clients that never saw our .proto."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.message import Message

from tests.service.contest_table import PACKAGE, SERVICES, STATUS, TABLE, TableClient, message, rows
from tests.traces import SHARED
from warmscaler.models.published.fixed import Fixed
from warmscaler.service.front.server import ScalerServer
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.simulator.platform import SimulatedPlatform

pytestmark = pytest.mark.usefixtures("transport")

# The encoding, by hand: a tag is (field number << 3 | wire type); 0 is a varint, 2 has a length.


def varint(value: int) -> bytes:
    """Seven bits a byte, low ones first; a negative int32 is sent as 64 bits."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def text(field: int, value: str) -> bytes:
    return block(field, value.encode())


def block(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


META = text(1, "nodes1") + text(3, "go") + number(4, 300) + number(5, 1 << 40)
ASSIGNMENT = text(1, "r-1") + text(2, "nodes1") + text(3, "instance")
RESOURCE = number(1, 512)
SLOT = text(1, "slot-1") + block(2, RESOURCE) + number(3, 1_689_000_000_000) + number(4, 300)

meta = pb.Meta(key="nodes1", runtime="go", timeout_in_secs=300, memory_in_mb=1 << 40)
assignment = pb.Assignment(request_id="r-1", meta_key="nodes1", instance_id="instance")
resource = pb.ResourceConfig(memory_in_megabytes=512)
slot = pb.Slot(
    id="slot-1",
    resource_config=resource,
    create_time=1_689_000_000_000,
    create_duration_in_ms=300,
)

CASES: list[tuple[Message, bytes]] = [
    (meta, META),
    (assignment, ASSIGNMENT),
    (resource, RESOURCE),
    (slot, SLOT),
    (
        pb.AssignRequest(request_id="r-1", timestamp=(1 << 64) - 1, meta_data=meta),
        text(1, "r-1") + number(2, (1 << 64) - 1) + block(3, META),
    ),
    (
        pb.AssignReply(status=pb.InvalidAssigment, assigment=assignment, error_message="é"),
        number(1, 5) + block(2, ASSIGNMENT) + text(3, "é"),
    ),
    (
        pb.Result(status_code=-1, duration_in_ms=56, need_destroy=True, reason="broke"),
        number(1, -1) + number(2, 56) + number(3, 1) + text(4, "broke"),
    ),
    (
        pb.IdleRequest(assigment=assignment, result=pb.Result(status_code=200)),
        block(1, ASSIGNMENT) + block(2, number(1, 200)),
    ),
    (pb.IdleReply(status=pb.InternalError, error_message="m"), number(1, 2) + text(3, "m")),
    (
        pb.CreateSlotRequest(request_id="c", resource_config=resource),
        text(1, "c") + block(2, RESOURCE),
    ),
    (
        pb.CreateSlotReply(status=pb.Throttle, slot=slot, error_message="m"),
        number(1, 1) + block(2, SLOT) + text(3, "m"),
    ),
    (
        pb.DestroySlotRequest(request_id="d", id="slot-1", reason="idle"),
        text(1, "d") + text(2, "slot-1") + text(3, "idle"),
    ),
    (pb.DestroySlotReply(status=pb.NotFound, error_message="m"), number(1, 3) + text(2, "m")),
    (
        pb.InitRequest(request_id="i", slot_id="slot-1", instance_id="instance", meta_data=meta),
        text(1, "i") + text(2, "slot-1") + text(3, "instance") + block(4, META),
    ),
    (
        pb.InitReply(
            status=pb.InvalidArgument, create_time=9, init_duration_in_ms=1_225, error_message="m"
        ),
        number(1, 4) + number(2, 9) + number(3, 1_225) + text(4, "m"),
    ),
    # Zeros are not sent, except where a field is `optional` and was set.
    (pb.AssignRequest(request_id="", timestamp=0), b""),
    (pb.AssignReply(status=pb.Ok), b""),
    (pb.Result(need_destroy=False, reason=""), number(3, 0) + block(4, b"")),
    (pb.AssignReply(error_message=""), block(3, b"")),
    (pb.IdleReply(error_message=""), block(3, b"")),
    (pb.CreateSlotReply(slot=pb.Slot()), block(2, b"")),
    (pb.DestroySlotRequest(reason=""), block(3, b"")),
    (pb.DestroySlotReply(error_message=""), block(2, b"")),
    (pb.InitReply(error_message=""), block(4, b"")),
    (pb.AssignRequest(meta_data=pb.Meta()), block(3, b"")),
]


@pytest.mark.parametrize(("value", "wire"), CASES, ids=lambda case: type(case).__name__)
def test_byte_for_byte(value: Message, wire: bytes) -> None:
    assert value.SerializeToString(deterministic=True) == wire
    read = type(value).FromString(wire)
    assert read == value
    assert read.ListFields() == value.ListFields()


def test_every_message_has_a_case() -> None:
    seen = {type(value).DESCRIPTOR.name for value, _ in CASES}
    assert seen == set(pb.DESCRIPTOR.message_types_by_name) == {name for name, _ in rows()}


# The table


def described(descriptor: Any) -> list[tuple[object, ...]]:
    return [(f.number, f.name, f.type, f.has_presence) for f in descriptor.fields]


def test_our_file_is_the_table() -> None:
    assert pb.DESCRIPTOR.package == PACKAGE
    for name, _ in rows():
        ours = pb.DESCRIPTOR.message_types_by_name[name]
        assert described(ours) == described(message(name).DESCRIPTOR), name
    assert pb.Status.items() == list(zip(STATUS, range(6), strict=True))
    assert {
        name: tuple(method.name for method in service.methods)
        for name, service in pb.DESCRIPTOR.services_by_name.items()
    } == SERVICES


def test_the_table_is_the_page() -> None:
    page: Path = SHARED.parent / "contest.md"
    if not page.exists():
        pytest.skip(f"{page} is not there")
    assert TABLE.read_text(encoding="utf-8") in page.read_text(encoding="utf-8")


# Real calls

APP = {"key": "nodes1", "runtime": "go", "timeout_in_secs": 300, "memory_in_mb": 512}


def with_servers(
    work: Callable[[grpc.aio.Channel, grpc.aio.Channel], Awaitable[None]],
) -> SimulatedPlatform:
    """Runs `work` with channels to a scaler and to the platform behind it."""
    platform = SimulatedPlatform({"nodes1": 20.0}, create_ms=10.0)

    async def run() -> None:
        await platform.start()
        server = ScalerServer(Fixed(60.0), f"127.0.0.1:{platform.port}", "127.0.0.1:0")
        await server.start()
        async with (
            grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as to_scaler,
            grpc.aio.insecure_channel(f"127.0.0.1:{platform.port}") as to_platform,
        ):
            await work(to_scaler, to_platform)
        await server.stop(1.0)
        await platform.stop()

    asyncio.run(run())
    return platform


def fields(wire: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and raw values of a message, read by hand."""
    position = 0

    def read() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = wire[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while position < len(wire):
        tag = read()
        if tag & 7 == 0:
            yield tag >> 3, read()
        else:
            assert tag & 7 == 2
            length = read()
            yield tag >> 3, wire[position : position + length]
            position += length


def test_bytes_by_hand_against_the_service() -> None:
    async def work(to_scaler: grpc.aio.Channel, _: grpc.aio.Channel) -> None:
        assign = to_scaler.unary_unary("/serverless.simulator.Scaler/Assign", None, None)
        idle = to_scaler.unary_unary("/serverless.simulator.Scaler/Idle", None, None)
        app = text(1, "nodes1") + text(3, "go") + number(4, 300) + number(5, 512)
        given = []
        for name in ("r-1", "r-2"):
            reply = await assign(text(1, name) + number(2, 1_689_000_000_000) + block(3, app))
            [(where, answer)] = list(fields(reply))
            assert where == 2
            assert isinstance(answer, bytes)
            parts = dict(fields(answer))
            assert set(parts) == {1, 2, 3}
            assert (parts[1], parts[2]) == (name.encode(), b"nodes1")
            given.append(parts[3])
            result = number(1, 200) + number(2, 30)
            assert await idle(block(1, answer) + block(2, result)) == b""
        assert given[0] == given[1]  # the idle one was used again

    assert len(with_servers(work).slots) == 1


def test_a_client_from_the_table_against_the_service() -> None:
    async def work(to_scaler: grpc.aio.Channel, _: grpc.aio.Channel) -> None:
        scaler = TableClient(to_scaler, "Scaler")
        request = message("AssignRequest", request_id="r-1", meta_data=message("Meta", **APP))
        reply = await scaler("Assign", request)
        assert reply.status == 0
        assert reply.assigment.request_id == "r-1"
        assert reply.assigment.meta_key == "nodes1"
        assert not reply.HasField("error_message")
        bad = message("Result", status_code=500, need_destroy=True, reason="broke")
        done = message("IdleRequest", assigment=reply.assigment, result=bad)
        assert (await scaler("Idle", done)).status == 0
        again = await scaler("Assign", request)
        assert again.assigment.instance_id != reply.assigment.instance_id

    platform = with_servers(work)
    assert [slot.memory_mb for slot in platform.slots.values()] == [512, 512]
    assert platform.live_slots == 0


def test_a_client_from_the_table_against_the_platform() -> None:
    async def work(_: grpc.aio.Channel, to_platform: grpc.aio.Channel) -> None:
        platform = TableClient(to_platform, "Platform")
        memory = message("ResourceConfig", memory_in_megabytes=256)
        made = await platform("CreateSlot", message("CreateSlotRequest", resource_config=memory))
        assert made.status == 0
        assert made.slot.resource_config.memory_in_megabytes == 256
        assert made.slot.create_duration_in_ms == 10
        start = message(
            "InitRequest", slot_id=made.slot.id, instance_id="x", meta_data=message("Meta", **APP)
        )
        assert (await platform("Init", start)).init_duration_in_ms == 20
        end = message("DestroySlotRequest", id=made.slot.id)
        assert (await platform("DestroySlot", end)).status == 0
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await platform("DestroySlot", end)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND

    assert with_servers(work).live_slots == 0
