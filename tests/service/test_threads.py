"""How the process asks the kernel to run its threads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.threads import GRPCS_OWN, TOGETHER_S
from tests.service.running import scaler

CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def named(pid: int) -> dict[int, str]:
    """The threads of a process."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {int(task.name): (task / "comm").read_text().strip() for task in tasks}


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux only")
def test_grpcs_threads_and_the_event_loop_do_not_push_each_other_aside() -> None:
    with scaler("--policy", "fixed:1") as process:
        process.until("serving on port")
        pid = process.process.pid
        own = [thread for thread, name in named(pid).items() if name in GRPCS_OWN]
        assert own
        assert {os.sched_getscheduler(thread) for thread in (pid, *own)} == {os.SCHED_BATCH}
        assert process.terminate() == 0


@pytest.mark.skipif(len(CORES) < 2, reason="for Linux, with more than one core")
def test_the_event_loop_and_who_hands_over_to_it_share_a_core_and_no_other_thread_is_held() -> None:
    with scaler("--policy", "fixed:1") as process:
        process.until("serving on port")
        pid = process.process.pid

        def on_one_core() -> set[int]:
            cores = {thread: os.sched_getaffinity(thread) for thread in named(pid)}
            held = {thread for thread, on in cores.items() if len(on) == 1}
            assert len({frozenset(cores[thread]) for thread in held}) <= 1
            assert all(cores[thread] == CORES for thread in cores.keys() - held)
            return held

        settled(lambda: len(on_one_core()) == 2 and pid in on_one_core())
        (other,) = on_one_core() - {pid}
        assert named(pid)[other] not in GRPCS_OWN
        assert os.sched_getscheduler(other) == os.SCHED_BATCH

        # as a thread that the event loop starts would inherit it
        third = next(thread for thread, name in named(pid).items() if name in GRPCS_OWN)
        os.sched_setaffinity(third, os.sched_getaffinity(other))
        settled(lambda: os.sched_getaffinity(third) == CORES)
        assert process.terminate() == 0


def settled(so: Callable[[], bool]) -> None:
    """Within some turns. The event loop is free for a moment in each."""
    end_s = time.monotonic() + 10.0 * TOGETHER_S
    while not so():
        assert time.monotonic() < end_s
        time.sleep(0.005)
