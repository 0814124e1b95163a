"""Sends them, and looks at the scaler before and after."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import grpc
import grpc.aio
import psutil

from tests.fuzz import messages
from tests.service.running import Process, assign, done, get, scaler
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.proto.scaler_pb2_grpc import ScalerStub
from warmscaler.simulator.platform import Misuse, SimulatedPlatform

CALLERS = 48
CONNECTIONS = 16
FRAMES = 24
"""HTTP/2 frames sent over one connection."""
ANSWER_S = 60.0
"""A call that has no answer by then hangs."""
SETTLE_S = 60.0
SPARE_FILES = 4
"""What it may have open beyond what it had before the attack."""
_RST = struct.pack("ii", 1, 0)

Progress = Callable[[int], None]


class _AnyApp(dict[str, float]):
    """Whatever is asked for starts at once."""

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: str) -> float:
        return 0.0


@dataclass(frozen=True, slots=True)
class State:
    """What could leak."""

    resident_mb: float
    connections: int
    files: int
    threads: int
    slots: float
    waiting: float


@dataclass(slots=True)
class Outcome:
    """What an attack left behind."""

    sent: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    hung: int = 0
    before: State | None = None
    warm: State | None = None
    """After the first third: what caches and pools take is there by then."""
    after: State | None = None
    serves: bool = False
    exit_code: int | None = None
    slots_left: int = -1
    """By the platform's count, after the scaler ended."""
    misuse: Misuse = field(default_factory=Misuse)
    tracebacks: list[str] = field(default_factory=list)


async def attack(
    count: int, seed: int, on_progress: Progress = lambda _: None, *, sound: int = 0
) -> Outcome:
    """`count` messages, in three thirds of the same mixture, at a scaler of its own.

    First so many `sound` requests, each of another instance: with enough of them all that it keeps of
    the past is as full as it gets, and what grows after is a leak.
    """
    outcome = Outcome()
    platform = SimulatedPlatform(_AnyApp(), create_ms=0.0)
    await platform.start()
    try:
        await _attacked(platform, outcome, count, seed, on_progress, sound)
    finally:
        await platform.stop()
    return outcome


async def _attacked(
    platform: SimulatedPlatform,
    outcome: Outcome,
    count: int,
    seed: int,
    on_progress: Progress,
    sound: int,
) -> None:
    serving = ("--policy", "fixed:1", "--platform", f"127.0.0.1:{platform.port}", "--drain", 2)
    with scaler(*serving, "--metrics-port", 0) as process:
        address = await asyncio.to_thread(lambda: process.address)
        page = process.page
        attacker = _Attacker(address, page, outcome, on_progress)
        await _serve_sound(address, sound)
        outcome.before = await _state(process, page)
        for part in range(3):
            await attacker.attack(_shares(count, 3)[part], Random(f"{seed}-{part}"))
            state = await _settled(process, page, outcome.before.files + SPARE_FILES)
            if part == 0:
                outcome.warm = state
        outcome.after = state
        outcome.serves = await _serves(address)
        alive = process.process.poll() is None
        outcome.exit_code = await asyncio.to_thread(process.terminate) if alive else -1
        outcome.tracebacks = [
            line for line in process.lines if line.startswith(("  | ", "Traceback "))
        ]
    outcome.slots_left = platform.live_slots
    outcome.misuse = platform.misuse


class _Attacker:
    def __init__(self, address: str, page: str, outcome: Outcome, on_progress: Progress) -> None:
        self._address = address
        host, _, port = address.rpartition(":")
        self._where = (host, int(port))
        self._page_port = int(page.rpartition(":")[2])
        self._outcome = outcome
        self._on_progress = on_progress

    async def attack(self, count: int, random: Random) -> None:
        payloads, frames = count * 6 // 10, count * 2 // 10
        seeds = [random.randbytes(8) for _ in range(CALLERS + 2 * CONNECTIONS)]
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with (
            grpc.aio.insecure_channel(self._address, options) as channel,
            asyncio.TaskGroup() as group,
        ):
            for share, seed in zip(_shares(payloads, CALLERS), seeds, strict=False):
                group.create_task(self._payloads(channel, share, Random(seed)))
            seeds = seeds[CALLERS:]
            for share, seed in zip(_shares(frames, CONNECTIONS), seeds, strict=False):
                group.create_task(self._frames(share, Random(seed)))
            rest = count - payloads - frames
            for share, seed in zip(_shares(rest, CONNECTIONS), seeds[CONNECTIONS:], strict=True):
                group.create_task(self._raw(share, Random(seed)))
        gc.collect()  # a channel that is closed keeps its connection until then

    async def _payloads(self, channel: grpc.aio.Channel, count: int, random: Random) -> None:
        calls: dict[str, Any] = {
            name: channel.unary_unary(name, None, None)  # bytes as they are
            for name, _ in messages.METHODS
        }
        names, weights = zip(*messages.METHODS, strict=True)
        for _ in range(count):
            name = random.choices(names, weights)[0]
            call = calls[name](messages.payload(random), timeout=ANSWER_S)
            try:
                reply = await call
                self._outcome.answers["OK"] += 1
                if name == messages.ASSIGN:
                    await self._give_back(calls[messages.IDLE], reply)
            except grpc.aio.AioRpcError as error:
                self._outcome.answers[error.code().name] += 1
                self._outcome.hung += error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            self._count("mutated messages")

    async def _give_back(self, idle: Any, reply: bytes) -> None:
        assigned = pb.AssignReply.FromString(reply)
        if assigned.assigment.instance_id:
            await idle(done(assigned.assigment).SerializeToString(), timeout=ANSWER_S)

    async def _frames(self, count: int, random: Random) -> None:
        while count > 0:
            here = min(count, FRAMES)
            streams = [2 * number + 1 for number in range(here)]
            if random.random() < 0.2:
                random.shuffle(streams)
            settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
            frames = [messages.frame(random, stream) for stream in streams]
            await self._send([messages.PREFACE + settings, *frames], random, self._where[1])
            count -= here
            self._count("HTTP/2 frames", here)

    async def _raw(self, count: int, random: Random) -> None:
        for _ in range(count):
            port = self._page_port if random.random() < 0.05 else self._where[1]
            await self._send([messages.raw(random)], random, port)
            self._count("random bytes")

    async def _send(self, pieces: list[bytes], random: Random, port: int) -> None:
        try:
            reader, writer = await asyncio.open_connection(self._where[0], port)
        except OSError:
            self._outcome.answers["connection refused"] += 1
            return
        try:
            for piece in pieces:
                writer.write(piece)
            await writer.drain()
            if random.random() < 0.3:  # hear it out; it closes, or says nothing more
                async with asyncio.timeout(0.05):
                    while await reader.read(65_536):
                        pass
        except (OSError, TimeoutError):
            pass
        finally:
            if random.random() < 0.5:  # a reset, not an orderly end
                end = writer.get_extra_info("socket")
                if end is not None:
                    with suppress(OSError):  # the other side was sooner
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            writer.close()

    def _count(self, kind: str, sent: int = 1) -> None:
        self._outcome.sent[kind] += sent
        self._on_progress(sent)


def _shares(count: int, into: int) -> list[int]:
    return [count // into + (number < count % into) for number in range(into)]


async def _state(process: Process, page: str) -> State:
    seen = psutil.Process(process.process.pid)
    status, text = await asyncio.to_thread(get, f"{page}/metrics")
    assert status == 200, text
    values = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return State(
        resident_mb=seen.memory_info().rss / 2**20,
        connections=sum(each.status == "ESTABLISHED" for each in seen.net_connections()),
        files=seen.num_fds(),
        threads=seen.num_threads(),
        slots=sum(float(value) for name, value in values if name.startswith("scaler_slots{")),
        waiting=sum(float(value) for name, value in values if name == "scaler_waiting_requests"),
    )


async def _settled(process: Process, page: str, most_files: int) -> State:
    """The state once nothing is left of the attack, or SETTLE_S later: gRPC closes sockets of
    connections that were reset some seconds after."""
    state = await _state(process, page)
    for _ in range(int(SETTLE_S)):
        left = state.slots or state.waiting or state.connections > 2
        if not left and state.files <= most_files:
            break
        await asyncio.sleep(1.0)
        state = await _state(process, page)
    return state


async def _serve_sound(address: str, count: int) -> None:
    """So many instances, of half as many apps; no request is like another."""
    numbers = iter(range(count))

    async def caller(stub: ScalerStub) -> None:
        for number in numbers:
            meta = pb.Meta(key=f"sound {number // 2}", memory_in_mb=128)
            reply = await stub.Assign(assign(f"{number}", meta), timeout=ANSWER_S)
            idle = done(reply.assigment, need_destroy=True)
            idle.result.duration_in_ms = number
            await stub.Idle(idle, timeout=ANSWER_S)

    async with grpc.aio.insecure_channel(address) as channel, asyncio.TaskGroup() as group:
        stub = ScalerStub(channel)  # type: ignore[no-untyped-call]
        for _ in range(CALLERS):
            group.create_task(caller(stub))


async def _serves(address: str) -> bool:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = ScalerStub(channel)  # type: ignore[no-untyped-call]
        try:
            reply = await stub.Assign(assign("after"), timeout=ANSWER_S)
            await stub.Idle(done(reply.assigment), timeout=ANSWER_S)
        except grpc.aio.AioRpcError:
            return False
    return bool(reply.assigment.instance_id)
