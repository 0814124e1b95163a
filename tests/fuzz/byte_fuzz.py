"""`make fuzz-bytes`: bytes that were good once, mutated, at the machine without I/O."""

from __future__ import annotations

import argparse
import sys
import time
from random import Random

import psutil

from tests.service.test_http2 import fuzz_once
from tests.service.wire_bytes import captured

MAX_GROWTH_MB = 50.0


def main() -> int:
    """Exit code 0 where nothing crashed, and memory stayed."""
    parser = argparse.ArgumentParser(prog="make fuzz-bytes")
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random, seeds, process = Random(options.seed), captured(), psutil.Process()
    warm_mb, slowest_s, began_s = 0.0, 0.0, time.perf_counter()
    for turn in range(options.count):
        if turn == min(1_000, options.count // 2):
            warm_mb = process.memory_info().rss / 2**20
        before_s = time.perf_counter()
        try:
            fuzz_once(random, seeds)
        except Exception:
            print(f"input {turn} of seed {options.seed}", file=sys.stderr)
            raise
        slowest_s = max(slowest_s, time.perf_counter() - before_s)
    grown_mb = process.memory_info().rss / 2**20 - warm_mb
    took_s = time.perf_counter() - began_s
    print(
        f"{options.count:,} inputs in {took_s:,.0f} s, seed {options.seed}: no crash; "
        f"slowest {1e3 * slowest_s:.0f} ms; memory grew by {grown_mb:.0f} MB"
    )
    return 0 if grown_mb < MAX_GROWTH_MB else 1


if __name__ == "__main__":
    sys.exit(main())
