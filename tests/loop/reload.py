"""`make reload`: a hundred new versions, a third of them bad, under a server that is kept busy.

Three processes: the server, with `scaler serve --store`'s follower; the callers, who keep a hundred
apps warm and write down how long each request took; and this one, which moves the store's pointer.
A request that was there while a version was read, tried or taken up is compared with the others.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import psutil
import uvloop

from tests.bench.table import Row, show, step
from warmscaler.models.artifact.folder import write_artifact
from warmscaler.models.artifact.store import Store
from warmscaler.models.learned.habits import AppHabits, LevelHabits, Model
from warmscaler.service.front.memory import settle_memory
from warmscaler.service.front.server import ScalerServer
from warmscaler.service.persistence.follow import Follower
from warmscaler.service.proto import scaler_pb2 as pb
from warmscaler.service.proto import scaler_pb2_grpc
from warmscaler.simulator.platform import SimulatedPlatform

POLL_S = 0.05
INIT_MS = 200.0
MEMORY_MB = 128
CALM_S = 0.4
"""Between one version and the next, and how long apps are handed over after a version came."""
HELD_MS = 20.0
"""A request that took so much longer than the longest of the others waited for the reload, which
takes several times that from reading to handing over; a start takes ten times that."""
HOLD_MS = 5.0
"""For so long the event loop may be busy with a reload at a stretch."""
GROWTH_MB = 5.0
ABOUT = {"created": "", "trained_on": {"name": "reload", "last_arrival_ms": 0}}


@dataclass(frozen=True, slots=True)
class Size:
    """How much of it."""

    reloads: int = 100
    apps: int = 100
    known_apps: int = 500
    """In each model."""
    callers: int = 8
    pause_s: float = 0.01
    """Of a caller, between its requests."""
    warm_s: float = 3.0
    """After every app was started, before the first version."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the callers met: when each request began, and what it took."""

    began_s: Sequence[float]
    took_s: Sequence[float]
    moved_s: Sequence[float]
    """When a request got another instance than its app's last: it waited for a start."""
    failed: int


# The server


class _Timed(Follower):
    """Knows for how long it held the event loop at a stretch: its own CPU, whatever else runs."""

    held_s = 0.0

    def _swap(self, *arguments: Any) -> None:
        begun_s = time.thread_time()
        super()._swap(*arguments)
        self.held_s = max(self.held_s, time.thread_time() - begun_s)

    def _hand_over(self, *arguments: Any) -> None:
        begun_s = time.thread_time()
        super()._hand_over(*arguments)
        self.held_s = max(self.held_s, time.thread_time() - begun_s)


async def _serve(pipe: Connection, folder: str, apps: int) -> None:
    platform = SimulatedPlatform({f"app-{n}": INIT_MS for n in range(apps)}, create_ms=10.0)
    await platform.start()
    follower = _Timed(Store(folder), poll_s=POLL_S)
    server = ScalerServer(follower.first(), f"127.0.0.1:{platform.port}", "127.0.0.1:0")
    settle_memory()
    await server.start()
    follower.start(server.driver.scheduler)
    pipe.send(server.port)
    while await asyncio.to_thread(pipe.recv):
        pipe.send((follower.version, follower.reloads, follower.refusals, follower.held_s))
    follower.close()
    await server.stop(1.0)
    await platform.stop()


def _server(pipe: Connection, folder: str, apps: int) -> None:
    uvloop.run(_serve(pipe, folder, apps))


# The callers


async def _call(pipe: Connection, port: int, size: Size) -> None:
    began_s: list[float] = []
    took_s: list[float] = []
    moved_s: list[float] = []
    failed = 0
    last: dict[int, str] = {}

    async def caller(stub: scaler_pb2_grpc.ScalerStub, number: int) -> None:
        nonlocal failed
        turn = 0
        while True:
            for app in range(number, size.apps, size.callers):
                turn += 1
                meta = pb.Meta(key=f"app-{app}", runtime="go", memory_in_mb=MEMORY_MB)
                request = pb.AssignRequest(request_id=f"{app}-{turn}", meta_data=meta)
                at_s = time.monotonic()
                try:
                    reply = await stub.Assign(request, timeout=10.0)
                    began_s.append(at_s)
                    took_s.append(time.monotonic() - at_s)
                    instance_id = reply.assigment.instance_id
                    if last.get(app, instance_id) != instance_id:
                        moved_s.append(at_s)
                    last[app] = instance_id
                    result = pb.Result(status_code=200)
                    await stub.Idle(pb.IdleRequest(assigment=reply.assigment, result=result))
                except grpc.aio.AioRpcError:
                    failed += 1
                await asyncio.sleep(size.pause_s)

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = scaler_pb2_grpc.ScalerStub(channel)  # type: ignore[no-untyped-call]
        tasks = [asyncio.create_task(caller(stub, number)) for number in range(size.callers)]
        while len(last) < size.apps and not failed:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        pipe.send(True)
        await asyncio.to_thread(pipe.recv)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    pipe.send(Seen(began_s, took_s, moved_s, failed))


def _callers(pipe: Connection, port: int, size: Size) -> None:
    uvloop.run(_call(pipe, port, size))


# The models


def model(size: Size, chance: np.random.Generator) -> Model:
    """Every app is called every second or so; the habits are others in each."""
    apps = {}
    for number in range(size.known_apps):
        gaps_ms = chance.uniform(500.0, 5_000.0, 200)
        phases_ms = chance.uniform(0.0, 300_000.0, 200)
        level = LevelHabits(gaps_ms, phases_ms, 5.0, 0.0)
        apps[f"app-{number}"] = AppHabits(1_000.0, (level, level))
    return Model(price_s_per_gb_s=0.001, apps=apps)


def good_versions(store: Store, size: Size, chance: np.random.Generator) -> list[str]:
    return [store.add(model(size, chance), ABOUT) for _ in range(6)]


def bad_versions(store: Store, size: Size, chance: np.random.Generator) -> list[str]:
    """Torn, one bit another, no manifest to speak of; and whole with numbers that cannot be."""
    assert store.folder is not None
    versions = store.folder / "versions"
    names = [store.add(model(size, chance), ABOUT) for _ in range(3)]
    for name, file in zip(names, ("gaps_ms.npy", "prior_ms.npy", "manifest.json"), strict=True):
        path = versions / name / file
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0x55
        path.write_bytes(content if file != "gaps_ms.npy" else content[: len(content) // 2])
    fine = model(size, chance)
    nonsense = (
        replace(fine, price_s_per_gb_s=1e9),
        replace(fine, prior_ms=np.array([-1.0])),
        replace(fine, apps={**fine.apps, "app-0": AppHabits(float("inf"), ())}),
    )
    for number, each in enumerate(nonsense):
        names.append(f"20260101T000000Z-{number:012x}")
        write_artifact(versions / names[-1], each, ABOUT)
    return names


# The pointer


class _Promoter:
    """Moves the pointer, and sees the server take it up or refuse it."""

    def __init__(self, store: Store, size: Size, server: Connection, pid: int) -> None:
        draws = np.random.default_rng(11)
        self._store = store
        self._server = server
        self._usage = psutil.Process(pid)
        self._chance = random.Random(11)
        self._good = good_versions(store, size, draws)
        self._bad = bad_versions(store, size, draws)
        self._history: tuple[str, ...] = ()
        self.spans_s: list[tuple[float, float]] = []
        """From when the pointer moved to when the version was taken up or refused."""
        self.resident_mb: list[float] = []
        self.loaded = self.refused = 0
        self.held_s = 0.0

    def _ask(self) -> tuple[str | None, int, int, float]:
        self._server.send(True)
        answer: tuple[str | None, int, int, float] = self._server.recv()
        return answer

    def _sha256(self, version: str) -> str:
        try:
            return str(self._store.manifest(version)["sha256"])
        except Exception:  # the manifest is what is bad about it
            return "0" * 64

    def turn(self, number: int) -> None:
        """One new version. Every second good one is the version before: a rollback."""
        is_bad = number % 3 == 2
        before = self._ask()
        current = self._history[-1:]
        choice = [each for each in (self._bad if is_bad else self._good) if each not in current]
        choice = [each for each in choice if each != before[0]]
        version = self._chance.choice(choice)
        if not is_bad and number % 2 and len(self._history) > 1:
            back = [each for each in self._history if each in choice]
            version = back[-1] if back else version
        self._history = (*self._history, version)[-50:]
        # Not by `promote`, which refuses the bad ones itself.
        sha256 = self._sha256(version)
        began_s = time.monotonic()
        self._store._point(version, sha256, self._history)
        while (now := self._ask())[1 + is_bad] == before[1 + is_bad]:
            if time.monotonic() - began_s > 10.0:
                raise SystemExit(f"turn {number}: {version} was not taken up nor refused: {now}")
            time.sleep(0.01)
        if now[0] != (before[0] if is_bad else version):
            raise SystemExit(f"turn {number}: {now[0]} serves, after {before[0]} and {version}")
        self.spans_s.append((began_s, time.monotonic()))
        self.held_s = now[3]
        self.loaded += not is_bad
        self.refused += is_bad
        time.sleep(2.0 * CALM_S)
        self.resident_mb.append(self._usage.memory_info().rss / 2**20)


def compare(seen: Seen, spans_s: list[tuple[float, float]], since_s: float) -> list[Row]:
    """The requests around a version that came, against the others, from `since_s` on."""
    began_s, took_s = np.array(seen.began_s), np.array(seen.took_s)
    ended_s = began_s + took_s
    around = np.zeros(len(began_s), dtype=bool)
    for first_s, last_s in spans_s:
        around |= (ended_s >= first_s) & (began_s <= last_s + CALM_S)
    later = began_s >= since_s
    busy, calm = took_s[later & around] * 1000.0, took_s[later & ~around] * 1000.0
    rows = [
        Row("requests around a version that came", len(busy), ""),
        Row("  other requests", len(calm), ""),
        Row("requests that failed", seen.failed, "", 0.0),
        Row(
            "requests that waited for a start",
            float(sum(at_s >= since_s for at_s in seen.moved_s)),
            "",
            0.0,
        ),
        Row(
            f"requests held up: {HELD_MS:g} ms longer than the longest other",
            float((busy > calm.max() + HELD_MS).sum()),
            "",
            0.0,
        ),
    ]
    for share in (0.5, 0.99, 0.999, 1.0):
        name = "the longest" if share == 1.0 else f"p{100 * share:g}"
        rows.append(
            Row(
                f"Assign, {name} around (others {np.quantile(calm, share):.2f})",
                float(np.quantile(busy, share)),
                "ms",
            )
        )
    return rows


def run(size: Size, folder: Path) -> list[Row]:
    """The table."""
    context = multiprocessing.get_context("spawn")
    server, theirs = context.Pipe()
    serving = context.Process(target=_server, args=(theirs, str(folder), size.apps), daemon=True)
    serving.start()
    port: int = server.recv()
    callers, theirs = context.Pipe()
    calling = context.Process(target=_callers, args=(theirs, port, size), daemon=True)
    try:
        assert serving.pid is not None
        promoter = _Promoter(Store(str(folder)), size, server, serving.pid)
        calling.start()
        callers.recv()
        time.sleep(size.warm_s)
        since_s = time.monotonic()
        for number in range(size.reloads):
            promoter.turn(number)
        callers.send(False)
        seen: Seen = callers.recv()
    finally:
        server.send(False)
        serving.join(20.0)
        if calling.pid is not None:
            calling.join(5.0)
            calling.kill()
    resident_mb = promoter.resident_mb
    part = max(len(resident_mb) // 5, 1)
    grown_mb = np.median(resident_mb[-part:]) - np.median(resident_mb[part : 2 * part])
    took_s = [last_s - first_s for first_s, last_s in promoter.spans_s]
    held_s = promoter.held_s
    return [
        Row("versions taken up", promoter.loaded, ""),
        Row("versions refused, the old one stayed", promoter.refused, ""),
        Row("  from the pointer to either, the longest", max(took_s), "s", 10.0),
        Row("the event loop's own time for a reload, the longest", 1e3 * held_s, "ms", HOLD_MS),
        *compare(seen, promoter.spans_s, since_s),
        Row("memory, last fifth above the second", float(grown_mb), "MB", GROWTH_MB),
        Row("  memory at the end", resident_mb[-1], "MB"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make reload")
    parser.add_argument("--count", type=int, default=100, help="versions; at least 10")
    parser.add_argument("--json", action="store_true")
    count = max(parser.parse_args().count, 10)
    step(f"{count} new versions")
    with tempfile.TemporaryDirectory() as folder:
        show(run(Size(count), Path(folder)), "make reload")


if __name__ == "__main__":
    main()
