"""The virtual replay's speed, what a decision costs, and the memory that an app takes."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import numpy as np

from tests.bench.table import TRACE, Row, step
from warmscaler.data.read import read_trace
from warmscaler.data.trace import Trace
from warmscaler.models.learned.habits import Model
from warmscaler.models.learned.policy import Learned
from warmscaler.models.objectives.words import OWN_PRICE
from warmscaler.models.policy import Policy
from warmscaler.models.published.fixed import Fixed
from warmscaler.service.scheduler.scheduler import Scheduler
from warmscaler.simulator.figures import figures
from warmscaler.simulator.replay import CREATE_MS, replay
from warmscaler.training.evaluating.evaluate import train, window

KEPT_EVENTS = ("arrival", "idle", "wake", "instance_ready", "slot_created")


class _Timed(Scheduler):
    """Notes how long each stimulus takes, in ns."""

    taken_ns: list[int]

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        taken_ns = _Timed.taken_ns = []

        def timed(call: Any) -> Any:
            def stimulus(*args: Any, **more: Any) -> Any:
                began = time.perf_counter_ns()
                actions = call(*args, **more)
                taken_ns.append(time.perf_counter_ns() - began)
                return actions

            return stimulus

        for name in KEPT_EVENTS:
            setattr(self, name, timed(getattr(self, name)))


def measure() -> list[Row]:
    """Replay rates of fixed and learned, cost of deciding, bytes per app."""
    trace = read_trace(TRACE)
    part = window(trace, 0.5)
    step("training, for the replay")
    model = train(part, create_ms=CREATE_MS, jobs=2, objective=OWN_PRICE)
    rows = []
    learned = Learned(model)
    played: tuple[tuple[str, Policy, float], ...] = (
        ("fixed:300", Fixed(300.0), 60_000.0),
        ("learned", learned, 30_000.0),
    )
    for name, policy, target in played:
        step(f"replaying {name}")
        began_s = time.perf_counter()
        result = replay(trace, policy)
        rate = len(trace) / (time.perf_counter() - began_s)
        rows.append(Row(f"virtual replay, {name}, one core", rate, "req/s", target, at_most=False))
        score = figures(trace, result, part.split_ms).score
        rows.append(Row(f"  score, {name}", score, ""))
    rows += _deciding(trace, model)
    return rows


def _deciding(trace: Trace, model: Model) -> list[Row]:
    step("timing every decision")
    replay(trace, Learned(model), make_scheduler=_Timed)
    taken_us = np.array(_Timed.taken_ns) / 1_000.0
    step("weighing the apps")
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    policy = Learned(model)
    kept = _apps_after(trace, policy)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return [
        Row("cost of deciding, median", float(np.median(taken_us)), "µs", 20.0),
        Row("cost of deciding, 99th percentile", float(np.quantile(taken_us, 0.99)), "µs", 250.0),
        Row("cost of deciding, worst", float(taken_us.max()), "µs"),
        Row("memory of an app", (after - before) / len(kept.pools) / 1_000.0, "kB", 20.0),
    ]


def _apps_after(trace: Trace, policy: Policy) -> Scheduler:
    """The scheduler as a replay leaves it, its apps' memories full."""
    kept: list[Scheduler] = []

    def keep(policy: Policy) -> Scheduler:
        kept.append(Scheduler(policy))
        return kept[0]

    replay(trace.between(0, trace.split_ms(0.5)), policy, make_scheduler=keep)
    return kept[0]
