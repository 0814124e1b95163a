"""The replicas of one app: observations in, replicas wanted and the reason out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from warmscaler.replicas import experts, levels, past, quantiles
from warmscaler.replicas.bounds import Bounds
from warmscaler.replicas.fleet import Fleet
from warmscaler.replicas.forecast import Forecast
from warmscaler.replicas.levels import LOOK_S
from warmscaler.replicas.overrides import Override
from warmscaler.replicas.spec import AppSpec

PROBABILITIES = (0.5, 0.9, 0.99)


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
        forecast: Forecast | None = None,
        fleet: Fleet | None = None,
        look_s: float = LOOK_S,
        overrides: Sequence[Override] = (),
    ) -> None:
        """Without a `forecast` it goes by the last values and the day before.

        `fleet` is shared with the other planners; `look_s` is how often replicas are asked for.
        """
        self.spec = spec
        self._forecast, self._fleet = forecast, Fleet() if fleet is None else fleet
        self._bounds = Bounds(spec, look_s, overrides)
        self._terms = experts.terms_of(spec)
        self._memory, self._accounts = levels.fresh(8), experts.opened(self._terms)
        costs = None if forecast is None else forecast.costs_at(spec.price)
        self._begins_s = None if costs is None else costs * self._terms.miss_s
        if self._begins_s is not None:
            self._accounts.cost[:] = self._begins_s
        self._lead = 1 + self._terms.start_looks
        self._rows = np.zeros((8, len(levels.FACTS)), dtype=np.float32)
        self._chances = np.zeros(0)
        self._alpha = quantiles.ALPHA
        self._upper = [0.0] * self._lead
        self._look, self._steps = -1, 0
        self._last_s = self._stepped_s = -math.inf
        self._peak, self._mean, self._in_use = 0.0, 0.0, 0

    def remember(self, times_s: Sequence[float], concurrency: Sequence[float]) -> None:
        """Takes in what was measured before the first `observe`: as observing each does, in one go.

        With numba a day takes milliseconds, without it seconds; either may run in a thread. What a
        model would have forecast then is not worked out. Raises ValueError after an `observe`, or
        where times do not rise or a number is not finite or below 0.
        """
        times, values = np.asarray(times_s, dtype=np.float64), np.asarray(concurrency)
        if self._look >= 0 or self._last_s > -math.inf:
            raise ValueError("something was observed already: the past comes first")
        if not len(times):
            return
        known = np.isfinite(times).all() and np.isfinite(values).all() and (values >= 0.0).all()
        if not known or (np.diff(times) < 0.0).any():
            raise ValueError("times must rise, and what was measured be numbers from 0 on")
        looks, needed, mean = past.by_look(self.spec, times, values)
        self._memory = levels.grown(self._memory, levels.levels_for(float(needed.max())))
        replay = past.replayer(len(looks))
        self._accounts.cost[:] = 0.0
        replay(self._memory, self._accounts, self._terms, looks, needed, mean)
        if self._begins_s is not None:
            # What the model would have cost this app is not known: as much as the best of the others.
            cost = self._accounts.cost
            cost[experts.LEARNED :] = cost[: experts.LEARNED].min()
            cost += self._begins_s
        self._look, self._last_s = int(looks[-1]), float(times[-1])
        self._stepped_s = self._last_s
        self._in_use = int(needed[-1])
        self._fleet.note(self.spec.app, self._look, float(needed[-1]))

    def observe(
        self,
        now_s: float,
        concurrency: float,
        *,
        in_use: int | None = None,
        mean: float | None = None,
    ) -> None:
        """The most requests at once since the observation before (executing or waiting).

        `now_s` is seconds since the epoch (UTC). An observation that is older than the last one is
        left out. `in_use` is how many replicas serve a request now; else it is reckoned from
        `concurrency`. `mean` is the average since then where it is known, as rate times duration: it
        tells what replicas were used for. Observations may be missing: what lies between is taken
        as unseen, not as 0. Raises ValueError where a number is not finite or below 0.
        """
        for value in (concurrency, 0.0 if mean is None else mean):
            if not (math.isfinite(now_s) and math.isfinite(value) and value >= 0.0):
                raise ValueError(f"concurrency {value!r} at {now_s!r}: not a number from 0 on")
        if now_s < self._last_s:
            return
        needed = float(min(self.spec.replicas_for(concurrency), levels.THRESHOLDS[-1]))
        average = concurrency if mean is None else min(mean, concurrency)
        self._last_s = now_s
        self._in_use = int(needed) if in_use is None else in_use
        self._peak = max(self._peak, needed)
        self._mean = max(self._mean, average / self.spec.container_concurrency)
        # Observations that come early wait for their look to fill; one that is late closes several.
        if now_s >= self._stepped_s + 0.75 * LOOK_S:
            self._step(now_s)

    def wanted(self, now_s: float) -> Wanted:
        """Replicas to have started by `now_s`. Before any observation: `least`, and overrides."""
        if self._look < 0:
            replicas, rule = self._bounds.apply(now_s, 0, 0)
            reason = "nothing observed yet" + (f"; {replicas} by {rule}" if rule else "")
            return Wanted(replicas, reason, tuple((p, 0.0) for p in PROBABILITIES), "none")
        spec, follow = self.spec, experts.cheapest(self._accounts)
        name = experts.NAMES[follow]
        if spec.objective is not None and len(self._chances):
            name = f"learned, objective {spec.objective:g}"
            target = math.ceil(self._quantile(spec.objective) - 1.0)
        else:
            target = int(experts.followed(self._accounts)[1])
        replicas, rule = self._bounds.apply(now_s, target, self._in_use)
        found = self._quantiles()
        reason = f"{name}: {target} in {spec.start_s:g} s, peak below {found[1][1]:g} in 9 of 10"
        if rule:
            reason += f"; {replicas} by {rule}"
        return Wanted(replicas, reason, found, name)

    def _step(self, now_s: float) -> None:
        """Takes in what was observed as one look, and forecasts."""
        look = round(now_s / LOOK_S)
        missing = max(look - self._look - 1, 0) if self._look >= 0 else 0
        self._look = look = max(look, self._look + 1)
        self._stepped_s = now_s
        needed, mean = self._peak, self._mean
        self._peak = self._mean = 0.0
        self._memory = levels.grown(self._memory, levels.levels_for(needed))
        experts.charge(self._accounts, self._terms, needed, mean)
        levels.advance(self._memory, look, missing, needed)
        self._fleet.note(self.spec.app, look, needed)
        if self._forecast is not None and levels.is_due(self._memory, look):
            self._chances = self._predict(self._forecast, look)
        count = len(self._chances)
        experts.propose(self._accounts, self._memory, self._terms, look, self._chances, count)
        place = self._steps % self._lead
        if self._steps >= self._lead and not missing:
            share = quantiles.covered(self._upper[place], needed)
            self._alpha = quantiles.adapted(self._alpha, share)
        self._upper[place] = self._quantile(1.0 - self._alpha)
        self._steps += 1

    def _predict(
        self, forecast: Forecast, look: int
    ) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        count = levels.watched(self._memory)
        if len(self._rows) < count:
            self._rows = np.zeros((count, len(levels.FACTS)), dtype=np.float32)
        levels.describe(self._memory, look, self._lead, self._fleet.level, self._rows)
        return np.minimum.accumulate(forecast.chances(self._rows[:count]))

    def _quantile(self, probability: float) -> float:
        return quantiles.quantile(self._chances, len(self._chances), probability)

    def _quantiles(self) -> tuple[tuple[float, float], ...]:
        """As counts of requests; without a model, of the last look."""
        places = self.spec.container_concurrency
        if not len(self._chances):
            last = float(self._memory.day[self._look % levels.DAY_LOOKS] * places)
            return tuple((probability, last) for probability in PROBABILITIES)
        found, before = [], 0.0
        for probability in PROBABILITIES:
            at = 1.0 - self._alpha if probability == 0.9 else probability
            before = max(before, math.ceil(self._quantile(at) - 1.0) * places)
            found.append((probability, float(before)))
        return tuple(found)
