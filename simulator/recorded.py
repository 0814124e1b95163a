"""An app's account from what a service recorded of it: what happened as it was recorded, what is
expected as a policy that saw the same requests would say."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

import numpy as np
import polars as pl

from warmscaler.data.columnar import SERVED
from warmscaler.data.trace import App, Trace
from warmscaler.models.policy import Instance, Policy, Pool
from warmscaler.service.explaining.account import AppAccount, account_of
from warmscaler.service.explaining.history import AppHistory, ColdStart
from warmscaler.service.scheduler.actions import Actions, CreateSlot, DestroySlot, InitInstance
from warmscaler.service.scheduler.scheduler import Scheduler
from warmscaler.simulator.replay import CREATE_MS, replay


def recorded_account(rows: pl.DataFrame, policy: Policy, now_ms: float) -> AppAccount:
    """Of the one app of `rows` (see `data.recording.COLUMNS`, in order of arrival), at `now_ms`.

    The policy sees the requests that arrived by then and no others. Instances are those it would
    have: an app's instances are not recorded.
    """
    rows = rows.filter(pl.col("arrival_ms") <= now_ms)
    history = history_of(rows, now_ms)
    served = rows.filter(pl.col("outcome").is_in(SERVED) & (pl.col("arrival_ms") <= now_ms))
    scheduler = Scheduler(policy)
    last = rows.row(-1, named=True)
    if served.is_empty():
        pool = Pool(str(last["app"]), int(last["memory_mb"]), 0.0)
        pool.policy = policy.app(pool.key, pool.memory_mb, str(last["runtime"]))
        return account_of(now_ms, pool, (), history)
    create_ms = float(last["create_ms"]) if last["create_ms"] > 0 else CREATE_MS
    init_ms = float(last["init_ms"])
    replay(_trace(served, last), policy, create_ms=create_ms, make_scheduler=lambda _: scheduler)
    _let_pass(scheduler, now_ms, create_ms, init_ms)
    pool = scheduler.pools[str(last["app"])]
    return account_of(now_ms, pool, scheduler.instances.values(), history)


def history_of(rows: pl.DataFrame, now_ms: float) -> AppHistory:
    """What is recorded of an app up to `now_ms`, as the service itself keeps it in memory."""
    history = AppHistory()
    ends_ms: list[tuple[float, float]] = []
    """When each request before got its instance, and was done."""
    for row in rows.iter_rows(named=True):
        arrival_ms, waited_ms = float(row["arrival_ms"]), float(row["wait_ms"])
        if row["outcome"] not in SERVED:
            continue
        history.requests += 1
        if row["cold"]:
            history.cold += 1
            history.waited_ms += waited_ms
            cause = _cause(arrival_ms, ends_ms)
            history.causes[cause] += 1
            ended_ms = max((min(end, arrival_ms) for _, end in ends_ms), default=None)
            quiet_ms = None if ended_ms is None else arrival_ms - ended_ms
            history.colds.append(ColdStart(arrival_ms, waited_ms, cause, quiet_ms, None))
        begin_ms = arrival_ms + waited_ms
        end_ms = begin_ms + float(row["duration_ms"])
        ends_ms = [each for each in ends_ms if each[1] > arrival_ms] or ends_ms[-1:]
        ends_ms.append((begin_ms, end_ms))
        history.spans.append(("recorded", "busy", begin_ms, min(end_ms, now_ms)))
    return history


def _cause(arrival_ms: float, before: list[tuple[float, float]]) -> str:
    if not before:
        return "first"
    if any(begin <= arrival_ms < end for begin, end in before):
        return "busy"
    return "starting" if any(arrival_ms < begin for begin, _ in before) else "released"


def _trace(served: pl.DataFrame, last: dict[str, Any]) -> Trace:
    app = App(
        str(last["app"]),
        str(last["runtime"]),
        int(last["memory_mb"]),
        int(last["timeout_s"]),
        int(last["init_ms"]),
    )
    column = {
        name: served[name].to_numpy().astype(np.int64)
        for name in ("arrival_ms", "duration_ms", "status_code")
    }
    return Trace(
        name="recorded",
        apps=(app,),
        arrival_ms=column["arrival_ms"],
        app=np.zeros(len(served), dtype=np.int64),
        duration_ms=column["duration_ms"],
        status_code=column["status_code"],
    )


def _let_pass(scheduler: Scheduler, now_ms: float, create_ms: float, init_ms: float) -> None:
    """The time from the end of a replay to `now_ms`, in which nothing arrives."""
    events: list[tuple[float, int, bool, Instance]] = []
    count = 0

    def carry_out(at_ms: float, actions: Actions) -> None:
        nonlocal count
        for action in actions:
            count += 1
            if isinstance(action, CreateSlot):
                heappush(events, (at_ms + create_ms, count, False, action.instance))
            elif isinstance(action, InitInstance):
                heappush(events, (at_ms + init_ms, count, True, action.instance))
            elif isinstance(action, DestroySlot):
                carry_out(at_ms, scheduler.slot_destroyed(at_ms, action.instance.id))

    while True:
        event_ms = events[0][0] if events else float("inf")
        at_ms = min(event_ms, scheduler.next_wake_ms)
        if at_ms > now_ms:
            return
        if event_ms <= scheduler.next_wake_ms:
            _, _, is_ready, instance = heappop(events)
            told = scheduler.instance_ready if is_ready else scheduler.slot_created
            carry_out(at_ms, told(at_ms, instance.id))
        else:
            carry_out(at_ms, scheduler.wake(at_ms))
