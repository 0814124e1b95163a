"""The virtual replay: a trace through the scheduler, with a simulated clock and platform.

Every figure of a policy comes from here. The rules: at one instant completions come first, then
what the platform finished, then the scheduler's timers, then arrivals; a start takes `create_ms`
and then the app's init time; a slot is paid for from the call of CreateSlot to that of DestroySlot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf

import numpy as np
import numpy.typing as npt

from warmscaler.data.trace import Trace
from warmscaler.models.policy import Instance, Policy
from warmscaler.service.scheduler.actions import (
    Actions,
    Assign,
    CreateSlot,
    DestroySlot,
    InitInstance,
)
from warmscaler.service.scheduler.scheduler import Scheduler

CREATE_MS = 300
"""What CreateSlot takes on the simulated platform unless told."""
PROGRESS_EVERY = 16_384

_COMPLETION, _CREATED, _READY = range(3)


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot's life: [created_ms, destroyed_ms), of the app with this index."""

    app: int
    created_ms: float
    destroyed_ms: float


@dataclass(frozen=True, slots=True)
class Replay:
    """What happened: a row per request of the trace, and every slot ever made."""

    wait_ms: npt.NDArray[np.float64]
    cold: npt.NDArray[np.bool_]
    slots: list[Slot]
    slot: npt.NDArray[np.int64]
    """Which of the slots served each request: its index."""
    end_ms: float
    """The end of the last execution; slots left then are destroyed then."""


def replay(
    trace: Trace,
    policy: Policy,
    *,
    create_ms: float = CREATE_MS,
    make_scheduler: Callable[[Policy], Scheduler] = Scheduler,
    on_progress: Callable[[int], None] | None = None,
) -> Replay:
    """Plays every request of `trace` through a new scheduler with `policy`.

    `make_scheduler` lets one that takes notes be played; `on_progress` gets the number of requests
    played so far, now and then.
    """
    scheduler = make_scheduler(policy)
    app_of = trace.app.tolist()
    arrival_ms = trace.arrival_ms.tolist()
    duration_ms = trace.duration_ms.tolist()
    good = ((trace.status_code >= 200) & (trace.status_code < 300)).tolist()
    meta = [(app.key, app.memory_mb, app.runtime) for app in trace.apps]
    init_ms = {app.key: app.init_ms for app in trace.apps}
    index_of = {app.key: index for index, app in enumerate(trace.apps)}
    count = len(arrival_ms)
    wait_ms = [0.0] * count
    cold = bytearray(count)
    slots: list[Slot] = []
    slot_of: dict[str, int] = {}
    served_by = [""] * count
    events: list[tuple[float, int, int, Instance, int]] = []
    sequence = 0
    now_ms = 0.0

    def carry_out(actions: Actions) -> None:
        nonlocal sequence
        for action in actions:
            sequence += 1
            if isinstance(action, Assign):
                row: int = action.request  # type: ignore[assignment]
                wait_ms[row] = now_ms - arrival_ms[row]
                served_by[row] = action.instance.id
                done_ms = now_ms + duration_ms[row]
                heappush(events, (done_ms, _COMPLETION, sequence, action.instance, row))
            elif isinstance(action, CreateSlot):
                heappush(events, (now_ms + create_ms, _CREATED, sequence, action.instance, -1))
            elif isinstance(action, InitInstance):
                instance = action.instance
                ready_ms = now_ms + init_ms[instance.pool.key]
                heappush(events, (ready_ms, _READY, sequence, instance, -1))
            elif isinstance(action, DestroySlot):
                instance = action.instance
                slot_of[instance.id] = len(slots)
                slots.append(Slot(index_of[instance.pool.key], instance.started_ms, now_ms))
                scheduler.slot_destroyed(now_ms, instance.id)
            else:
                raise AssertionError(f"the replay sets no limits, yet: {action}")

    position = 0
    unfinished = count
    next_arrival_ms = arrival_ms[0] if count else inf
    while unfinished:
        event_ms = events[0][0] if events else inf
        wake_ms = scheduler.next_wake_ms
        if event_ms <= wake_ms and event_ms <= next_arrival_ms:
            now_ms, kind, _, instance, request = heappop(events)
            if kind == _COMPLETION:
                unfinished -= 1
                actions = scheduler.idle(now_ms, instance.id, need_destroy=not good[request])
            elif kind == _CREATED:
                actions = scheduler.slot_created(now_ms, instance.id)
            else:
                actions = scheduler.instance_ready(now_ms, instance.id)
        elif wake_ms <= next_arrival_ms:
            now_ms = wake_ms
            actions = scheduler.wake(now_ms)
        else:
            now_ms = next_arrival_ms
            key, memory_mb, runtime = meta[app_of[position]]
            actions = scheduler.arrival(now_ms, position, key, memory_mb, runtime)
            if not actions or not isinstance(actions[0], Assign):
                cold[position] = 1
            position += 1
            next_arrival_ms = arrival_ms[position] if position < count else inf
            if on_progress is not None and position % PROGRESS_EVERY == 0:
                on_progress(position)
        if actions:
            carry_out(actions)

    for instance in scheduler.instances.values():
        slot_of[instance.id] = len(slots)
        slots.append(Slot(index_of[instance.pool.key], instance.started_ms, now_ms))
    return Replay(
        np.array(wait_ms, dtype=np.float64),
        np.frombuffer(cold, dtype=np.bool_).copy(),
        slots,
        np.array([slot_of[instance_id] for instance_id in served_by], dtype=np.int64),
        now_ms,
    )
