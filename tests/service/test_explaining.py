"""Accounts of apps: what is expected follows from what was seen, asking changes nothing, and what is
said live agrees with what was recorded."""

from __future__ import annotations

import asyncio
from math import inf
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.service.running import assign, done, served
from tests.traces import trace_of
from warmscaler.data.recording import read_app
from warmscaler.models.learned.habits import Model
from warmscaler.models.outlook import expected
from warmscaler.models.policy import Policy
from warmscaler.models.registry import make_policy
from warmscaler.service.explaining.account import account_of, as_json
from warmscaler.service.explaining.history import AppHistory, History
from warmscaler.service.explaining.words import clock, sentences
from warmscaler.service.front.explaining import PATH
from warmscaler.service.persistence.recording import Recorder
from warmscaler.service.proto import explain_pb2
from warmscaler.service.scheduler.scheduler import Scheduler
from warmscaler.simulator.recorded import recorded_account
from warmscaler.simulator.replay import replay

MINUTE = 60_000


def test_a_timer_is_due_when_it_is() -> None:
    gaps = np.array([60_000.0] * 34 + [20_000.0] * 6)
    of = expected(1_030_000.0, 1_000_000.0, gaps, np.ones(40), doubt=0.0)
    assert (of.idle_times, of.longer) == (40, 34)
    assert of.due is not None
    assert (of.due.from_ms, of.due.share) == (1_060_000.0, 1.0)
    before = expected(1_000_000.0, 1_000_000.0, gaps, np.ones(40), doubt=0.0)
    assert before.due is not None
    assert before.due.share == pytest.approx(34 / 40)
    after = expected(1_061_000.0, 1_000_000.0, gaps, np.ones(40))
    assert after.due is None
    assert set(after.by_ms) == {inf}


@given(
    gaps=st.lists(st.floats(1.0, 1e9), max_size=50),
    age=st.floats(0.0, 1e9),
    doubt=st.floats(0.0, 10.0),
)
def test_what_is_expected_lies_ahead_and_is_a_chance(
    gaps: list[float], age: float, doubt: float
) -> None:
    now_ms = 1e12 + age
    of = expected(now_ms, 1e12, np.array(gaps), np.ones(len(gaps)), doubt=doubt)
    assert list(of.by_ms) == sorted(of.by_ms)
    assert all(each > now_ms for each in of.by_ms)
    assert (of.due is None) == (of.longer == 0)
    if of.due is not None:
        assert now_ms < of.due.from_ms <= of.due.to_ms
        assert 0.0 < of.due.share <= 1.0 + 1e-9


class Asked(Scheduler):
    """Is asked for every app's account after every stimulus."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self.said: list[str] = []

    def _ask(self, now_ms: float, actions: Any) -> Any:
        for pool in self.pools.values():
            account = account_of(now_ms, pool, self.instances.values(), None)
            self.said = sentences(account)
            orjson.dumps(as_json(account))
        return actions

    def arrival(self, now_ms: float, *more: Any) -> Any:
        return self._ask(now_ms, super().arrival(now_ms, *more))

    def idle(self, now_ms: float, *more: Any, **named: Any) -> Any:
        return self._ask(now_ms, super().idle(now_ms, *more, **named))

    def wake(self, now_ms: float) -> Any:
        return self._ask(now_ms, super().wake(now_ms))


@pytest.mark.parametrize(
    "name", ["learned", "fixed:300", "reference", "hybrid-histogram", "knative", "greedy-dual:1"]
)
def test_to_ask_changes_nothing(name: str) -> None:
    rng = np.random.default_rng(4)
    rows = [(k * MINUTE, 0, 400) for k in range(40)]
    rows += [(int(at), 1, 900) for at in np.cumsum(rng.exponential(25_000, 80))]
    trace = trace_of(rows, memory_mb=[128, 256])

    def policy() -> Policy:
        return make_policy(name, Model() if name == "learned" else None)

    plain = replay(trace, policy())
    asked = replay(trace, policy(), make_scheduler=Asked)
    assert plain.wait_ms.tolist() == asked.wait_ms.tolist()
    assert plain.slots == asked.slots


def test_learned_says_when_a_timer_is_due() -> None:
    trace = trace_of([(k * 10 * MINUTE, 0, 400) for k in range(30)])
    scheduler = Scheduler(make_policy("learned", Model()))
    replay(trace, scheduler.policy, make_scheduler=lambda _: scheduler)
    pool = scheduler.pools["app-0"]
    now_ms = float(trace.arrival_ms[-1]) + MINUTE
    account = account_of(now_ms, pool, scheduler.instances.values(), None)
    assert account.outlook.expected is not None
    due = account.outlook.expected.due
    assert due is not None
    assert due.from_ms == pytest.approx(float(trace.arrival_ms[-1]) + 10 * MINUTE, abs=2_000.0)
    assert due.share > 0.9
    assert any(clock(due.from_ms)[:16] in each for each in sentences(account))


def test_live_agrees_with_the_recording(tmp_path: Path) -> None:
    asyncio.run(_agrees(tmp_path))


async def _agrees(folder: Path) -> None:
    history, recorder = History(), Recorder(folder)
    observers = (history, recorder)
    policy = make_policy("fixed:300")
    async with served(policy, observers=observers, history=history, init_ms=30.0) as world:
        recorder.start(lambda _: None, world.server.driver.now_ms)
        first = await world.stub.Assign(assign("a"))
        queued = world.stub.Assign(assign("b"))
        await world.stub.Idle(done((await queued).assigment))
        await world.stub.Idle(done(first.assigment))
        again = await world.stub.Assign(assign("c"))
        await world.stub.Idle(done(again.assigment))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{world.server.port}") as channel:
            ask = channel.unary_unary(
                PATH, explain_pb2.AppRequest.SerializeToString, explain_pb2.AppReply.FromString
            )
            live = await ask(explain_pb2.AppRequest(app="app"))
            nobody = await ask(explain_pb2.AppRequest(app="nobody"))
    recorder.close()
    assert not nobody.known
    said = orjson.loads(live.account)
    rows = read_app(folder, "app")
    recorded = as_json(recorded_account(rows, policy, said["now_ms"]))
    for name in ("app", "memory_mb", "requests", "cold", "causes", "rule"):
        assert said[name] == recorded[name], name
    assert said["waited_ms"] == pytest.approx(recorded["waited_ms"], abs=5.0)
    for mine, theirs in zip(said["cold_starts"], recorded["cold_starts"], strict=True):
        assert mine["cause"] == theirs["cause"]
        assert mine["arrival_ms"] == pytest.approx(theirs["arrival_ms"], abs=2.0)
        assert mine["waited_ms"] == pytest.approx(theirs["waited_ms"], abs=2.0)
    assert any("the app was not known before" in each for each in live.sentences)


def test_histories_are_bounded_and_keep_who_calls() -> None:
    history = History(apps=3)
    for number in range(9):
        history._new(f"app-{number}").called = number == 0
    assert len(history._apps) == 3
    assert isinstance(history.of("app-8"), AppHistory)
