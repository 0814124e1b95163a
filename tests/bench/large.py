"""`make bench-large`: trains on two million requests of 400 apps over 14 days."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tests.bench.commands import run
from tests.bench.table import Row, show, step


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        trace, model = str(Path(folder) / "large.parquet"), Path(folder) / "model"
        step("generating")
        made = ("--apps", "400", "--days", "14", "--requests", "2000000", "--out", trace)
        run("trace", "generate", "azure", *made)
        step("training")
        jobs = f"--jobs={os.cpu_count() or 1}"
        took_s, peak_mb, _ = run("train", trace, "--out", str(model), jobs)
        size_mb = sum(file.stat().st_size for file in model.rglob("*") if file.is_file()) / 1e6
    rows = [
        Row("training on two million requests", took_s, "s", 180.0),
        Row("  peak memory, all processes", peak_mb, "MB", 1_500.0),
        Row("  the artifact", size_mb, "MB", 10.0),
    ]
    show(rows, "make bench-large")


if __name__ == "__main__":
    main()
