"""What is answered by its bytes, without being unpacked: the same as protobuf reads in them."""

from __future__ import annotations

import asyncio
import tracemalloc
from random import Random

import pytest
from google.protobuf.message import DecodeError

from tests.service.running import META, assign, done, served, until
from tests.service.wire_bytes import HELLO, fields, message
from warmscaler.models.policy import Pool, State
from warmscaler.service.front.http2 import frames
from warmscaler.service.front.http2.frames import ErrorCode, frame
from warmscaler.service.front.http2.headers import literals
from warmscaler.service.front.methods import Caller, Failed
from warmscaler.service.front.servicer import SERVICE, ScalerServicer
from warmscaler.service.front.transport import TransportKind
from warmscaler.service.live.driver import Driver
from warmscaler.service.live.waiting import Waiting
from warmscaler.service.observer import Observer
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.scheduler.limits import Limits

IDS = ["r", "0-1-1732666000000", "\x10\x1a", "é" * 20, "x" * 127, "y" * 128, ""]


class Nobody(Caller):
    """Waits for nothing."""

    def time_left_s(self) -> float | None:
        return None

    def settle(self, answer: bytes | Failed) -> None:
        pass


def packed(random: Random, message: bytes, other: bytes) -> bytes:
    """As it is packed, or as it might be."""
    how = random.randrange(8)
    content = bytearray(message)
    if how == 0 and content:
        content[random.randrange(len(content))] = random.randrange(256)
    elif how == 1:
        content += other
    elif how == 2:
        content = bytearray(other) + content
    elif how == 3:
        del content[random.randrange(len(content) + 1) :]
    elif how == 4:
        content += b"\xf8\x01\x05"  # a field of later
    return bytes(content)


def test_what_is_told_by_its_bytes_is_what_protobuf_reads() -> None:
    random, at_once = Random(3), 0

    async def run() -> int:
        nonlocal at_once
        async with served() as here:
            driver, servicer = here.server.driver, ScalerServicer(here.server.driver)
            await here.stub.Idle(done((await here.stub.Assign(assign("first"))).assigment))
            metas = [META, pb.Meta(key="app", memory_in_mb=64), pb.Meta(key="other", runtime="go")]
            for _ in range(3_000):
                request = assign(random.choice(IDS), random.choice([META, META, *metas]))
                request.timestamp = random.choice([0, 1, 1732666000000])
                sent = packed(random, request.SerializeToString(), assign("z").SerializeToString())
                at_once += await _pair(random, driver, servicer, sent)
            assert not driver.serving
            return at_once

    assert asyncio.run(run()) > 100


async def _pair(random: Random, driver: Driver, servicer: ScalerServicer, sent: bytes) -> bool:
    """An Assign and its Idle; whether both were answered at once. Leaves nothing in use."""
    answer = servicer.assign_at_once(sent)
    if answer is None:
        assert not driver.serving
        try:
            read = pb.AssignRequest.FromString(sent)
        except DecodeError:
            return False
        if read.meta_data != META or not read.request_id:
            return False
        known = servicer.assign(sent, Nobody())
        assert isinstance(known, bytes)
        answer = known
    else:
        read = pb.AssignRequest.FromString(sent)
        assert read.meta_data == META
    [instance_id] = driver.serving
    reply = pb.AssignReply.FromString(answer)
    assert reply.SerializeToString() == answer
    assert reply.assigment == pb.Assignment(
        request_id=read.request_id, meta_key=META.key, instance_id=instance_id
    )
    result = pb.Result(status_code=200, duration_in_ms=random.randrange(20))
    idle = pb.IdleRequest(assigment=reply.assigment, result=result).SerializeToString()
    other = pb.IdleRequest(assigment=pb.Assignment(request_id="z")).SerializeToString()
    odd = packed(random, idle, other)
    if servicer.idle_at_once(odd) is not None:
        assert pb.IdleRequest.FromString(odd).assigment == reply.assigment
        assert not driver.serving
        return True
    assert set(driver.serving) == {instance_id}
    servicer.idle(idle, Nobody())
    return False


class Told(Observer):
    """What is said of requests that get no instance."""

    def __init__(self) -> None:
        self.waited: list[tuple[str, int, bool]] = []
        self.throttled: list[tuple[str, str]] = []

    def waits(self, now_ms: float, pool: Pool, starts: int, *, first: bool) -> None:
        self.waited.append((pool.key, starts, first))

    def refused(
        self, now_ms: float, meta: pb.Meta, arrival_ms: float, reason: str, *, overload: bool
    ) -> None:
        assert overload
        self.throttled.append((meta.key, reason))


def test_throttle_is_told_by_the_bytes_as_well() -> None:
    """Where an overloaded scaler refuses thousands, each of them unpacked would keep it overloaded."""
    told = Told()

    async def run() -> None:
        limits = Limits(waiting=1)
        async with served(create_ms=60_000.0, limits=limits, observers=[told]) as here:
            servicer = ScalerServicer(here.server.driver)
            waiting = servicer.assign(assign("waits").SerializeToString(), Nobody())
            assert isinstance(waiting, Waiting)
            sent = assign("one more").SerializeToString()
            unpacked = servicer.assign(sent, Nobody())
            assert isinstance(unpacked, bytes)
            assert servicer.assign_at_once(sent) == unpacked
            assert pb.AssignReply.FromString(unpacked).status == pb.Throttle
            other = assign("another size", pb.Meta(key="app", memory_in_mb=64))
            assert servicer.assign_at_once(other.SerializeToString()) is None
            waiting.leave()
            assert servicer.assign_at_once(sent) is None

    asyncio.run(run())
    assert told.waited == [("app", 1, True), ("app", 0, False), ("app", 0, False)]
    assert told.throttled == [("app", "1 requests wait already")] * 2


@pytest.mark.parametrize("sound", [True, False])
def test_long_words_of_many_callers_are_not_kept(sound: bool) -> None:
    async def run() -> int:
        async with served() as here:
            servicer = ScalerServicer(here.server.driver)
            await here.stub.Idle(done((await here.stub.Assign(assign())).assigment))
            before, _ = tracemalloc.get_traced_memory()
            for count in range(100):
                answer = servicer.assign(assign(f"r{count}").SerializeToString(), Nobody())
                assert isinstance(answer, bytes)
                words = pb.Result(status_code=500, reason=f"{count} " * 100_000)
                idle = pb.IdleRequest(result=words)
                if sound:
                    idle.assigment.CopyFrom(pb.AssignReply.FromString(answer).assigment)
                    servicer.idle(idle.SerializeToString(), Nobody())
                    continue
                with pytest.raises(Failed, match="assigment is missing"):
                    servicer.idle(idle.SerializeToString(), Nobody())
                servicer.take_back(answer)
            return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    try:
        assert asyncio.run(run()) < 5_000_000  # 20 to 40 MB were said
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("warm", [True, False])
def test_who_cancels_as_the_answer_leaves_keeps_no_instance(warm: bool) -> None:
    """Its RST_STREAM comes behind what answered it: nobody will say Idle."""

    async def run() -> None:
        async with served(transport=TransportKind.OWN) as here:
            driver = here.server.driver
            if warm:
                await here.stub.Idle(done((await here.stub.Assign(assign())).assigment))
            block = literals(
                [(name.encode(), each.encode()) for name, each in fields(f"/{SERVICE}/Assign")]
            )
            asked = message(assign("gone").SerializeToString())
            _, writer = await asyncio.open_connection("127.0.0.1", here.server.port)
            writer.write(
                HELLO
                + frame(frames.HEADERS, frames.END_HEADERS, 1, block)
                + frame(frames.DATA, frames.END_STREAM, 1, asked)
            )
            if not warm:
                await until(lambda: bool(driver.serving))
            writer.write(frames.rst_stream(1, ErrorCode.CANCEL))
            instances = driver.scheduler.instances.values()
            await until(lambda: [each.state for each in instances] == [State.IDLE])
            assert not driver.serving
            writer.close()

    asyncio.run(run())
