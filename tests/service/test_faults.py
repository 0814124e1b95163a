"""What a platform can do wrong, call by call: what the caller hears, and that no slot is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import grpc
import grpc.aio
import pytest

from tests.service.running import META, assign, done, served, until
from tests.service.unsteady import Unsteady
from warmscaler.models.published.fixed import Fixed
from warmscaler.service.live import driver as drivers
from warmscaler.service.live.driver import Driver
from warmscaler.service.live.platform_client import PlatformClient
from warmscaler.service.live.waiting import Refused
from warmscaler.service.persistence.ledger import Ledger, LedgerError
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.proto import scaler_pb2_grpc
from warmscaler.service.scheduler.scheduler import Scheduler
from warmscaler.service.slots import backoff, giving_back, lives
from warmscaler.service.slots.answers import Made, PlatformError
from warmscaler.service.slots.breaker import THRESHOLD, BreakerState
from warmscaler.service.slots.times import StartLimits
from warmscaler.simulator.platform import Fault, Misuse

pytestmark = pytest.mark.usefixtures("transport")

LOST = PlatformError("the reply is lost", retry=True, in_doubt=True)
SHUT = PlatformError("no such memory", retry=False)
BUSY = PlatformError("later", retry=True)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come as fast as they may."""
    monkeypatch.setattr(backoff, "RETRY_FIRST_S", 0.001)
    monkeypatch.setattr(backoff, "RETRY_LAST_S", 0.005)
    monkeypatch.setattr(lives, "LOOK_MS", 10.0)


@dataclass
class Here:
    driver: Driver
    platform: Unsteady
    ledger: Ledger

    async def assign(self, request_id: str, left_s: float | None = None) -> str:
        return await self.driver.assign(request_id, META, lambda: left_s)

    def done(self, instance_id: str, request_id: str) -> None:
        self.driver.idle(ended(instance_id, request_id), pb.Result(status_code=200))


def ended(instance_id: str, request_id: str) -> pb.Assignment:
    return pb.Assignment(request_id=request_id, meta_key="app", instance_id=instance_id)


def on_a_platform(
    tmp_path: Path, test: Callable[[Here], Awaitable[None]], slow_create_s: float = 60.0
) -> None:
    """Runs the test, drains, and looks at what is left."""

    async def run() -> None:
        platform = Unsteady()
        ledger = Ledger(tmp_path / "ledger")
        limits = StartLimits(slow_create_s=slow_create_s)
        driver = Driver(Scheduler(Fixed(60.0)), platform, ledger=ledger, limits=limits)
        driver.recover()
        await test(Here(driver, platform, ledger))
        await driver.drain(5.0)
        assert not platform.live
        assert ledger.count() == 0
        assert not driver.scheduler.instances
        ledger.close()

    asyncio.run(run())


@pytest.mark.parametrize("call", ["create", "init"])
@pytest.mark.parametrize("fault", [LOST, BUSY])
def test_a_start_that_fails_is_tried_again(tmp_path: Path, call: str, fault: PlatformError) -> None:
    async def test(here: Here) -> None:
        here.platform.fail(call, fault, fault)
        instance = await here.assign("r")
        here.done(instance, "r")
        assert len(here.platform.live) == 1

    on_a_platform(tmp_path, test)


@pytest.mark.parametrize("call", ["create", "init"])
def test_a_start_that_is_hopeless_is_refused_at_once(tmp_path: Path, call: str) -> None:
    async def test(here: Here) -> None:
        here.platform.fail(call, SHUT)
        with pytest.raises(Refused, match="no such memory"):
            await here.assign("r")
        await until(lambda: not here.platform.live)
        here.done(await here.assign("r2"), "r2")

    on_a_platform(tmp_path, test)


@pytest.mark.parametrize("call", ["create", "init"])
def test_tries_come_to_an_end(tmp_path: Path, call: str) -> None:
    async def test(here: Here) -> None:
        here.platform.fail(call, *[BUSY] * 5)
        with pytest.raises(Refused, match="later"):
            await here.assign("r")
        await until(lambda: not here.platform.live)

    on_a_platform(tmp_path, test)


def test_no_try_comes_after_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "RETRY_FIRST_S", 3_600.0)
    monkeypatch.setattr(backoff, "RETRY_LAST_S", 3_600.0)

    async def test(here: Here) -> None:
        here.platform.fail("create", BUSY, BUSY)
        with pytest.raises(Refused, match="later"):
            await asyncio.wait_for(here.assign("r", 1_000.0), 30.0)

    on_a_platform(tmp_path, test)


def test_no_try_comes_for_a_caller_without_any_time_left(tmp_path: Path) -> None:
    async def test(here: Here) -> None:
        here.platform.fail("create", BUSY)
        with pytest.raises(Refused, match="later"):
            await here.assign("r", 0.0)

    on_a_platform(tmp_path, test)


def test_a_slot_made_though_it_failed_is_found_again(tmp_path: Path) -> None:
    async def test(here: Here) -> None:
        here.platform.lose_reply = True
        here.platform.fail("create", LOST)
        here.done(await here.assign("r"), "r")
        assert len(here.platform.created) == 1  # the same call, the same slot

    on_a_platform(tmp_path, test)


def test_a_slot_made_though_it_failed_is_given_back(tmp_path: Path) -> None:
    async def test(here: Here) -> None:
        here.platform.lose_reply = True
        here.platform.fail("create", *[LOST] * 5)
        with pytest.raises(Refused):
            await here.assign("r")
        assert len(here.platform.created) == 1
        await until(lambda: not here.platform.live)
        await until(lambda: here.ledger.count() == 0)

    on_a_platform(tmp_path, test)


def test_in_doubt_and_then_put_off(tmp_path: Path) -> None:
    async def test(here: Here) -> None:
        create_slot, calls = here.platform.create_slot, 0

        async def create(request_id: str, memory_mb: int) -> Made:
            nonlocal calls
            calls += 1
            if 1 < calls < 7:
                raise BUSY
            return await create_slot(request_id, memory_mb)

        here.platform.create_slot = create  # type: ignore[method-assign]
        here.platform.lose_reply = True
        here.platform.fail("create", LOST)
        with pytest.raises(Refused):
            await here.assign("r")
        await until(lambda: not here.platform.live)

    on_a_platform(tmp_path, test)


def test_a_late_slot_is_given_back_though_the_ledger_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(here: Here) -> None:
        async def created(request_id: str, slot_id: str) -> None:
            raise LedgerError("full")

        monkeypatch.setattr(here.ledger, "created", created)
        here.platform.lose_reply = True
        here.platform.fail("create", *[LOST] * 5)
        with pytest.raises(Refused):
            await here.assign("r")
        await until(lambda: not here.platform.live)

    on_a_platform(tmp_path, test)


def test_in_doubt_and_then_not_even_asked(tmp_path: Path) -> None:
    async def test(here: Here) -> None:
        here.platform.lose_reply = True
        breakers = here.driver.slots.lives.breakers
        here.platform.fail("create", LOST)
        for _ in range(THRESHOLD - 1):
            now_ms = here.driver.now_ms()
            breakers.create_failed(now_ms, (META.key, META.memory_in_mb), BUSY, now_ms)
        with pytest.raises(Refused):
            await here.assign("r", 0.2)
        assert breakers.held_off == 1
        assert breakers.platform.state is BreakerState.CLOSED
        await until(lambda: not here.platform.live)
        await until(lambda: here.ledger.count() == 0)

    on_a_platform(tmp_path, test)


def test_a_slot_that_comes_too_late_is_given_back(tmp_path: Path) -> None:
    async def test(here: Here) -> None:
        here.platform.hold("create")
        waiting = asyncio.create_task(here.assign("r", 2.0))
        await until(lambda: len(here.platform.created) >= 2)  # a second try, under another name
        here.platform.let_go()
        here.done(await waiting, "r")
        await until(lambda: len(here.platform.live) == 1)

    on_a_platform(tmp_path, test, slow_create_s=0.05)


@pytest.mark.parametrize("call", ["create", "init"])
def test_a_start_whose_caller_is_gone_serves_the_next(tmp_path: Path, call: str) -> None:
    async def test(here: Here) -> None:
        here.platform.hold(call)
        waiting = asyncio.create_task(here.assign("r"))
        await until(lambda: here.platform.held > 0)
        waiting.cancel()
        await asyncio.sleep(0)
        here.platform.let_go()
        await until(lambda: any(here.driver.scheduler.idle_instances()))
        here.done(await here.assign("r2"), "r2")
        assert len(here.platform.created) == 1

    on_a_platform(tmp_path, test)


def test_a_slot_is_given_back_until_the_platform_has_it(tmp_path: Path) -> None:
    async def test(here: Here) -> None:
        instance = await here.assign("r")
        here.platform.fail("destroy", *[LOST, BUSY, SHUT] * 4)
        mine = pb.Assignment(request_id="r", meta_key="app", instance_id=instance)
        here.driver.idle(mine, pb.Result(status_code=500, need_destroy=True))
        await until(lambda: not here.platform.live)
        assert here.platform.destroys == 13
        await until(lambda: here.ledger.count() == 0)

    on_a_platform(tmp_path, test)


def test_a_platform_that_is_down_is_not_hammered_with_slots_to_give_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(giving_back, "RETRIES_AT_ONCE", 2)
    monkeypatch.setattr(backoff, "RETRY_LAST_S", 0.1)
    down = PlatformError("nobody there", retry=True, unreachable=True)

    async def test(here: Here) -> None:
        instances = [await here.assign(f"r{number}") for number in range(50)]
        here.platform.fail("destroy", *[down] * 1_000)
        for number, instance in enumerate(instances):
            mine = pb.Assignment(request_id=f"r{number}", meta_key="app", instance_id=instance)
            here.driver.idle(mine, pb.Result(status_code=500, need_destroy=True))
        await asyncio.sleep(0.5)
        assert len(here.platform.live) == 50
        assert here.platform.destroys < 75  # each once, and then a few at a time
        here.platform.faults["destroy"].clear()  # it comes back
        await until(lambda: not here.platform.live)

    on_a_platform(tmp_path, test)


def test_one_slot_that_hangs_does_not_keep_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(giving_back, "RETRIES_AT_ONCE", 1)

    async def test(here: Here) -> None:
        instances = [await here.assign(f"r{number}") for number in range(5)]
        hangs = min(here.platform.live)
        destroy_slot = here.platform.destroy_slot

        async def destroy(request_id: str, slot_id: str, reason: str) -> None:
            if slot_id == hangs and len(here.platform.live) > 1:
                raise PlatformError("DEADLINE_EXCEEDED", retry=True, unreachable=True)
            await destroy_slot(request_id, slot_id, reason)

        monkeypatch.setattr(here.platform, "destroy_slot", destroy)
        for number, instance in enumerate(instances):
            mine = pb.Assignment(request_id=f"r{number}", meta_key="app", instance_id=instance)
            here.driver.idle(mine, pb.Result(status_code=500, need_destroy=True))
        await until(lambda: not here.platform.live)

    on_a_platform(tmp_path, test)


def test_the_pause_after_hours_of_failures() -> None:
    pause_ms = backoff.backoff_ms(1_000_000, Random(0).random)
    assert 0.0 < pause_ms <= 1000.0 * backoff.RETRY_LAST_S


def test_a_platform_that_is_down_is_not_hammered(tmp_path: Path) -> None:
    async def test(here: Here) -> None:
        down = PlatformError("nobody there", retry=True, in_doubt=False, unreachable=True)
        here.platform.fail("create", *[down] * 200)
        answers = await asyncio.gather(
            *(here.assign(f"r{number}", 0.3) for number in range(40)), return_exceptions=True
        )
        assert all(isinstance(answer, Refused) for answer in answers)
        assert 200 - len(here.platform.faults["create"]) < 40 * 2
        here.platform.faults["create"].clear()
        here.done(await here.assign("r", 60.0), "r")  # it comes back
        assert here.driver.slots.breaker.state is BreakerState.CLOSED

    on_a_platform(tmp_path, test)


def test_a_ledger_that_fails_leaves_the_breaker_its_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(here: Here) -> None:
        breaker = here.driver.slots.breaker
        for _ in range(THRESHOLD):
            breaker.failed(here.driver.now_ms())
        await asyncio.sleep(breaker.wait_ms(here.driver.now_ms()) / 1000.0)
        with monkeypatch.context() as during:
            during.setattr(here.ledger, "intend", full)
            with pytest.raises(Refused, match="the ledger"):
                await here.assign("r")
        here.done(await here.assign("s"), "s")
        assert breaker.state is BreakerState.CLOSED

    async def full(*row: object) -> None:
        raise LedgerError("full")

    on_a_platform(tmp_path, test)


# On the wire


class Odd(scaler_pb2_grpc.PlatformServicer):
    """Answers Ok and says nothing, or says no."""

    reply = pb.CreateSlotReply()

    async def CreateSlot(self, request: object, context: object) -> pb.CreateSlotReply:  # noqa: N802
        return self.reply


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (pb.CreateSlotReply(), "Ok without a slot"),
        (pb.CreateSlotReply(status=pb.InternalError, error_message="no\nroom"), "no room"),
        (pb.CreateSlotReply(status=pb.NotFound, error_message="what?"), "NotFound"),
        (pb.CreateSlotReply(status=99), "99"),  # type: ignore[arg-type]
    ],
)
def test_an_answer_that_is_none(reply: pb.CreateSlotReply, says: str) -> None:
    async def run() -> None:
        odd = Odd()
        odd.reply = reply
        server = grpc.aio.server()
        scaler_pb2_grpc.add_PlatformServicer_to_server(odd, server)  # type: ignore[no-untyped-call]
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        client = PlatformClient(f"127.0.0.1:{port}")
        with pytest.raises(PlatformError, match=says) as caught:
            await client.create_slot("r", 128)
        assert "\n" not in str(caught.value)
        await client.close()
        await server.stop(None)

    asyncio.run(run())


def test_an_answer_that_cannot_be_read_is_an_error_like_others() -> None:
    async def garbled(request: bytes, context: object) -> bytes:
        return b"\xff"

    async def run() -> None:
        server = grpc.aio.server()
        calls = ("CreateSlot", "Init", "DestroySlot")
        handlers = {call: grpc.unary_unary_rpc_method_handler(garbled) for call in calls}
        name = pb.DESCRIPTOR.services_by_name["Platform"].full_name
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, handlers)])
        client = PlatformClient(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
        asked = (
            client.create_slot("r", 128),
            client.init("r", "s", "i", META),
            client.destroy_slot("r", "s", "why"),
        )
        for each in asked:
            with pytest.raises(PlatformError, match="cannot be read") as failed:
                await each
            assert failed.value.retry
            assert failed.value.in_doubt
        await client.close()
        await server.stop(None)

    asyncio.run(run())


@pytest.mark.parametrize("answers", [True, False])
def test_a_drain_gives_back_what_is_still_in_use_all_at_once(
    answers: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(drivers, "LAST_DESTROY_S", 2.0 if answers else 0.1)

    async def run() -> None:
        platform = Unsteady()
        driver = Driver(Scheduler(Fixed(60.0)), platform)
        for number in range(5):
            await driver.assign(f"r{number}", META)
        platform.hold("destroy")
        draining = asyncio.create_task(driver.drain(0.0))
        await until(lambda: platform.held == 5)
        if answers:
            platform.let_go()
        await draining
        assert len(platform.live) == (0 if answers else 5)

    asyncio.run(run())
    assert ("5 slots not given back" in caplog.text) != answers


@pytest.mark.parametrize("held", ["create", "init"])
def test_a_drain_ends_what_is_being_started(held: str) -> None:
    async def run() -> None:
        platform = Unsteady()
        driver = Driver(Scheduler(Fixed(60.0)), platform)
        platform.hold(held)
        waits = asyncio.create_task(driver.assign("r", META))
        await until(lambda: platform.held == 1)
        draining = asyncio.create_task(driver.drain(0.0))
        with pytest.raises(Refused, match="shutting down"):
            await waits
        platform.let_go()
        await draining
        assert platform.created
        assert not platform.live

    asyncio.run(run())


def test_an_idle_while_a_drain_gives_its_slot_back(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        platform = Unsteady()
        driver = Driver(Scheduler(Fixed(60.0)), platform)
        instance = await driver.assign("r", META)
        platform.hold("destroy")
        draining = asyncio.create_task(driver.drain(0.0))
        await until(lambda: platform.held == 1)
        driver.idle(ended(instance, "r"), pb.Result(status_code=200))
        await asyncio.sleep(0.01)
        platform.let_go()
        await draining
        assert platform.destroys == 1

    asyncio.run(run())
    assert not caplog.text


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INVALID_ARGUMENT,
    ],
)
def test_init_fails_for_good(code: grpc.StatusCode, after: bool) -> None:
    async def run() -> None:
        async with served() as here:
            fault = Fault(code, after=after)
            here.platform.faults = lambda call: fault if isinstance(call, pb.InitRequest) else None
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await here.stub.Assign(assign(), timeout=30.0)
            assert refused.value.code() is grpc.StatusCode.INTERNAL
            assert f"Init failed: {code.name}" in (refused.value.details() or "")
            here.platform.faults = lambda _: None
            await until(lambda: here.platform.live_slots == 0)
            reply = await here.stub.Assign(assign("r2"), timeout=30.0)
            await here.stub.Idle(done(reply.assigment))
            assert here.platform.misuse == Misuse()

    asyncio.run(run())
