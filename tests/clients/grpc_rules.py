"""What every gRPC client must see, each from a scaler of its own choice of moment."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from tests.clients.caller import Caller, Ended
from tests.clients.result import expect
from tests.clients.stage import DRAIN_S, START_MS, Stage, refused
from tests.service.running import PATIENCE_S
from warmscaler.service.front.http2.requests import Code
from warmscaler.service.proto import scaler_pb2 as pb

AT_ONCE = 64
DEADLINE_MS = 300
RUNS_ON_S = 4.0
"""After SIGTERM: by then a proxy knows by its checks that the scaler leaves."""


async def unary(stage: Stage, caller: Caller) -> str:
    """Cold, warm, and what a call is refused with."""
    cold = await caller.assign("fast", "r-cold")
    expect(cold.code is Code.OK, f"cold Assign: {cold}")
    expect(str(done := await caller.idle(cold)) == "OK", f"Idle: {done}")
    warm = await caller.assign("fast", "r-warm")
    expect(warm.code is Code.OK, f"warm Assign: {warm}")
    expect(warm.instance == cold.instance, "the warm Assign got another instance")
    expect(str(done := await caller.idle(warm)) == "OK", f"Idle: {done}")
    stranger = pb.Assignment(request_id="r", meta_key="fast", instance_id="nobody")
    idle = pb.IdleRequest(assigment=stranger).SerializeToString()
    at = {"x-scaler-app": "fast"} | ({"x-scaler-at": warm.at} if warm.at else {})
    wanted = (
        ("Idle", idle, Code.NOT_FOUND, "there is no such instance"),
        (
            "Assign",
            b"",
            Code.INVALID_ARGUMENT,
            "meta_data is missing, or the message cannot be read",
        ),
        ("Nothing", b"", Code.UNIMPLEMENTED, "there is no such method"),
    )
    for method, message, code, text in wanted:
        ended = await caller.call(method, message, at)
        expect((ended.code, ended.text) == (code, text), f"{method}: {ended}")
    return "warm on the same instance; " + ", ".join(code.name for _, _, code, _ in wanted)


async def deadline(stage: Stage, caller: Caller) -> str:
    """A start that takes longer than its caller waits."""
    began_s = time.monotonic()
    call = caller.assign("slow-0", timeout_ms=DEADLINE_MS)
    ended = await call
    took_ms = 1000.0 * (time.monotonic() - began_s)
    expect(ended.code is Code.DEADLINE_EXCEEDED, ended)
    expect(took_ms < START_MS, f"after {took_ms:.0f} ms")
    await _forgotten(stage, began_s, gone=1)
    await _next_has_it(stage, caller, "slow-0", slots=_slots(stage, "slow-0"))
    after = f"after {took_ms:.0f} ms; forgotten; its start is the next one's"
    return f"DEADLINE_EXCEEDED of {DEADLINE_MS} ms {after}"


async def cancel(stage: Stage, caller: Caller) -> str:
    """A caller that leaves while it waits."""
    gone = await stage.metric("scaler_requests_unserved_total", outcome="caller_gone")
    began_s = time.monotonic()
    call = caller.assign("slow-1")
    await stage.until_waiting(1)
    call.cancel()
    ended = await call
    expect(ended.code is Code.CANCELLED, ended)
    await _forgotten(stage, began_s, gone=round(gone) + 1)
    await _next_has_it(stage, caller, "slow-1", slots=_slots(stage, "slow-1"))
    return "CANCELLED; forgotten at once; its start is the next one's"


async def many(stage: Stage, caller: Caller, count: int, port: int | None = None) -> str:
    """Assign and Idle in turn, and which connections they took."""
    codes: Counter[str] = Counter()
    before = stage.connections(port)

    turns = iter(range(count // 2))

    async def take_turns() -> None:
        for turn in turns:
            assigned = await caller.assign("fast", f"r-{turn}")
            codes[str(assigned)] += 1
            if assigned.code is Code.OK:
                codes[str(await caller.idle(assigned))] += 1

    began_s = time.monotonic()
    await asyncio.gather(*(take_turns() for _ in range(AT_ONCE)))
    took_s = time.monotonic() - began_s
    after = stage.connections(port)
    calls = count // 2 * 2
    expect(codes == {"OK": calls}, dict(codes))
    expect(len(before) == 1 and before == after, f"connections: {before}, then {after}")
    return f"{calls:,} OK on one connection, {calls / took_s:,.0f}/s"


async def drain(stage: Stage, caller: Caller) -> str:
    """SIGTERM while 16 callers go to and fro, four wait for a start, and one request runs on."""
    ended: Counter[str] = Counter()
    idles: Counter[str] = Counter()
    warm_up = await caller.assign("fast")
    await caller.idle(warm_up)

    async def to_and_fro(name: int) -> None:
        turn = 0
        while True:
            assigned = await caller.assign("fast", f"r-{name}-{turn}")
            ended[str(assigned)] += 1
            if assigned.code is not Code.OK:
                return
            await asyncio.sleep(0.002 * (name % 4))
            idles[str(await caller.idle(assigned))] += 1
            turn += 1

    async def waits(number: int) -> Ended:
        assigned = await caller.assign(f"slow-{number}")
        if assigned.code is Code.OK:
            idles[str(await caller.idle(assigned))] += 1
        return assigned

    async def runs_on() -> None:
        await asyncio.sleep(RUNS_ON_S)
        idles[str(await caller.idle(long))] += 1

    long = await caller.assign("fast", "r-long")
    waiting = [asyncio.create_task(waits(number)) for number in range(2, 6)]
    await stage.until_waiting(4)
    calling = [asyncio.create_task(to_and_fro(name)) for name in range(16)]
    await asyncio.sleep(0.3)
    began_s = time.monotonic()
    running = asyncio.create_task(runs_on())
    code = await stage.end()
    took_s = time.monotonic() - began_s
    async with asyncio.timeout(PATIENCE_S):
        waited = await asyncio.gather(*waiting)
        await asyncio.gather(running, *calling)
    expect(code == 0, f"exit code {code}")
    expect(all(each.code is Code.OK for each in waited), [str(each) for each in waited])
    expect(set(idles) == {"OK"}, f"Idles: {dict(idles)}")
    others = {text for text in ended if text != "OK" and not text.startswith("UNAVAILABLE")}
    expect(not others, f"Assigns: {dict(ended)}")
    expect(took_s < DRAIN_S / 2.0, f"a drain of {took_s:.1f} s: it waited for a lost answer")
    expect(stage.platform.live_slots == 0, f"{stage.platform.live_slots} slots left")
    after = await caller.assign("fast")
    expect(after.code is Code.UNAVAILABLE and refused(stage.address), f"after the end: {after}")
    told = sum(ended.values()) - ended["OK"]
    return (
        f"{ended['OK'] + 4:,} assigned and idled, 4 of them started and one run on meanwhile,"
        f" {told} UNAVAILABLE; exit 0 after {took_s:.1f} s"
    )


async def _forgotten(stage: Stage, began_s: float, gone: int) -> None:
    await stage.until_waiting(0)
    in_time = time.monotonic() - began_s < START_MS / 1000.0
    expect(in_time, "the scaler forgot its caller only when the start was done")
    await stage.until(gone, "scaler_requests_unserved_total", outcome="caller_gone")


def _slots(stage: Stage, app: str) -> int:
    return sum(slot.meta_key == app for slot in stage.platform.slots.values())


async def _next_has_it(stage: Stage, caller: Caller, app: str, slots: int) -> None:
    """What was begun for one who left is the next one's."""
    await stage.until(0, "scaler_slots", state="initialising")
    ended = await caller.assign(app)
    expect(ended.code is Code.OK, f"the next one: {ended}")
    expect(str(done := await caller.idle(ended)) == "OK", f"its Idle: {done}")
    expect(_slots(stage, app) == slots == 1, f"{slots} slots, then {_slots(stage, app)}")
