"""Apps whose load rises at the same time every day: what was measured before, and what comes."""

from __future__ import annotations

import math
import subprocess
from dataclasses import dataclass
from pathlib import Path
from random import Random

DAY_S = 86_400.0
LASTS_S = 900.0
NEAR_S = 1_200.0
"""About a rise every STEP_S is written, else every SPARSE_S."""
STEP_S, SPARSE_S = 15.0, 240.0
LATE_S = 10.0
"""By so much a day's rise is later than the earliest."""
USED = 0.8
"""Nobody plans for replicas that are full."""
NOISE = 0.1
"""By this share a day's level differs from the usual, either way."""


@dataclass(frozen=True)
class Rise:
    """One app, with its rise on each day. Drawn by its name and the seed alone."""

    app: str
    at_s: float
    """Today's earliest, seconds since the epoch."""
    level: float
    concurrency: int
    """That a container is planned for: USED of what it holds."""
    start_s: float
    seed: int

    def of_day(self, days_ago: int) -> tuple[float, float]:
        """When it rose, and to what."""
        random = Random(f"{self.seed} {self.app} {days_ago}")
        at_s = self.at_s - days_ago * DAY_S + random.uniform(0.0, LATE_S)
        return at_s, round(self.level * random.uniform(1.0 - NOISE, 1.0 + NOISE), 3)

    def value(self, now_s: float) -> float:
        """Requests at once."""
        days_ago = max(0, math.ceil((self.at_s - now_s) / DAY_S))
        for each in (days_ago, days_ago + 1):
            at_s, level = self.of_day(each)
            if at_s <= now_s < at_s + LASTS_S:
                return level
        return float(self.concurrency)  # between rises one replica has all it is planned for

    def needed(self) -> int:
        """Replicas that hold what comes today."""
        return math.ceil(self.of_day(0)[1] * USED / self.concurrency)

    def planned(self) -> int:
        """Replicas for what comes today that have as much room as was asked for."""
        return math.ceil(self.of_day(0)[1] / self.concurrency)


def drawn(count: int, first_s: float, last_s: float, seed: int) -> list[Rise]:
    """Rises spread over a stretch of today."""
    random = Random(seed)
    return [
        Rise(
            app=f"rise-{number}",
            at_s=first_s + (last_s - first_s) * number / count,
            level=random.uniform(8.0, 60.0),
            concurrency=random.choice((2, 4, 8)),
            start_s=random.choice((10.0, 20.0, 40.0)),
            seed=seed,
        )
        for number in range(count)
    ]


def backfill(
    rises: list[Rise], data: Path, until_s: float, days: int, sparse_s: float = SPARSE_S
) -> None:
    """Writes what was measured into a Prometheus' storage, before it starts."""
    data.mkdir(parents=True, exist_ok=True)
    file = data.parent / "history.om"
    with file.open("w") as out:
        out.write("# TYPE in_flight gauge\n")
        for rise in rises:
            for at_s in _times(rise, until_s, days, sparse_s):
                out.write(f'in_flight{{app="{rise.app}"}} {rise.value(at_s):g} {at_s:.3f}\n')
        out.write("# EOF\n")
    make = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(file), str(data)]
    subprocess.run(make, check=True, capture_output=True)
    file.unlink()


def _times(rise: Rise, until_s: float, days: int, sparse_s: float) -> list[float]:
    found, at_s = [], until_s - days * DAY_S
    while at_s < until_s:
        found.append(at_s)
        off_s = (at_s - rise.at_s + DAY_S / 2.0) % DAY_S - DAY_S / 2.0
        at_s += STEP_S if -NEAR_S < off_s < LASTS_S + NEAR_S else sparse_s
    return found
