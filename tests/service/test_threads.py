"""How the process asks the kernel to run its threads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.service.running import scaler


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux only")
def test_grpcs_threads_do_not_push_the_event_loop_aside() -> None:
    with scaler("--policy", "fixed:1") as process:
        process.until("serving on port")
        pid = process.process.pid
        told = [
            os.sched_getscheduler(int(task.name))
            for task in Path(f"/proc/{pid}/task").iterdir()
            if (task / "comm").read_text().strip() == "event_engine"
        ]
        assert told
        assert set(told) == {os.SCHED_BATCH}
        assert os.sched_getscheduler(pid) == os.SCHED_BATCH
        assert process.terminate() == 0
