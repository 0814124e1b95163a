"""How the process asks the kernel to run its threads."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.flood import connect
from tests.service.running import PATIENCE_S, scaler, until
from warmscaler.service.front.threads import BETTER, CROWDED, FORGOTTEN_S, GRPCS_OWN, Cores
from warmscaler.simulator.platform import SimulatedPlatform

CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()

LEFT_S = FORGOTTEN_S + PATIENCE_S
"""Within that a crowded core is left: other tests may have crowded the other one just before."""


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


def test_a_crowded_core_is_left_for_one_that_is_not_known_to_be_as_bad() -> None:
    cores = Cores({0, 1})
    assert cores.next(0.0, 0, CROWDED) == {0}
    assert cores.next(1.0, 0, 0.4) == {1}
    assert cores.next(2.0, 1, 0.5) == {1}, "the one before was no better"
    assert cores.next(1.0 + FORGOTTEN_S, 1, 0.5) == {0}, "it may be by now"
    assert cores.next(2.0 + FORGOTTEN_S, 0, 0.9 * BETTER * 0.5) == {0}
    assert Cores({0, 1, 2}).next(0.0, 0, 0.4) == {1, 2}, "the kernel chooses"


@given(
    turns=st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 1.0)), max_size=50),
    count=st.integers(2, 5),
)
def test_the_core_is_always_one_that_is_allowed(
    turns: list[tuple[float, float]], count: int
) -> None:
    cores, core, now_s = Cores(set(range(count))), 0, 0.0
    for pause_s, waited in turns:
        now_s += pause_s
        best = cores.next(now_s, core, waited)
        assert best
        assert best <= cores.allowed
        assert best == {core} or (core not in best and waited > CROWDED)
        core = min(best)


@pytest.mark.skipif(len(CORES) < 2, reason="for Linux, with more than one core")
async def leave() -> None:
    platform = SimulatedPlatform({"app-0": 0.0}, create_ms=0.0)
    await platform.start()
    try:
        with scaler("--policy", "fixed:60", "--platform", f"127.0.0.1:{platform.port}") as process:
            port = int((await asyncio.to_thread(lambda: process.address)).rpartition(":")[2])
            pid = process.process.pid
            flood = await connect(port, 1, 5_000)
            # enough to want more of a core than is left of a busy one
            calls = asyncio.create_task(flood.open(1_000.0, PATIENCE_S + LEFT_S))
            await until(lambda: len(os.sched_getaffinity(pid)) == 1)
            crowded = os.sched_getaffinity(pid)
            hold = f"import os\nos.sched_setaffinity(0, {crowded})\nwhile True: pass"
            neighbour = subprocess.Popen([sys.executable, "-c", hold])  # noqa: ASYNC220
            try:
                async with asyncio.timeout(LEFT_S):
                    while os.sched_getaffinity(pid) & crowded:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
            finally:
                neighbour.kill()
                neighbour.wait()
            assert flood.seen.outcomes["accepted"] > 0
            calls.cancel()
            assert await asyncio.to_thread(process.terminate) == 0
    finally:
        await platform.stop()


@pytest.mark.skipif(len(CORES) < 2, reason="for Linux, with more than one core")
def test_the_event_loop_leaves_a_core_that_others_are_held_to() -> None:
    asyncio.run(leave())


def settled(so: Callable[[], bool]) -> None:
    """Within some turns. The event loop is free for a moment in each."""
    end_s = time.monotonic() + PATIENCE_S
    while not so():
        assert time.monotonic() < end_s
        time.sleep(0.005)
