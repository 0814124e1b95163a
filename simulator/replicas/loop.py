"""One app at replica level, from event to event. Written for numba: plain loops over arrays.

At one instant: completions, then what rules and floors let go or start, then replicas that get
ready, then arrivals.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

import numpy as np

from warmscaler.simulator.replicas.rules import KNATIVE, NONE, Settings

_NEVER = 1e18
_COMPLETED, _LOOK, _TICK, _READY, _ARRIVED = range(5)
"""What comes next, in the order of one instant."""


def run(
    arrival_s: Any,
    duration_s: Any,
    places: int,
    start_s: float,
    rule: Settings,
    floor: Any,
    look_s: float,
    from_s: float,
    end_s: float,
    measured_s: float,
    wait_s: Any,
) -> tuple[float, int, int]:
    """Serves the requests; writes each one's wait into `wait_s`.

    `floor[i]` holds from `from_s + i * look_s` on. Returns replica-seconds held from `measured_s` on,
    replicas started from then on, and the most at once. Times in s.
    """
    requests, looks = len(arrival_s), len(floor)
    size = 64
    serving = np.full(size, -1, dtype=np.int64)  # requests in a replica; -1 none there, -2 starting
    begun = np.zeros(size)
    ready_at = np.zeros(size)
    top, live, ready, flying = 0, 0, 0, 0
    arrived, served = 0, 0
    ends = [(_NEVER, 0)]
    readying = [(_NEVER, 0)]
    held_s, started, most = 0.0, 0, 0

    next_tick = _NEVER if rule.kind == NONE else from_s
    look, floor_now = 0, 0
    # Requests there times s up to each tick, in a ring; what is wanted of late, falling.
    ring = 2 if rule.kind == NONE else int(rule.window_s / rule.tick_s) + 2
    sums = np.zeros(ring)
    tick = 0
    area, last_s, busy_since, quiet_since = 0.0, from_s, from_s, from_s
    room = 3 if rule.kind == NONE else int(rule.delay_s / rule.tick_s) + 3
    recent_s, recent = np.zeros(room), np.zeros(room, dtype=np.int64)
    head, tail = 0, 0
    ruled = 0
    panic_s, panicked = -1.0, 0
    zero_s, active_s, next_poll = -1.0, -_NEVER, from_s

    while True:
        now = ends[0][0]
        what = _COMPLETED
        at_look = from_s + look * look_s if look < looks else _NEVER
        if at_look < now:
            now, what = at_look, _LOOK
        if next_tick < now:
            now, what = next_tick, _TICK
        if readying[0][0] < now:
            now, what = readying[0][0], _READY
        if arrived < requests and arrival_s[arrived] < now:
            now, what = arrival_s[arrived], _ARRIVED
        if now >= _NEVER or (now > end_s and served == requests and flying == 0):
            break
        there = flying + arrived - served
        area += there * (now - last_s)
        last_s = now

        if what == _COMPLETED:
            _, k = heappop(ends)
            serving[k] -= 1
            flying -= 1
            if flying + arrived - served == 0:
                quiet_since = now
        elif what == _LOOK:
            floor_now = floor[look]
            look += 1
        elif what == _TICK:
            next_tick = now + rule.tick_s
            sums[tick % ring] = area
            tick += 1
            if rule.kind == KNATIVE:
                elapsed = max(now - busy_since, rule.tick_s)
                back = min(int(rule.window_s / rule.tick_s), tick - 1)
                stable = (area - sums[(tick - 1 - back) % ring]) / min(rule.window_s, elapsed)
                short_s = max(rule.window_s * rule.panic_share, rule.tick_s)
                back = min(int(short_s / rule.tick_s), tick - 1)
                panic = (area - sums[(tick - 1 - back) % ring]) / min(short_s, elapsed)
                if stable < 1e-9:
                    stable, panic = 0.0, 0.0
                target = rule.utilisation * places
                pods = max(ready, 1)
                wanted = int(np.ceil(stable / target - 1e-9))
                urgent = int(np.ceil(panic / target - 1e-9))
                over = urgent >= rule.panic_threshold * pods
                wanted = min(max(wanted, pods // 2), 1000 * pods)
                urgent = min(urgent, 1000 * pods)
                if over:
                    if panic_s < 0.0:
                        panicked = 0
                    panic_s = now
                elif panic_s >= 0.0 and now > panic_s + rule.window_s:
                    panic_s = -1.0
                if panic_s >= 0.0:
                    panicked = max(panicked, max(wanted, urgent))
                    wanted = panicked
                if rule.delay_s > 0.0:
                    while tail > head and recent_s[head % room] < now - rule.delay_s:
                        head += 1
                    while tail > head and recent[(tail - 1) % room] <= wanted:
                        tail -= 1
                    recent_s[tail % room], recent[tail % room] = now, wanted
                    tail += 1
                    wanted = recent[head % room]
                if wanted > 0:
                    zero_s = -1.0
                elif ruled > 0:
                    if zero_s < 0.0:
                        zero_s = now
                    if now < zero_s + rule.zero_grace_s:
                        wanted = 1
                ruled = max(wanted, rule.least)
            else:
                if now >= next_poll:
                    next_poll = now + rule.poll_s
                    if there > 0:
                        active_s = now
                        ruled = max(ruled, 1)
                    elif now >= active_s + rule.cooldown_s:
                        ruled = 0
                if ruled > 0:
                    metric = float(there)
                    if rule.window_s > 0.0:
                        back = min(int(rule.window_s / rule.tick_s), tick - 1)
                        metric = (area - sums[(tick - 1 - back) % ring]) / rule.window_s
                    share = metric / (rule.utilisation * places)
                    wanted = ruled
                    if abs(share / ruled - 1.0) > rule.tolerance:
                        wanted = int(np.ceil(share - 1e-9))
                    wanted = min(max(wanted, 1), max(ruled + 4, 2 * ruled))
                    while tail > head and recent_s[head % room] < now - rule.delay_s:
                        head += 1
                    while tail > head and recent[(tail - 1) % room] <= wanted:
                        tail -= 1
                    recent_s[tail % room], recent[tail % room] = now, wanted
                    tail += 1
                    ruled = max(wanted, min(ruled, recent[head % room]))
                ruled = max(ruled, rule.least)
            # At rest the next tick that can matter is the one after the next event.
            idle = there == 0 and ruled == rule.least and live <= max(ruled, floor_now)
            calm = now >= quiet_since + max(rule.window_s, rule.delay_s) and (
                rule.kind != KNATIVE or panic_s < 0.0
            )
            if idle and calm:
                until = arrival_s[arrived] if arrived < requests else end_s
                skipped = int((until - now) / rule.tick_s) - 1
                if skipped > ring:
                    next_tick = now + skipped * rule.tick_s
                    sums[:] = area
        elif what == _READY:
            at, k = heappop(readying)
            if serving[k] == -2 and ready_at[k] == at:
                serving[k] = 0
                ready += 1
        else:
            if there == 0 and now >= quiet_since + rule.window_s:
                busy_since = now
            arrived += 1
            if rule.kind == KNATIVE and live == 0:
                ruled = 1  # the activator tells at once
                zero_s = -1.0

        # Places for those who wait, in order of arrival, in the first replica that has one.
        k = 0
        while served < arrived and flying < ready * places:
            while serving[k] < 0 or serving[k] >= places:
                k += 1
            serving[k] += 1
            flying += 1
            wait_s[served] = now - arrival_s[served]
            heappush(ends, (now + duration_s[served], k))
            served += 1

        goal = max(ruled, floor_now)
        while live < goal:
            k = 0
            while k < top and serving[k] != -1:
                k += 1
            if k == size:
                size *= 2
                serving = np.concatenate((serving, np.full(k, -1, dtype=np.int64)))
                begun = np.concatenate((begun, np.zeros(k)))
                ready_at = np.concatenate((ready_at, np.zeros(k)))
            serving[k], begun[k], ready_at[k] = -2, now, now + start_s
            top = max(top, k + 1)
            heappush(readying, (now + start_s, k))
            live += 1
            most = max(most, live)
            if now >= measured_s:
                started += 1
        if live > goal:
            for state in (-2, 0):  # those not ready first, then the empty, the last ones first
                k = top - 1
                while k >= 0 and live > goal:
                    if serving[k] == state:
                        serving[k] = -1
                        live -= 1
                        if state == 0:
                            ready -= 1
                        held_s += max(now - max(begun[k], measured_s), 0.0)
                    k -= 1
            while top > 0 and serving[top - 1] == -1:
                top -= 1

    end_s = max(end_s, last_s)
    for k in range(top):
        if serving[k] != -1:
            held_s += max(end_s - max(begun[k], measured_s), 0.0)
    return held_s, started, most
