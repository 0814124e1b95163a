"""Whole commands, timed from outside: what a user waits for and what the machine must have."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from tests.bench.table import TRACE, Row, step

SCALER = (sys.executable, "-m", "warmscaler")


def run(*arguments: str) -> tuple[float, float, str]:
    """Runs `scaler ARGUMENTS`: seconds, peak MB of it and its children at once, its output."""
    began_s = time.perf_counter()
    process = subprocess.Popen([*SCALER, *arguments], stdout=subprocess.PIPE, text=True)
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            try:
                root = psutil.Process(process.pid)
                family = [root, *root.children(recursive=True)]
                peak = max(peak, sum(_unshared(each) for each in family))
            except psutil.Error:
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate()
    done.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"scaler {' '.join(arguments)}: exit code {process.returncode}")
    return time.perf_counter() - began_s, peak / 1e6, output


def _unshared(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def measure() -> list[Row]:
    """Loading and training on the shared trace."""
    with tempfile.TemporaryDirectory() as folder:
        step("loading")
        loading_s, _, _ = run("trace", "info", str(TRACE))
        step("training")
        model = str(Path(folder) / "model")
        jobs = str(os.cpu_count() or 1)
        training_s, training_mb, _ = run(
            "train", str(TRACE), "--out", model, "--until", "0.5", "--jobs", jobs
        )
    return [
        Row("scaler trace info, the command whole", loading_s, "s"),
        Row("scaler train, first half of the day", training_s, "s", 20.0),
        Row("  its peak memory, all processes", training_mb, "MB", 700.0),
    ]
