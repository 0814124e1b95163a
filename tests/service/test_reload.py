"""Following the store: promotions and rollbacks are taken up, bad models refused, nothing forgotten."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc.aio
import numpy as np
import pytest

from warmscaler.models.artifact.folder import MANIFEST, write_artifact
from warmscaler.models.artifact.followed_folder import FollowedFolder
from warmscaler.models.artifact.store import Store
from warmscaler.models.learned.habits import MEMORY_GAPS, PERIODS_MS, AppHabits, LevelHabits, Model
from warmscaler.models.learned.policy import Learned
from warmscaler.models.policy import Pool
from warmscaler.service.front.server import ScalerServer
from warmscaler.service.live.serving_policy import choose_policy, follow_store, mend_later
from warmscaler.service.persistence.follow import Follower, Source
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.proto import scaler_pb2_grpc
from warmscaler.service.scheduler.scheduler import Scheduler
from warmscaler.simulator.platform import SimulatedPlatform

pytestmark = pytest.mark.usefixtures("transport")

ABOUT = {"created": "", "trained_on": {"name": "t", "last_arrival_ms": 1_000}}
SOON_S = 10.0


def habits(gaps_ms: list[float]) -> AppHabits:
    level = LevelHabits(np.array(gaps_ms), np.zeros(len(gaps_ms)), 40.0, 0.0)
    return AppHabits(1_000.0, (level,))


def model(price: float, gaps_ms: list[float] | None = None) -> Model:
    return Model(price_s_per_gb_s=price, apps={"nodes": habits(gaps_ms or [30_000.0] * 5)})


def damage(folder: Path, version: str) -> None:
    (folder / "versions" / version / "gaps_ms.npy").write_bytes(b"\x93NUMPY")


def promote_damaged(store: Store, version: str) -> None:
    """What `promote` would refuse: the files are damaged after it looked at them."""
    assert store.folder is not None
    sha256, pointer = store.manifest(version)["sha256"], store.pointer()
    assert pointer is not None
    damage(store.folder, version)
    store._point(version, sha256, (*pointer.history, version))


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def with_server(
    source: Source,
    work: Callable[[Follower, ScalerServer, grpc.aio.Channel], Awaitable[None]],
    *,
    once: bool = False,
) -> None:
    async def run() -> None:
        platform = SimulatedPlatform({"nodes": 5.0}, create_ms=5.0)
        await platform.start()
        follower = Follower(source, poll_s=0.02, once=once)
        server = ScalerServer(follower.first(), f"127.0.0.1:{platform.port}", "127.0.0.1:0")
        await server.start()
        follower.start(server.driver.scheduler)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            await work(follower, server, channel)
        follower.close()
        await server.stop(1.0)
        await platform.stop()

    asyncio.run(run())


async def call(channel: grpc.aio.Channel, request_id: str) -> None:
    stub = scaler_pb2_grpc.ScalerStub(channel)  # type: ignore[no-untyped-call]
    meta = pb.Meta(key="nodes", runtime="go", memory_in_mb=256)
    reply = await stub.Assign(pb.AssignRequest(request_id=request_id, meta_data=meta))
    await stub.Idle(pb.IdleRequest(assigment=reply.assigment, result=pb.Result(status_code=200)))


def price(server: ScalerServer) -> float:
    policy = server.driver.scheduler.policy
    assert isinstance(policy, Learned)
    return policy.price


def test_promotions_and_rollbacks_are_taken_up_and_bad_models_refused(tmp_path: Path) -> None:
    store = Store(str(tmp_path))

    async def work(follower: Follower, server: ScalerServer, channel: grpc.aio.Channel) -> None:
        assert follower.version is None
        assert follower.problem is not None
        await call(channel, "r-1")
        first, second, bad = (store.add(model(n), ABOUT) for n in (0.01, 0.02, 0.03))
        store.promote(first)
        await until(lambda: follower.version == first)
        assert price(server) == 0.01
        pool = server.driver.scheduler.pools["nodes"]
        await until(lambda: pool.policy._price.s_per_gb_s == 0.01)  # type: ignore[attr-defined]
        store.promote(second)
        await until(lambda: follower.version == second)
        promote_damaged(store, bad)
        await until(lambda: follower.refusals == 1)
        assert price(server) == 0.02
        await call(channel, "r-2")
        store.rollback()
        await until(lambda: follower.problem is None)
        store.rollback()
        await until(lambda: follower.version == first)
        await call(channel, "r-3")
        assert pool is server.driver.scheduler.pools["nodes"]

    with_server(Store(str(tmp_path)), work)


def test_starts_with_the_newest_version_that_is_fit(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    first, second = (store.add(model(n), ABOUT) for n in (0.01, 0.02))
    store.promote(first)
    store.promote(second)
    damage(tmp_path, second)
    follower = Follower(store)
    assert follower.first().price == 0.01
    assert follower.version == first
    assert follower.problem is not None
    damage(tmp_path, first)
    follower = Follower(store)
    assert follower.first().model.apps == {}
    assert follower.version is None


def test_a_model_serves_until_the_store_has_one(tmp_path: Path) -> None:
    store, folder = Store(str(tmp_path / "store")), tmp_path / "model"
    write_artifact(folder, model(0.07), ABOUT)
    chosen, follower = follow_store(store.location, folder, strict=True)
    assert isinstance(chosen.policy, Learned)
    assert (chosen.policy.price, chosen.problem, follower.problem) == (0.07, None, None)
    assert follower.about() == chosen.about
    assert chosen.about["trained_on"] == "t"
    version = store.add(model(0.02), ABOUT)
    store.promote(version)
    assert follow_store(store.location, folder)[1].version == version
    damage(tmp_path / "store", version)
    chosen, _ = follow_store(store.location, folder)
    assert chosen.about["trained_on"] == "t"
    assert chosen.problem is not None


def level_of(pool: Pool) -> tuple[list[float], list[float]]:
    """Idle times and beginnings of an app's first level, oldest first."""
    level = pool.policy._levels[0]  # type: ignore[attr-defined]
    size = len(level.gaps)
    order = [at % MEMORY_GAPS for at in range(level.seen - size, level.seen)]
    return [level.gaps[at] for at in order], [level.lefts[at] for at in order]


def use(scheduler: Scheduler, at_ms: float, times: int, every_ms: float) -> float:
    """Requests of no waiting at all; returns when the last was done."""
    for number in range(times):
        actions = scheduler.arrival(at_ms, f"{at_ms}", "nodes", 256)
        for action in actions:
            instance = getattr(action, "instance", None)
            if type(action).__name__ == "CreateSlot" and instance is not None:
                scheduler.slot_created(at_ms, instance.id)
                scheduler.instance_ready(at_ms, instance.id)
        for instance in list(scheduler.instances.values()):
            scheduler.idle(at_ms + 10.0, instance.id)
        at_ms += every_ms * (number < times - 1)
    return at_ms + 10.0


@pytest.mark.parametrize("trained_until", ["before", "after"])
def test_what_was_learned_online_is_kept_and_not_counted_twice(trained_until: str) -> None:
    start_ms = 1.7e12
    old = Learned(model(0.04, [7_000.0] * 20))
    scheduler = Scheduler(old)
    done_ms = use(scheduler, start_ms, 11, 60_000.0)
    pool = scheduler.pools["nodes"]
    gaps, lefts = level_of(pool)
    assert gaps == [7_000.0] * 20 + [59_990.0] * 10
    assert max(lefts[:20]) <= 0.0 < lefts[20]
    new = Learned(model(0.02, [9_000.0] * 30))
    new.adopt(pool, start_ms - 1.0 if trained_until == "before" else done_ms)
    gaps, lefts = level_of(pool)
    old_news = 30 if trained_until == "before" else 20
    assert gaps == [9_000.0] * old_news + [59_990.0] * 10
    assert lefts[-10:] == [start_ms + 10.0 + 60_000.0 * n for n in range(10)]
    assert all(-PERIODS_MS[-1] <= left <= 0.0 for left in lefts[:-10])
    # It goes on where it was: the gap after the hand-over is seen too.
    use(scheduler, done_ms + 59_990.0, 2, 60_000.0)
    assert level_of(pool)[0][-2:] == [59_990.0, 59_990.0]
    assert pool.policy._hold_cost == 0.02 * 0.25  # type: ignore[attr-defined]


def test_a_full_memory_keeps_the_newest(tmp_path: Path) -> None:
    scheduler = Scheduler(Learned(model(0.04)))
    done_ms = use(scheduler, 1.7e12, 300, 60_000.0)
    pool = scheduler.pools["nodes"]
    Learned(model(0.04, [9_000.0] * 30)).adopt(pool, 0.0)
    gaps, lefts = level_of(pool)
    assert gaps == [59_990.0] * MEMORY_GAPS
    assert lefts == sorted(lefts)
    use(scheduler, done_ms + 123_000.0, 1, 0.0)
    assert level_of(pool)[0] == [59_990.0] * (MEMORY_GAPS - 1) + [123_000.0]


def test_a_model_folder_copied_slowly_is_taken_up_once_it_is_whole(tmp_path: Path) -> None:
    """Its manifest comes first and the arrays long after: longer than the start waited for them."""
    whole, folder = tmp_path / "whole", tmp_path / "model"
    write_artifact(whole, model(0.02), ABOUT)
    folder.mkdir()

    async def work(follower: Follower, server: ScalerServer, channel: grpc.aio.Channel) -> None:
        await call(channel, "r-1")
        shutil.copy(whole / MANIFEST, folder)
        await until(lambda: follower.refusals == 1)
        for path in sorted(whole.glob("*.npy")):
            shutil.copy(path, folder)
        follower._refused = (None, 0.0)  # as if RETRY_S had passed
        await until(lambda: follower.version is not None)
        assert follower.problem is None
        assert price(server) == 0.02
        await call(channel, "r-2")

    with_server(FollowedFolder(folder), work, once=True)
    chosen = choose_policy("learned", tmp_path / "none")
    assert mend_later(chosen, tmp_path / "none") is not None
    assert mend_later(choose_policy("learned", whole), whole) is None
