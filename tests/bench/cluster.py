"""`make bench-cluster`: the same training and evaluation here, and on one and two Dask workers."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import psutil

from tests.bench.commands import run
from tests.bench.table import Row, show, step
from tests.training.test_cluster import dask_cluster

APPS, DAYS, REQUESTS = 30, 0.5, 30_000


def _both(trace: str, folder: Path, where: str, *more: str) -> tuple[float, float, str, str]:
    """Seconds to train and to sweep, the artifact's files as JSON, the figures as JSON."""
    step(f"training {where}")
    model = folder / f"model {where}"
    train_s, _, _ = run("train", trace, "--out", str(model), *more)
    step(f"evaluating {where}")
    settings = [f"--policy={name}" for name in ("fixed:300", "learned", "hybrid-histogram")]
    given = ("--model", str(model), "--sweep", "--json", *settings)
    sweep_s, _, figures = run("evaluate", trace, *given, *more)
    files = json.loads((model / "manifest.json").read_text())["files"]
    return train_s, sweep_s, json.dumps(files, sort_keys=True), figures


def _workers_cpu_s() -> list[float]:
    """What each Dask worker that we started has computed so far."""
    workers = [each for each in psutil.Process().children() if "worker" in each.cmdline()]
    return [float(each.cpu_times().user) for each in workers]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trace = str(folder / "trace.parquet")
        step("generating")
        size = ("--apps", str(APPS), "--days", str(DAYS), "--requests", str(REQUESTS))
        run("trace", "generate", "azure", *size, "--out", trace)
        seen = {"here, one process": _both(trace, folder, "here", "--jobs", "1")}
        busiest_s: list[float] = []
        for workers in (1, 2):
            where = f"cluster, {workers} worker{'s' * (workers > 1)}"
            own = folder / where
            own.mkdir()
            with dask_cluster(own, workers=workers) as address:
                seen[where] = _both(trace, folder, where, "--cluster", address)
                busiest_s.append(max(_workers_cpu_s()))
    local, one, two = seen.values()
    rows = []
    for where, (train_s, sweep_s, _, _) in seen.items():
        rows.append(Row(f"train, {where}", train_s, "s"))
        rows.append(Row(f"sweep of three policies, {where}", sweep_s, "s"))
    rows += [
        Row("train: two workers against one", one[0] / two[0], "times faster"),
        Row("sweep: two workers against one", one[1] / two[1], "times faster"),
        # Seconds tell of what else the machine does as well; this does not.
        Row("CPU of one worker against the busier of two", busiest_s[0] / busiest_s[1], "times"),
        Row(
            "artifacts and figures that differ from the local run's",
            float(sum(each[part] != local[part] for each in (one, two) for part in (2, 3))),
            "",
            0.0,
        ),
        Row("cores of this machine", float(os.cpu_count() or 1), ""),
    ]
    show(rows, "make bench-cluster")


if __name__ == "__main__":
    main()
