"""`make bench-large`: two million requests of 400 apps over 14 days, trained on and evaluated."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from tests.bench.commands import run
from tests.bench.table import Row, show, step


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        trace = str(Path(folder) / "large.parquet")
        step("generating")
        made = ("--apps", "400", "--days", "14", "--requests", "2000000", "--out", trace)
        run("trace", "generate", "azure", *made)
        step("training and evaluating")
        policies = [f"--policy={name}" for name in ("fixed:300", "fixed:600", "learned")]
        jobs = f"--jobs={os.cpu_count() or 1}"
        took_s, peak_mb, output = run("evaluate", trace, *policies, jobs, "--json")
    result = json.loads(output)
    rows = [
        Row("train + evaluate fixed and learned", took_s, "s", 240.0),
        Row("  peak memory, all processes", peak_mb, "MB", 2_000.0),
        Row("  measured requests", float(result["requests"]), ""),
    ]
    rows += [Row(f"  score, {p['policy']}", p["score"], "") for p in result["policies"]]
    show(rows, "make bench-large")


if __name__ == "__main__":
    main()
