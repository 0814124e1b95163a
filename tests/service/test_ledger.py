"""The ledger on disk: what a killed process leaves, and what the next one makes of it."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from math import inf
from pathlib import Path
from random import Random

import pytest

from tests.service.running import META, until
from tests.service.unsteady import Unsteady
from warmscaler.models.learned.policy import Learned
from warmscaler.models.policy import State
from warmscaler.models.published.fixed import Fixed
from warmscaler.service.live.driver import Driver, UnknownInstance
from warmscaler.service.persistence import learning
from warmscaler.service.persistence import ledger as ledger_module
from warmscaler.service.persistence.ledger import (
    IDLE,
    LEAVING,
    STARTING,
    Ledger,
    LedgerError,
    request_mark,
)
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.scheduler.scheduler import Scheduler
from warmscaler.service.slots import lives
from warmscaler.service.slots.times import StartLimits

APP = ("app", "go", 60, 128)


def written(path: Path, write: Callable[[Ledger], Awaitable[None]], *, sync: bool = False) -> None:
    """Opens the ledger, writes, closes."""

    async def run() -> None:
        ledger = Ledger(path, sync=sync)
        await write(ledger)
        ledger.close()

    asyncio.run(run())


def test_a_row_from_intent_to_end(tmp_path: Path) -> None:
    path = tmp_path / "ledger"

    async def write(ledger: Ledger) -> None:
        for name in ("a", "b", "c", "d", "e"):
            await ledger.intend(name, f"i-{name}", *APP)
        for name in ("b", "c", "d", "e"):
            await ledger.created(name, f"slot-{name}")
        ledger.idle("c")
        ledger.busy("d", "request")
        ledger.gone("e")
        assert ledger.count() == 4

    written(path, write)
    ledger = Ledger(path)
    assert [(row.request_id, row.slot_id, row.mark) for row in ledger.earlier] == [
        ("a", None, STARTING),
        ("b", "slot-b", STARTING),
        ("c", "slot-c", IDLE),
        ("d", "slot-d", request_mark("request")),
    ]
    first = ledger.earlier[0]
    assert (first.instance_id, first.key, first.runtime) == ("i-a", "app", "go")
    assert (first.timeout_s, first.memory_mb) == (60, 128)
    ledger.close()


def test_a_place_is_used_again(tmp_path: Path) -> None:
    async def write(ledger: Ledger) -> None:
        for turn in range(1_000):
            await ledger.intend(f"r{turn}", f"i{turn}", *APP)
            await ledger.created(f"r{turn}", f"s{turn}")
            ledger.leaving(f"r{turn}")
            ledger.gone(f"r{turn}")
        await ledger.intend("last", "i", "key \x00 é", "", 0, 1 << 63)

    written(tmp_path / "ledger", write)
    ledger = Ledger(tmp_path / "ledger")
    [row] = ledger.earlier
    assert (row.place, row.key, row.memory_mb) == (0, "key \x00 é", 1 << 63)
    ledger.close()


def test_one_scaler_at_a_time(tmp_path: Path) -> None:
    first = Ledger(tmp_path / "ledger")
    with pytest.raises(LedgerError, match="another scaler uses this ledger"):
        Ledger(tmp_path / "ledger")
    first.close()
    Ledger(tmp_path / "ledger").close()


def test_what_is_no_ledger(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_bytes(b"something else entirely" * 100)
    with pytest.raises(LedgerError, match="not a ledger"):
        Ledger(tmp_path / "ledger")
    with pytest.raises(LedgerError, match="not a ledger"):
        Ledger(tmp_path / "no" / "such" / "folder")


def test_of_another_boot_nothing_is_idle(tmp_path: Path) -> None:
    async def write(ledger: Ledger) -> None:
        await ledger.intend("r", "i", *APP)
        await ledger.created("r", "slot")
        ledger.idle("r")
        ledger._database.execute("UPDATE about SET value = 'older' WHERE name = 'boot'")

    written(tmp_path / "ledger", write)
    ledger = Ledger(tmp_path / "ledger")
    assert [row.mark for row in ledger.earlier] == [LEAVING]
    ledger.close()


def test_a_full_disk_costs_no_place_and_is_told(tmp_path: Path) -> None:
    async def write(ledger: Ledger) -> None:
        told: list[str | None] = []
        ledger.on_problem = told.append
        pages = ledger._database.execute("PRAGMA page_count").fetchone()[0]
        ledger._database.execute(f"PRAGMA max_page_count = {pages}")
        long = ("app", "x" * 10_000, 60, 128)
        for turn in range(3):
            with pytest.raises(LedgerError, match=r"cannot be written: .* full"):
                await ledger.intend(f"r{turn}", f"i{turn}", *long)
        assert ledger.count() == 0
        assert [str(each)[-4:] for each in told] == ["full"]
        ledger._database.execute("PRAGMA max_page_count = 1000000")
        await ledger.intend("r", "i", *long)
        await ledger.flush()
        assert ledger._places == {"r": 0}
        assert told[1:] == [None]

    written(tmp_path / "ledger", write)


def test_a_slot_gone_while_the_ledger_cannot_be_written_has_no_row(tmp_path: Path) -> None:
    path = tmp_path / "ledger"

    async def write(ledger: Ledger) -> None:
        for name in ("a", "b", "c"):
            await ledger.intend(name, f"i-{name}", *APP)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for name in ("a", "b"):
            ledger.gone(name)
            with pytest.raises(LedgerError, match="locked"):
                await ledger.flush()
        other.close()
        await ledger.intend("d", "i-d", *APP)  # in the place of one that is gone

    written(path, write)
    ledger = Ledger(path)
    assert {row.request_id for row in ledger.earlier} == {"c", "d"}
    ledger.close()


@pytest.mark.parametrize("sync", [False, True])
def test_event_loop_and_thread_write_in_the_order_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: bool
) -> None:
    monkeypatch.setattr(ledger_module, "CHECKPOINT_EVERY", 7)
    random = Random(2)
    expected: dict[str, str | None] = {}
    learned: dict[str, bytes] = {}

    async def write(ledger: Ledger) -> None:
        for turn in range(400):
            name = str(turn)
            starting = asyncio.ensure_future(ledger.intend(name, f"i-{name}", *APP))
            if random.random() < 0.3:
                key = f"app-{turn % 5}"
                learned[key] = name.encode()
                ledger.save_learned(turn, key, learned[key])
            await starting
            expected[name] = None
            some = random.choice(list(expected))
            if random.random() < 0.5:
                expected[some] = f"slot-{name}"
                await ledger.created(some, f"slot-{name}")
            if random.random() < 0.9:
                del expected[some]
                ledger.gone(some)
            if random.random() < 0.1:
                await asyncio.sleep(0.001)

    written(tmp_path / "ledger", write, sync=sync)
    ledger = Ledger(tmp_path / "ledger")
    assert {row.request_id: row.slot_id for row in ledger.earlier} == expected
    assert ledger.learned(inf, 99) == learned
    ledger.close()


def test_the_log_on_disk_stays_small(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    sizes = []

    async def write(ledger: Ledger) -> None:
        for turn in range(10_000):
            await ledger.intend(f"r{turn}", f"i{turn}", *APP)
            ledger.gone(f"r{turn}")
            if turn % 100 == 0:
                sizes.append(os.stat(f"{path}-wal").st_size)

    written(path, write)
    assert max(sizes) <= 2 * max(sizes[:10])


def test_a_disk_that_stands_still_holds_up_starts_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = threading.Event()
    checkpoint = Ledger._checkpoint

    def slow(ledger: Ledger) -> None:
        if threading.current_thread().name == "ledger":
            assert moves.wait(10.0)
        checkpoint(ledger)

    monkeypatch.setattr(ledger_module, "CHECKPOINT_EVERY", 1)
    monkeypatch.setattr(Ledger, "_checkpoint", slow)

    async def write(ledger: Ledger) -> None:
        await ledger.intend("a", "i-a", *APP)
        await ledger.created("a", "slot-a")  # and the checkpoint that is due
        starting = asyncio.create_task(ledger.intend("b", "i-b", *APP))
        ledger.idle("a")
        await asyncio.sleep(0.05)
        assert not starting.done()
        moves.set()
        await starting

    written(tmp_path / "ledger", write)
    ledger = Ledger(tmp_path / "ledger")
    assert [(row.request_id, row.mark) for row in ledger.earlier] == [("a", IDLE), ("b", STARTING)]
    ledger.close()


KILLED = """
import asyncio, sys
from pathlib import Path
from warmscaler.service.persistence.ledger import Ledger

async def run():
    ledger = Ledger(Path(sys.argv[1]))
    turn = 0
    while True:
        turn += 1
        name = str(turn)
        await ledger.intend(name, "i" + name, "app", "go", 60, 128)
        print("intent", name, flush=True)
        await ledger.created(name, "s" + name)
        print("created", name, flush=True)
        ledger.busy(name, "r" + name)
        print("busy", name, flush=True)
        ledger.idle(name)
        print("idle", name, flush=True)
        if turn % 3 == 0:
            ledger.leaving(name)
            ledger.gone(name)

asyncio.run(run())
"""


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """Whatever was said to be written is there."""
    random = Random(4)
    for turn in range(6):
        path = tmp_path / f"ledger-{turn}"
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(random.randrange(1, 400))]
        os.kill(process.pid, signal.SIGKILL)
        lines += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        # A line that the kill cut short said nothing.
        said = {}
        for line in lines:
            if line.endswith("\n"):
                what, name = line.split()
                said[name] = what
        ledger = Ledger(path)
        rows = {row.request_id: row for row in ledger.earlier}
        for name, what in said.items():
            if int(name) % 3 and what != "intent":
                assert rows[name].slot_id == f"s{name}"
            if int(name) % 3 and what == "idle":
                assert rows[name].mark == IDLE
            if what == "busy" and name in rows:
                assert rows[name].mark in (request_mark(f"r{name}"), IDLE)
            if what == "intent":
                assert name in rows
        ledger.close()


# The driver, over a ledger


def driver_on(
    path: Path, platform: Unsteady, reclaim_s: float | None = None, slow_create_s: float = 60.0
) -> tuple[Driver, Ledger]:
    ledger = Ledger(path)
    scheduler = Scheduler(Fixed(60.0), id_prefix=f"run{len(platform.created)}-")
    limits = StartLimits(slow_create_s=slow_create_s)
    driver = Driver(scheduler, platform, ledger=ledger, reclaim_s=reclaim_s, limits=limits)
    driver.recover()
    return driver, ledger


def abandon(driver: Driver, ledger: Ledger) -> None:
    """As near to SIGKILL as one process can: nothing more is done, nothing is told."""
    for task in driver._tasks:
        task.cancel()
    driver.slots.close()
    ledger.close()


def ended(instance_id: str, request_id: str, key: str = "app") -> pb.Assignment:
    return pb.Assignment(request_id=request_id, meta_key=key, instance_id=instance_id)


def test_idle_instances_are_taken_back(tmp_path: Path) -> None:
    async def run() -> None:
        platform = Unsteady()
        driver, ledger = driver_on(tmp_path / "ledger", platform)
        instance = await driver.assign("r-1", META)
        driver.idle(ended(instance, "r-1"), pb.Result(status_code=200))
        abandon(driver, ledger)
        driver, ledger = driver_on(tmp_path / "ledger", platform)
        driver.idle(ended(instance, "r-1"), pb.Result(status_code=200))  # again: Ok
        assert await driver.assign("r-2", META) == instance
        assert len(platform.created) == 1
        driver.idle(ended(instance, "r-2"), pb.Result(status_code=200))
        await driver.drain(5.0)
        assert not platform.live
        assert ledger.count() == 0
        ledger.close()

    asyncio.run(run())


def test_an_instance_in_use_waits_for_its_own_idle(tmp_path: Path) -> None:
    async def run() -> None:
        platform = Unsteady()
        driver, ledger = driver_on(tmp_path / "ledger", platform)
        instance = await driver.assign("r-1", META)
        abandon(driver, ledger)
        driver, ledger = driver_on(tmp_path / "ledger", platform)
        other = await driver.assign("r-2", META)
        assert other != instance  # r-1 may still run there
        driver.idle(ended(instance, "another request"), pb.Result(status_code=200))
        assert driver.scheduler.instances[instance].state is State.BUSY
        driver.idle(ended(instance, "r-1"), pb.Result(status_code=200))
        assert driver.scheduler.instances[instance].state is State.IDLE
        with pytest.raises(UnknownInstance):
            driver.idle(ended("nobody", "r-1"), pb.Result(status_code=200))
        driver.idle(ended(other, "r-2"), pb.Result(status_code=200))
        await driver.drain(5.0)
        assert not platform.live
        ledger.close()

    asyncio.run(run())


def test_an_instance_whose_idle_never_comes(tmp_path: Path) -> None:
    async def run() -> None:
        platform = Unsteady()
        driver, ledger = driver_on(tmp_path / "ledger", platform)
        instance = await driver.assign("r-1", META)
        abandon(driver, ledger)
        driver, ledger = driver_on(tmp_path / "ledger", platform, reclaim_s=0.05)
        await until(lambda: not platform.live)
        await until(lambda: instance not in driver.scheduler.instances)
        driver.idle(ended(instance, "r-1"), pb.Result(status_code=200))  # late: Ok
        assert ledger.count() == 0
        abandon(driver, ledger)

    asyncio.run(run())


@pytest.mark.parametrize("moment", ["create", "init", "destroy"])
def test_killed_during_a_call(tmp_path: Path, moment: str) -> None:
    async def run() -> None:
        platform = Unsteady()
        driver, ledger = driver_on(tmp_path / "ledger", platform)
        waiting = None
        if moment == "destroy":
            instance = await driver.assign("r-1", META)
            platform.hold(moment)
            driver.idle(ended(instance, "r-1"), pb.Result(status_code=500, need_destroy=True))
        else:
            platform.hold(moment)
            waiting = asyncio.create_task(driver.assign("r-1", META))
        await until(lambda: platform.held > 0)
        assert len(platform.live) == 1
        if waiting is not None:
            waiting.cancel()
        abandon(driver, ledger)
        await asyncio.sleep(0)
        platform.let_go()
        driver, ledger = driver_on(tmp_path / "ledger", platform)
        await until(lambda: not platform.live)
        await until(lambda: ledger.count() == 0)
        assert not driver.scheduler.instances
        abandon(driver, ledger)

    asyncio.run(run())


def test_a_restart_keeps_what_was_learned(tmp_path: Path) -> None:
    async def run() -> None:
        path, policy = tmp_path / "ledger", Learned()
        for turn in range(2):
            ledger, now_ms = Ledger(path), 1e12 + turn * 60_000.0
            scheduler = Scheduler(policy, id_prefix=f"run{turn}-")
            driver = Driver(scheduler, Unsteady(), lambda: now_ms, ledger=ledger)  # noqa: B023
            driver.recover()
            assert set(scheduler.learned) == ({"app", "damaged"} if turn else set())
            for key in ("app", "damaged", "other"):
                for number in range(4):
                    meta = pb.Meta(key=key, memory_in_mb=128)
                    instance = await driver.assign(f"{key}-{number}", meta)
                    driver.idle(ended(instance, f"{key}-{number}", key), pb.Result(status_code=200))
                    now_ms += 7_000.0
            gaps = policy.learned(scheduler.pools["app"])
            other = policy.learned(scheduler.pools["other"])
            assert gaps is not None
            assert other is not None
            assert (len(gaps) > len(other)) is bool(turn)  # it went on from what there was
            await driver.drain(1.0)
            ledger.save_learned(now_ms + 1.0, "damaged", b"no such thing")
            ledger.forget_learned("other")
            abandon(driver, ledger)
        ledger = Ledger(path)
        assert set(ledger.learned(inf, 1)) == {"damaged"}  # the latest
        ledger.close()

    asyncio.run(run())


def test_what_was_learned_goes_by_the_newest_whatever_the_clock(tmp_path: Path) -> None:
    """An app an hour, and one saved by a start with the clock forty days ahead."""
    hours = [*range(36), 36 + 40 * 24]

    async def write(ledger: Ledger) -> None:
        for hour in hours:
            ledger.save_learned(hour * 3.6e6, str(hour), b"learned")
        await ledger.flush()

    written(tmp_path / "ledger", write)
    ledger = Ledger(tmp_path / "ledger")
    kept = set(ledger.learned(24 * 3.6e6, 99))
    assert kept == set(map(str, hours[14:]))  # the forty days count as a tenth of one
    assert set(ledger.learned(24 * 3.6e6, 1)) == {str(hours[-1])}
    ledger.close()


def test_every_mark_is_the_one_looked_for(tmp_path: Path) -> None:
    names = ("r", "RF20er", "iLU0su")  # the checksums of the last two are STARTING and LEAVING

    async def write(ledger: Ledger) -> None:
        for name in names:
            await ledger.intend(name, name, *APP)
            ledger.busy(name, name)

    written(tmp_path / "ledger", write)
    ledger = Ledger(tmp_path / "ledger")
    assert [row.mark for row in ledger.earlier] == [request_mark(name) for name in names]
    ledger.close()


def test_a_ledger_without_its_marks(tmp_path: Path) -> None:
    async def write(ledger: Ledger) -> None:
        await ledger.intend("r", "i", *APP)
        await ledger.created("r", "slot")
        ledger.busy("r", "request")

    written(tmp_path / "ledger", write)
    marks = tmp_path / "ledger.marks"
    assert marks.stat().st_blocks * 512 >= marks.stat().st_size  # else a full disk kills us later
    marks.unlink()
    ledger = Ledger(tmp_path / "ledger")
    assert [row.mark for row in ledger.earlier] == [LEAVING]
    ledger.close()


def test_a_slot_that_came_too_late_is_not_taken_for_the_one_that_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lives, "LOOK_MS", 10.0)

    async def run() -> None:
        platform = Unsteady()
        driver, ledger = driver_on(tmp_path / "ledger", platform, slow_create_s=0.05)
        platform.hold("create")
        waiting = asyncio.create_task(driver.assign("r", META))
        await until(lambda: platform.held == 1)
        late = platform._holds.pop("create")
        instance = await waiting  # by a second CreateSlot
        platform.hold("destroy")
        late.set()
        await until(lambda: platform.held == 2)
        driver.idle(ended(instance, "r"), pb.Result(status_code=200))
        abandon(driver, ledger)
        await asyncio.sleep(0)
        platform.let_go()
        driver, ledger = driver_on(tmp_path / "ledger", platform)
        await until(lambda: platform.live == {"slot-2"})
        assert await driver.assign("r-2", META) == instance
        abandon(driver, ledger)
        driver, ledger = driver_on(tmp_path / "ledger", platform)
        assert driver.scheduler.instances[instance].state is State.BUSY
        abandon(driver, ledger)

    asyncio.run(run())


def test_a_drain_saves_what_a_save_under_way_has_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learning, "SLICE_S", 0.0)
    monkeypatch.setattr(learning, "SAVE_S", 0.0)
    monkeypatch.setattr(learning, "PAUSE_S", 0.02)

    async def run() -> None:
        ledger, now_ms = Ledger(tmp_path / "ledger"), 1e12
        driver = Driver(Scheduler(Learned()), Unsteady(), lambda: now_ms, ledger=ledger)
        for app in range(20):
            for number in range(3):
                meta = pb.Meta(key=f"app-{app}", memory_in_mb=128)
                instance = await driver.assign(f"r{number}", meta)
                driver.idle(ended(instance, f"r{number}", meta.key), pb.Result(status_code=200))
                now_ms += 7_000.0
        driver.recover()
        await asyncio.sleep(0.01)
        await driver.drain(0.0)
        ledger.close()
        ledger = Ledger(tmp_path / "ledger")
        assert len(ledger.learned(0.0, 99)) == 20
        ledger.close()

    asyncio.run(run())
