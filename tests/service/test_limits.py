"""What one scaler takes on at most, and who gets the room there is."""

from __future__ import annotations

import asyncio
from random import Random

import grpc.aio
import pytest

from tests.service.running import META, assign, done, served, until
from tests.service.world import World
from warmscaler.models.learned.policy import Learned
from warmscaler.models.published.fixed import Fixed
from warmscaler.service.front.transport import TransportKind
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.scheduler.limits import Limits

pytestmark = pytest.mark.usefixtures("transport")

MB = 128


def serve(world: World) -> None:
    """The platform answers all it was asked."""
    while world.creating or world.starting or world.destroying:
        for each in list(world.creating):
            world.created(each)
        for each in list(world.starting):
            world.ready(each)
        for each in list(world.destroying):
            world.destroyed(each)


def test_a_storm_of_one_app_does_not_starve_others() -> None:
    world = World(Fixed(60.0), Limits(slots=8), apps=5)
    for _ in range(500):
        world.arrive(0, MB)
    serve(world)
    assert world.assigned == {"app-0": 8}
    others = [world.arrive(app, MB) for app in (1, 2, 3, 4)]
    random, before = Random(1), world.assigned["app-0"]
    while any(each in world.open for each in others):
        world.finish(random.choice(list(world.serving)))
        serve(world)
        world.check()
    assert world.assigned["app-0"] - before <= 8  # they waited for one request each, not for 500
    world.end()
    assert world.answers == {"assigned": 504}


@pytest.mark.parametrize("bad", [1, 5])
def test_starts_that_hang_leave_room_for_the_starts_of_others(bad: int) -> None:
    world = World(Fixed(60.0), Limits(starting=100), apps=20)
    for number in range(100 * bad):
        world.arrive(number % bad, MB)
    hanging = len(world.creating)
    assert 80 <= hanging < 100
    for app in range(bad, 20):
        request = world.arrive(app, MB)
        world.created(list(world.creating)[-1])
        world.ready(list(world.starting)[-1])
        assert request in world.serving.values()
    assert len(world.creating) == hanging


def test_requests_that_hang_leave_room_for_those_of_others_to_wait() -> None:
    world = World(Fixed(60.0), Limits(waiting=100, slots_per_app=1), apps=10)
    for number in range(500):
        world.arrive(number % 5, MB)
    hanging = world.scheduler.waiting
    assert 80 <= hanging < 100
    request = world.arrive(9, MB)
    assert request in world.open
    world.created(list(world.creating)[-1])
    world.ready(list(world.starting)[-1])
    assert request in world.serving.values()


def test_a_start_that_hangs_keeps_nobody_from_the_room_that_is_left() -> None:
    world = World(Fixed(60.0), Limits(memory_mb=9_000), apps=6)
    for _ in range(3):
        world.arrive(0, 8_192)
    hanging = dict(world.creating)
    assert len(hanging) == 1
    for _ in range(3):
        for app in range(1, 6):
            request = world.arrive(app, MB)
            [new] = set(world.creating) - set(hanging)
            world.created(new)
            world.ready(new)
            assert request in world.serving.values()
            world.finish(new)
            for each in list(world.destroying):
                world.destroyed(each)
    assert world.creating == hanging


def test_two_storms_get_an_equal_share() -> None:
    world = World(Fixed(60.0), Limits(slots=8), apps=2)
    for _ in range(400):
        world.arrive(0, MB)
    serve(world)
    for _ in range(400):
        world.arrive(1, MB)
    shares = []
    for _ in range(200):
        world.pass_time(10.0)
        world.finish(next(iter(world.serving)))
        serve(world)
        shares.append(world.scheduler.pools["app-1"].busy)
    assert shares[-1] == 4
    assert min(shares[20:]) >= 3
    world.end()


def test_an_app_alone_may_have_it_all() -> None:
    world = World(Fixed(60.0), Limits(slots=8), apps=2)
    world.arrive(1, MB)
    serve(world)
    for each in list(world.serving):
        world.finish(each)
    for _ in range(8):
        world.arrive(0, MB)
    serve(world)
    assert world.assigned == {"app-0": 8, "app-1": 1}  # the idle one made room
    world.end()


def test_room_that_comes_free_is_for_who_waits_and_not_for_who_has_a_start() -> None:
    world = World(Fixed(60.0), Limits(slots=2), apps=2)
    other = world.arrive(1, MB)
    serve(world)
    first = world.arrive(0, MB)  # its start is under way all the time
    second = world.arrive(0, MB)  # no room
    assert len(world.creating) == 1
    world.finish(next(iter(world.serving)), bad=True)
    world.destroyed(next(iter(world.destroying)))
    assert len(world.creating) == 2
    world.check()
    assert {first, second} == set(world.open)
    assert other not in world.open
    world.end()


@pytest.mark.parametrize("gone", [True, False])
def test_room_that_is_not_wanted_any_more_is_for_the_next(gone: bool) -> None:
    world = World(Fixed(60.0), Limits(memory_mb=1_000), apps=3)
    world.arrive(0, 300)
    world.arrive(1, 600)
    serve(world)
    first = world.arrive(0, 300)  # no room
    world.arrive(2, 100)  # behind it
    assert not world.creating
    if gone:
        world.give_up(first)
    else:
        world.finish(next(each for each, request in world.serving.items() if request == 1))
    world.check()
    assert len(world.creating) == 1
    world.end()


def test_an_app_deployed_anew_wants_room_for_its_new_size() -> None:
    world = World(Fixed(60.0), Limits(memory_mb=1_000), apps=3)
    world.arrive(1, 700)
    world.arrive(2, 200)
    serve(world)
    world.arrive(0, 200)  # no room
    world.arrive(0, 410)
    for each in list(world.serving):
        world.finish(each)
    serve(world)
    assert not world.open
    world.check()
    world.end()


def test_small_apps_do_not_keep_room_from_a_large_one() -> None:
    world = World(Fixed(60.0), Limits(memory_mb=512), apps=9)
    for app in range(1, 5):
        world.arrive(app, 128)
    serve(world)
    large = world.arrive(0, 512)
    while large in world.open:
        world.finish(next(iter(world.serving)))
        serve(world)
        world.arrive(5 + world.requests % 4, 128)
        world.check()
        assert world.requests < 50
    world.end()


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        (Limits(waiting=3), "3 requests wait"),
        (Limits(waiting_per_app=3), "3 requests of this app"),
    ],
)
def test_beyond_the_waiting_room_is_throttle_at_once(limits: Limits, says: str) -> None:
    async def run() -> None:
        async with served(Learned(), create_ms=500.0, limits=limits) as here:
            calls = [asyncio.create_task(_call(here.stub, f"r{n}")) for n in range(3)]
            await until(lambda: here.server.driver.waiting == 3)
            refused = await here.stub.Assign(assign("one more"))
            assert refused.status == pb.Throttle
            assert says in refused.error_message
            for reply in await asyncio.gather(*calls):
                assert reply.status == pb.Ok
                await here.stub.Idle(done(reply.assigment))
            reply = await here.stub.Assign(assign("later"))
            assert reply.status == pb.Ok
            await here.stub.Idle(done(reply.assigment))

    asyncio.run(run())


@pytest.mark.parametrize(
    ("limits", "meta", "request_id"),
    [
        (Limits(memory_mb=100), META, "r"),
        (Limits(key_length=10), pb.Meta(key="k" * 11, memory_in_mb=128), "r"),
        (Limits(key_length=10), META, "r" * 11),
        (Limits(key_length=10), pb.Meta(key="k", runtime="r" * 11, memory_in_mb=128), "r"),
    ],
)
def test_what_is_too_large_is_throttle(limits: Limits, meta: pb.Meta, request_id: str) -> None:
    async def run() -> None:
        async with served(limits=limits) as here:
            reply = await here.stub.Assign(assign(request_id, meta))
            assert reply.status == pb.Throttle
            assert not here.platform.slots
            assert not here.server.driver.waiting

    asyncio.run(run())


def test_of_an_app_no_more_is_kept_than_its_limits_allow() -> None:
    """Whatever a caller packs into its message, once the app is known as well."""

    async def run() -> None:
        async with served(limits=Limits(key_length=10)) as here:
            unknown_field = b"\x7a\x80\x08" + b"x" * 1024  # number 15
            meta = pb.Meta.FromString(META.SerializeToString() + unknown_field)
            replies = [await here.stub.Assign(assign(f"r{n}", meta)) for n in range(2)]
            assert here.server.driver._metas["app"] == META
            assert here.server.driver._metas["app"].ByteSize() == META.ByteSize()
            longer = pb.Meta(key="app", runtime="r" * 11, memory_in_mb=128)
            assert (await here.stub.Assign(assign("longer", longer))).status == pb.Throttle
            assert here.server.driver._metas["app"] == META
            for reply in replies:
                await here.stub.Idle(done(reply.assigment))

    asyncio.run(run())


def test_apps_beyond_the_most_are_throttle_while_all_are_in_use() -> None:
    async def run() -> None:
        async with served(limits=Limits(apps=1)) as here:
            other = assign("other", pb.Meta(key="other", memory_in_mb=128))
            reply = await here.stub.Assign(assign())
            assert (await here.stub.Assign(other)).status == pb.Throttle
            await here.stub.Idle(done(reply.assigment, need_destroy=True))
            await until(lambda: not here.server.driver.scheduler.instances)
            second = await here.stub.Assign(other)
            assert second.status == pb.Ok
            await here.stub.Idle(done(second.assigment))

    asyncio.run(run())


def test_calls_beyond_those_pending_are_ended(transport: TransportKind) -> None:
    """A burst larger than the scaler is told to hold: the rest is refused, and it serves on."""
    code = {
        TransportKind.OWN: grpc.StatusCode.RESOURCE_EXHAUSTED,
        TransportKind.GRPCIO: grpc.StatusCode.CANCELLED,
    }[transport]

    async def run() -> None:
        async with served(pending_calls=4) as here:
            calls = (_call(here.stub, f"r{number}") for number in range(300))
            answers = await asyncio.gather(*calls, return_exceptions=True)
            shed = [each for each in answers if isinstance(each, grpc.aio.AioRpcError)]
            assert shed
            assert {each.code() for each in shed} == {code}
            for each in answers:
                if isinstance(each, pb.AssignReply):
                    await here.stub.Idle(done(each.assigment))
            reply = await here.stub.Assign(assign("later"))
            await here.stub.Idle(done(reply.assigment))

    asyncio.run(run())


async def _call(stub: object, request_id: str) -> pb.AssignReply:
    reply: pb.AssignReply = await stub.Assign(assign(request_id))  # type: ignore[attr-defined]
    return reply
