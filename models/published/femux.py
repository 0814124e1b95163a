"""FeMux: for each block of minutes the forecaster that costs least on blocks like the last one.

N. Nasiri et al., "In-Production Characterization of an Open Source Serverless Platform and New Scaling
Strategies", EuroSys 2026, and its artifact (ubc-cirrus-lab/femux). An app's mean concurrency by the
minute is forecast a minute ahead, and so many instances are kept. Features of a block of minutes put it
into a cluster of blocks of all apps; the next block is forecast by what cost least, summed over the
blocks that followed those of the cluster. Cost is RUM: seconds of starting, plus memory wasted at a
weight (its default 1 / 99.69 s per GB·s; `4_cs` a quarter of it, `4_wm` four times).

Where the paper leaves room, or our setting differs, we chose (the artifact and its figures were at hand):

- The artifact clusters twelve days of other apps offline and fixes what it found. A trace of a day or an
  hour has no such days, so that ours learns while it serves: every forecaster runs beside the one in
  charge and is charged by the artifact's formula as each minute ends; cost is added up over all apps, for
  the replay's past and nothing else. More is known than offline, never less.
- Clusters are cells of the four features instead of k-means with up to 1,000 centres, which needs tens of
  thousands of blocks; a cell with fewer than `LEAST_BLOCKS` behind it defers to those of its density, and
  these to all.
- Blocks are of 30 minutes, features of the last 120 (the artifact: both 504). With 504 a day has no third.
- Holt's forecaster and SETAR are left out, as in the artifact's own runs (under 5 % of its blocks).
- Concurrency counts requests that wait. The weight is the knob. A start costs what it is observed to take.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from warmscaler.models.policy import AppPolicy, Policy, Pool
from warmscaler.models.published.block_features import Features, features
from warmscaler.models.published.forecasters import (
    LEAST_CONCURRENCY,
    WINDOW_MINUTES,
    all_of_them,
    instances,
)
from warmscaler.models.published.per_minute import Minute, PerMinuteApp

FloatArray = npt.NDArray[np.float64]

WEIGHT = 0.01003
BLOCK_MINUTES = 30
LEAST_BLOCKS = 5
MB_PER_GB = 1024.0
_MINUTE_S = 60.0


def rum_s(wanted: int, minute: Minute, start_s: float, gb: float, weight: float) -> float:
    """What a minute costs where so many instances were forecast, in s: those missing, if as many were
    called, start and stay until its end."""
    used = minute.mean if minute.mean >= LEAST_CONCURRENCY else 0.0
    starts = min(max(instances(used) - wanted, 0), minute.calls)
    wasted = max(wanted + starts - used, 0.0) * gb * _MINUTE_S
    return starts * start_s + weight * wasted


class Experience:
    """What each forecaster cost on blocks, by the features of the block before: over all apps."""

    def __init__(self, forecasters: int) -> None:
        self._cost_s: defaultdict[Hashable, FloatArray] = defaultdict(lambda: np.zeros(forecasters))
        self._blocks: defaultdict[Hashable, int] = defaultdict(int)

    def add(self, before: Features, cost_s: FloatArray) -> None:
        """A block is over that followed one with these features."""
        for key in self._keys(before):
            self._cost_s[key] += cost_s
            self._blocks[key] += 1

    def best(self, of: Features) -> int:
        """The forecaster for a block after one with these features; 0 where nothing is known."""
        for key in self._keys(of):
            if self._blocks[key] >= LEAST_BLOCKS:
                return int(self._cost_s[key].argmin())
        return 0

    @staticmethod
    def _keys(of: Features) -> tuple[Hashable, ...]:
        return of, of.density, None


class _FeMuxApp(PerMinuteApp):
    __slots__ = (
        "_before",
        "_cost_s",
        "_experience",
        "_forecasters",
        "_in_charge",
        "_left",
        "_said",
        "_weight",
    )

    def __init__(self, experience: Experience, weight: float) -> None:
        super().__init__(WINDOW_MINUTES)
        self._experience = experience
        self._weight = weight
        self._forecasters = all_of_them()
        self._in_charge = 0
        self._left = BLOCK_MINUTES
        """Minutes of this block to come."""
        self._before: Features | None = None
        """Of the block before this one."""
        self._cost_s = np.zeros(len(self._forecasters))
        self._said: dict[int, list[int]] = {}
        """Instances by each forecaster for the minute last asked for and the one before."""

    def forecast(self, number: int, minutes: list[Minute], pool: Pool) -> int:
        values = np.array([minute.mean for minute in minutes])
        if values.any():
            said = [instances(each.next(values)) for each in self._forecasters]
        else:
            said = [0] * len(self._forecasters)
        self._said = {k: v for k, v in self._said.items() if k == number - 1}
        self._said[number] = said
        return said[self._in_charge]

    def over(self, number: int, minute: Minute, pool: Pool) -> None:
        for each in self._forecasters:
            each.observe(minute.mean)
        said = self._said.get(number)
        if said is not None:
            start_s, gb = pool.start_ms / 1_000.0, pool.memory_mb / MB_PER_GB
            self._cost_s += [rum_s(each, minute, start_s, gb, self._weight) for each in said]
        self._left -= 1
        if not self._left:
            self._end_block()

    def _end_block(self) -> None:
        if self._before is not None and self._cost_s.any():
            self._experience.add(self._before, self._cost_s)
        self._before = features(np.array([minute.mean for minute in self.minutes]))
        self._in_charge = self._experience.best(self._before)
        self._cost_s = np.zeros(len(self._forecasters))
        self._left = BLOCK_MINUTES


class FeMux(Policy):
    """FeMux; `weight`, seconds of starting that a wasted GB·s is worth, is its knob."""

    late_binding: ClassVar[bool] = True

    def __init__(self, weight: float = WEIGHT) -> None:
        self.weight = weight
        self.name = "femux" if weight == WEIGHT else f"femux:{weight:g}"
        self._experience = Experience(len(all_of_them()))

    def app(self, key: str, memory_mb: int, runtime: str) -> AppPolicy:
        return _FeMuxApp(self._experience, self.weight)
