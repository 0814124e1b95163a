"""The replicas of one app: observations in, replicas wanted and the reason out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from warmscaler.replicas.bounds import Bounds
from warmscaler.replicas.overrides import Override
from warmscaler.replicas.recent import Recent
from warmscaler.replicas.spec import AppSpec

LOOK_S = 15.0
"""How often an app is looked at, unless told."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to have started by now, so that it is ready when it is needed."""

    replicas: int
    reason: str
    """One plain line: what was forecast by whom, and which rule changed it."""
    quantiles: tuple[tuple[float, float], ...]
    """(probability, concurrency) of the peak in (now + start, next look + start]; rising in both."""
    forecaster: str
    """Which of the forecasters was followed."""


class ReplicaPlanner:
    """Forecasts one app. Deterministic: time is an input, and its state has a bound.

    `observe` takes what was measured, `wanted` answers as often as it is asked; an answer depends on
    what was observed and the time, not on how often it was asked within a look of `look_s`.
    """

    def __init__(
        self,
        spec: AppSpec,
        *,
        look_s: float = LOOK_S,
        overrides: Sequence[Override] = (),
    ) -> None:
        self.spec, self.look_s = spec, look_s
        self._bounds = Bounds(spec, look_s, overrides)
        self._recent = Recent(look_s)

    def observe(self, now_s: float, concurrency: float, *, in_use: int | None = None) -> None:
        """The most requests at once since the observation before (executing or waiting).

        `now_s` is seconds since the epoch (UTC). An observation that is older than the last one is
        left out. `in_use` is how many replicas serve a request now; else it is reckoned from
        `concurrency`. Observations may be missing: what lies between is taken as unseen, not as 0.
        Raises ValueError where a number is not finite or below 0.
        """
        if not (math.isfinite(now_s) and math.isfinite(concurrency) and concurrency >= 0.0):
            raise ValueError(f"concurrency {concurrency!r} at {now_s!r}: not a number from 0 on")
        in_use = self.spec.replicas_for(concurrency) if in_use is None else in_use
        self._recent.add(now_s, concurrency, in_use)

    def wanted(self, now_s: float) -> Wanted:
        """Replicas to have started by `now_s`. Before any observation: `least`, and overrides."""
        spec = self.spec
        peak, name = self._recent.forecast(now_s + spec.start_s)
        target = spec.replicas_for(peak)
        replicas, rule = self._bounds.apply(now_s, target, self._recent.in_use)
        reason = f"{name}: {target} for a peak of {peak:.4g} in {spec.start_s:g} s"
        if rule:
            reason += f"; {replicas} by {rule}"
        return Wanted(replicas, reason, ((0.5, peak), (0.9, peak), (0.99, peak)), name)
