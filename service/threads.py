"""The event loop and the threads beside it: who runs when, and where."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from pathlib import Path

SWITCH_S = 0.0001
"""How long one thread may keep the others waiting for Python's lock, each time: Python's own is 5 ms.
The event loop then stands for less behind a model being read, and a start behind a row being
written."""

GRPCS_OWN = ("event_engine", "lifeguard")
"""Threads of gRPC's that read and write sockets, and the one that starts more of them."""
HANDS_OVER = "(_poll_wrapper)"
"""How the name of the thread ends that brings the event loop what gRPC has for it."""
TOGETHER_S = 1.0
LOOSE_S = 0.01
"""Every TOGETHER_S the kernel has so long to move the event loop to a core that has more to give."""


def switch_soon() -> None:
    """For this process, from now on."""
    sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_S))


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


async def stay_together() -> None:
    """Until cancelled, keeps the event loop, this thread, on one core with who hands over to it.

    A call is handed over some four times. On one core the event loop does all that it has, then the
    other brings all that came meanwhile: one switch for many. On two cores each wakes the other for
    each, and the one that hands over waits behind gRPC's reading threads while the event loop sleeps.

    Which core is the kernel's choice, anew every TOGETHER_S. Threads that were started here meanwhile
    inherit its one core, and are let go. For Linux, once gRPC has begun; elsewhere, with one core,
    and where a sandbox forbids it, it returns.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    allowed = os.sched_getaffinity(0)
    here = threading.get_native_id()
    together = {here, *handing_over()}
    if len(allowed) < 2 or len(together) < 2:
        return
    with contextlib.suppress(OSError):
        try:
            while True:
                core = {_core(here)}
                for thread in _threads():
                    _put(thread, core if thread in together else allowed)
                await asyncio.sleep(TOGETHER_S)
                _put(here, allowed)
                await asyncio.sleep(LOOSE_S)
        finally:
            for thread in _threads():
                _put(thread, allowed)


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


def _put(thread: int, cores: set[int]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.sched_setaffinity(thread, cores)
