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
        threads = {
            int(task.name): (task / "comm").read_text().strip()
            for task in Path(f"/proc/{pid}/task").iterdir()
        }
        told = {name: os.sched_getscheduler(thread) for thread, name in threads.items()}
        assert "event_engine" in told
        assert told["event_engine"] == os.SCHED_BATCH
        assert os.sched_getscheduler(pid) == os.SCHED_BATCH
        assert process.terminate() == 0
