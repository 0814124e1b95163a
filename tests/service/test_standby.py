"""Requests that find every instance in use while Idles stand unread."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from models.fixed import Fixed
from service import standby
from service.driver import Driver, Refused
from service.health import Health
from service.metrics import Metrics
from service.proto import scaler_pb2 as pb
from service.scheduler import Scheduler
from tests.service.running import META, until
from tests.service.unsteady import Unsteady

OTHER = pb.Meta(key="other", runtime="go", timeout_in_secs=60, memory_in_mb=128)


class Here:
    """A driver with an instance in use and an Idle of another app read just now."""

    def __init__(self, driver: Driver, platform: Unsteady, instance: str) -> None:
        self.driver = driver
        self.platform = platform
        self.instance = instance
        self.served: list[str] = []

    def ask(self, request_id: str) -> asyncio.Task[str]:
        async def ask() -> str:
            instance = await self.driver.assign(request_id, META)
            self.served.append(request_id)
            return instance

        return asyncio.create_task(ask())

    def has_served(self, count: int) -> bool:
        return len(self.served) >= count

    def done(self, request_id: str, *, need_destroy: bool = False) -> None:
        assignment = pb.Assignment(request_id=request_id, meta_key="app", instance_id=self.instance)
        self.driver.idle(assignment, pb.Result(status_code=200, need_destroy=need_destroy))


def standing(
    test: Callable[[Here], Awaitable[None]], monkeypatch: pytest.MonkeyPatch, quiet_ms: float
) -> None:
    monkeypatch.setattr(standby, "QUIET_MS", quiet_ms)
    monkeypatch.setattr(standby, "MOST_MS", quiet_ms)

    async def run() -> None:
        platform = Unsteady()
        metrics = Metrics(Health())
        driver = Driver(Scheduler(Fixed(60.0)), platform, observers=(metrics,))
        metrics.watch(driver)
        instance = await driver.assign("first", META)
        other = await driver.assign("other", OTHER)
        driver.idle(
            pb.Assignment(request_id="other", meta_key="other", instance_id=other), pb.Result()
        )
        await test(Here(driver, platform, instance))
        # What an instance was idle for ends when a request has it, not when that request came.
        assert metrics._counts.idle_mb_ms >= 0.0
        assert not driver._standby._called
        assert not driver._standby._lines
        await driver.drain(0.0)
        assert not platform.live

    asyncio.run(run())


def test_what_comes_free_is_had_in_order_and_nothing_is_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(here: Here) -> None:
        names = [f"r{number}" for number in range(4)]
        asked = [here.ask(name) for name in names]
        await asyncio.sleep(0.01)
        assert here.served == []
        here.done("first")
        late = here.ask("late")  # in the same turn: it comes after those that stand
        for count, name in enumerate([*names, "late"], 1):
            await until(partial(here.has_served, count))
            here.done(name)
        assert here.served == [*names, "late"]
        assert [await each for each in [*asked, late]] == [here.instance] * 5
        assert len(here.platform.created) == 2

    standing(test, monkeypatch, 60_000.0)


def test_with_no_idle_to_come_one_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(here: Here) -> None:
        assert await here.ask("r") != here.instance
        assert await here.ask("s") != here.instance
        assert len(here.platform.created) == 4

    standing(test, monkeypatch, 20.0)


def test_an_instance_that_is_destroyed_leaves_them_to_be_started_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(here: Here) -> None:
        asked = here.ask("r")
        await asyncio.sleep(0)
        here.done("first", need_destroy=True)
        assert await asked != here.instance

    standing(test, monkeypatch, 20.0)


@pytest.mark.parametrize("called", [False, True])
def test_one_whose_caller_goes_away_is_passed_over(
    called: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(here: Here) -> None:
        gone, stays = here.ask("gone"), here.ask("stays")
        await asyncio.sleep(0)
        if called:
            here.done("first")
            gone.cancel()
        else:
            gone.cancel()
            await asyncio.sleep(0)
            here.done("first")
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert await stays == here.instance
        assert len(here.platform.created) == 2

    standing(test, monkeypatch, 60_000.0)


def test_a_drain_refuses_those_that_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(here: Here) -> None:
        asked = here.ask("r")
        await asyncio.sleep(0)
        await here.driver.drain(0.0)
        with pytest.raises(Refused, match="shutting down"):
            await asked

    standing(test, monkeypatch, 60_000.0)
