"""The event loop and the threads beside it: who runs when, and where."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from math import inf
from pathlib import Path

GRPCS_OWN = ("event_engine", "lifeguard")
"""Threads of gRPC's that read and write sockets, and the one that starts more of them."""
HANDS_OVER = "(_poll_wrapper)"
"""How the name of the thread ends that brings the event loop what gRPC has for it."""
TOGETHER_S = 0.5
"""How often it is looked at whether the event loop gets the core it is on."""
CROWDED = 0.15
"""The share of that time which it may wait for it. Alone on its core, with who hands over to it, it
waits for 0.03 to 0.05; beside a process that is held to the same core and takes a third, for 0.35."""
BETTER = 0.5
"""Another core is worth a move if the share waited there was at most so much of the one here."""
FORGOTTEN_S = 30.0
"""What was seen of another core longer ago does not count: it is taken to be free."""
LOOSE_S = 0.01
"""Where several cores are as good, the kernel has so long to choose."""


def settle_threads() -> None:
    """Neither the event loop, this thread, nor one of gRPC's pushes another aside.

    Those wake for every call: as SCHED_BATCH (sched(7)) they wait until whoever runs has done what it
    has. Threads that gRPC starts later inherit it.

    For Linux, once gRPC has begun; elsewhere, and where a sandbox forbids it, nothing happens.
    """
    if not hasattr(os, "SCHED_BATCH"):
        return
    for thread in (0, *handing_over(), *filter(_is_grpcs_own, _threads())):
        with contextlib.suppress(OSError):  # or it has ended
            os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))


class Cores:
    """Which core the event loop should be on, from how long it waited for each that it was on."""

    def __init__(self, allowed: set[int]) -> None:
        self.allowed = allowed
        self._seen: dict[int, tuple[float, float]] = {}
        """Of a core, the share of a turn that was waited, and when that was (s)."""

    def next(self, now_s: float, core: int, waited: float) -> set[int]:
        """The cores to choose from: `core`, where it is now, alone if it may stay.

        `waited` is the share of the last turn that it could have run there and did not.
        """
        self._seen[core] = (now_s, waited)
        if waited <= CROWDED:
            return {core}
        expected = {other: self._expected(now_s, other) for other in self.allowed}
        least = min(expected.values())
        if least > BETTER * waited:
            return {core}
        return {other for other, share in expected.items() if share == least}

    def _expected(self, now_s: float, core: int) -> float:
        seen_s, waited = self._seen.get(core, (-inf, 0.0))
        return waited if now_s - seen_s < FORGOTTEN_S else 0.0


async def stay_together() -> None:
    """Until cancelled, keeps the event loop, this thread, on one core with who hands over to it.

    A call is handed over some four times. On one core the event loop does all that it has, then the
    other brings all that came meanwhile: one switch for many. On two cores each wakes the other for
    each, and the one that hands over waits behind gRPC's reading threads while the event loop sleeps.

    They leave a core where the event loop waits for its turn: see Cores. Threads that were started
    here meanwhile inherit its one core, and are let go. For Linux, once gRPC has begun; elsewhere,
    with one core, and where a sandbox forbids it or does not tell who waited, it returns.
    """
    if not hasattr(os, "sched_getaffinity"):
        return
    here = threading.get_native_id()
    together = {here, *handing_over()}
    cores = Cores(os.sched_getaffinity(0))
    if len(cores.allowed) < 2 or len(together) < 2:
        return
    with contextlib.suppress(OSError):
        begun_s, begun_waited_s = time.monotonic(), _waited_s(here)
        core = _core(here)
        try:
            while True:
                for thread in _threads():
                    _put(thread, {core} if thread in together else cores.allowed)
                await asyncio.sleep(TOGETHER_S)
                now_s, waited_s = time.monotonic(), _waited_s(here)
                share = (waited_s - begun_waited_s) / (now_s - begun_s)
                begun_s, begun_waited_s = now_s, waited_s
                best = cores.next(now_s, core, share)
                if best != {core}:
                    _put(here, best)
                    await asyncio.sleep(LOOSE_S)
                core = _core(here)
        finally:
            for thread in _threads():
                _put(thread, cores.allowed)


def handing_over() -> list[int]:
    """The threads that bring an event loop what gRPC has for it, one for the process."""
    return [
        thread.native_id
        for thread in threading.enumerate()
        if thread.name.endswith(HANDS_OVER) and thread.native_id is not None
    ]


def _threads() -> list[int]:
    return [int(task.name) for task in Path("/proc/self/task").iterdir()]


def _is_grpcs_own(thread: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/self/task/{thread}/comm").read_text().strip() in GRPCS_OWN
    return False


def _core(thread: int) -> int:
    """Where it ran last (proc(5), `processor`)."""
    status = Path(f"/proc/self/task/{thread}/stat").read_text()
    return int(status.rpartition(")")[2].split()[36])


def _waited_s(thread: int) -> float:
    """How long it could have run and did not, in all. Raises OSError where the kernel does not tell.

    The second of three numbers (sched-stats.rst of Linux), of which the first is never 0 where it does.
    """
    ran_ns, waited_ns, _ = Path(f"/proc/self/task/{thread}/schedstat").read_text().split()
    if int(ran_ns) == 0:
        raise OSError("the kernel keeps no account of who waits")
    return int(waited_ns) / 1e9


def _put(thread: int, cores: set[int]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.sched_setaffinity(thread, cores)
