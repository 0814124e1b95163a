"""The event loop and the threads beside it: who runs when."""

from __future__ import annotations

import contextlib
import os
import sys

SWITCH_S = 0.0001
"""How long one thread may keep the others waiting for Python's lock, each time: Python's own is 5 ms.
The event loop then stands for less behind a model being read, and a start behind a row being
written."""


def switch_soon() -> None:
    """For this process, from now on."""
    sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_S))


def wake_in_turn() -> None:
    """This thread, and those that it starts, take no core from who runs when they wake.

    Threads of gRPC's wake for every call, each time pushing the event loop aside; as SCHED_BATCH
    (sched(7)) they wait until it has done what it has. For Linux; elsewhere nothing happens.
    """
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):  # a sandbox may forbid it: then all is as it was
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
