"""The event loop and the threads beside it: who runs when."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

SWITCH_S = 0.0001
"""How long one thread may keep the others waiting for Python's lock, each time: Python's own is 5 ms.
The event loop then stands for less behind a model being read, and a start behind a row being
written."""

GRPCS_OWN = ("event_engine", "lifeguard")
"""Threads of gRPC's that read and write sockets, and the one that starts more of them."""
NICENESS = 10
"""So much more than the event loop's: for a core that both want it gets nine times as much."""


def switch_soon() -> None:
    """For this process, from now on."""
    sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_S))


def settle_threads() -> None:
    """The event loop, this thread, goes before gRPC's threads, and neither pushes the other aside.

    Those wake for every call: as SCHED_BATCH (sched(7)) they wait until whoever runs has done what it
    has, and for a core that they and the event loop want it gets the most: what was taken is finished
    before more is taken, or refused. The thread that brings the event loop a call remains as it is,
    and does so at once. Threads that gRPC starts later inherit it.

    For Linux, once gRPC has begun; elsewhere, and where a sandbox forbids it, nothing happens.
    """
    if not hasattr(os, "SCHED_BATCH"):
        return
    niceness = os.getpriority(os.PRIO_PROCESS, 0) + NICENESS
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    for task in Path("/proc/self/task").glob("*"):
        with contextlib.suppress(OSError):  # or it has ended
            if (task / "comm").read_text().strip() in GRPCS_OWN:
                os.sched_setscheduler(int(task.name), os.SCHED_BATCH, os.sched_param(0))
                os.setpriority(os.PRIO_PROCESS, int(task.name), niceness)
