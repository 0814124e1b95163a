"""How the process asks the kernel to run its threads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.threads import GRPCS_OWN, NICENESS
from tests.service.running import scaler


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux only")
def test_grpcs_threads_do_not_push_the_event_loop_aside() -> None:
    with scaler("--policy", "fixed:1") as process:
        process.until("serving on port")
        pid = process.process.pid
        told = [
            (os.sched_getscheduler(thread), os.getpriority(os.PRIO_PROCESS, thread))
            for task in Path(f"/proc/{pid}/task").iterdir()
            if (task / "comm").read_text().strip() in GRPCS_OWN
            for thread in [int(task.name)]
        ]
        assert told
        nice = os.getpriority(os.PRIO_PROCESS, 0)  # ours, and with it the scaler's
        assert set(told) == {(os.SCHED_BATCH, nice + NICENESS)}
        assert os.sched_getscheduler(pid) == os.SCHED_BATCH
        assert os.getpriority(os.PRIO_PROCESS, pid) == nice
        assert process.terminate() == 0
