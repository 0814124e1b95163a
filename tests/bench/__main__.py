"""`make bench`: every figure of speed and size, next to its target."""

from __future__ import annotations

import sys

from tests.bench import books_cost, commands, deciding, service_cost
from tests.bench.table import TRACE, show


def main() -> None:
    if not TRACE.exists():
        sys.exit(f"{TRACE} is not there; set SCALER_BENCH_TRACE to a trace")
    show(
        [*service_cost.measure(), *books_cost.measure(), *deciding.measure(), *commands.measure()],
        "make bench",
    )


if __name__ == "__main__":
    main()
