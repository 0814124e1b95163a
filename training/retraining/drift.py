"""How the newest stretch of a recording differs from what came before it: the fleet, each app.

The measure is the population stability index: the sum over bins of (p - q) ln (p / q), here of the
times between arrivals and of executions, in bins of equal share before. Below 0.1 little changed,
above 0.25 much did (Siddiqi, Credit Risk Scorecards, 2006).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from warmscaler.data.trace import Trace

FloatArray = npt.NDArray[np.float64]
BINS = 20
MUCH = 0.25
FEW = 20
"""With fewer times than this on a side, an app's distribution says nothing."""


@dataclass(frozen=True, slots=True)
class AppDrift:
    """One app, before and now. Rates are per hour; a PSI is None where there is too little."""

    app: str
    requests_before: int
    requests_now: int
    rate_before: float
    rate_now: float
    gap_psi: float | None
    gap_median_before_ms: float | None
    gap_median_now_ms: float | None
    duration_psi: float | None


@dataclass(frozen=True, slots=True)
class Drift:
    """The fleet, and every app called on either side, the most changed first."""

    rate_before: float
    rate_now: float
    apps_before: int
    apps_now: int
    apps_new: int
    """Called now and not before."""
    apps_gone: int
    apps_changed: int
    """Whose times between arrivals have a PSI above MUCH."""
    requests_of_changed: float
    """Their share of the requests now."""
    gap_psi: float | None
    duration_psi: float | None
    apps: tuple[AppDrift, ...]

    def as_json(self, most: int | None = None) -> dict[str, Any]:
        """With the `most` changed apps; None is all."""
        apps = [asdict(each) for each in self.apps[:most]]
        return {name: getattr(self, name) for name in self.__slots__ if name != "apps"} | {
            "apps": apps
        }


def drift(before: Trace, now: Trace) -> Drift:
    """Compares two stretches of one trace, neither of them empty."""
    hours_before, hours_now = _hours(before), _hours(now)
    own_before, own_now = _by_app(before), _by_app(now)
    apps = []
    for key in dict.fromkeys((*own_before, *own_now)):
        gaps_a, durations_a = own_before.get(key, _NOTHING)
        gaps_b, durations_b = own_now.get(key, _NOTHING)
        apps.append(
            AppDrift(
                key,
                len(durations_a),
                len(durations_b),
                len(durations_a) / hours_before,
                len(durations_b) / hours_now,
                stability(gaps_a, gaps_b),
                float(np.median(gaps_a)) if len(gaps_a) else None,
                float(np.median(gaps_b)) if len(gaps_b) else None,
                stability(durations_a, durations_b),
            )
        )
    apps.sort(key=lambda each: (-(each.gap_psi or 0.0), -each.requests_now, each.app))
    changed = [each for each in apps if (each.gap_psi or 0.0) > MUCH]
    return Drift(
        len(before) / hours_before,
        len(now) / hours_now,
        len(own_before),
        len(own_now),
        len(own_now.keys() - own_before.keys()),
        len(own_before.keys() - own_now.keys()),
        len(changed),
        sum(each.requests_now for each in changed) / len(now),
        stability(_all_gaps(own_before), _all_gaps(own_now)),
        stability(before.duration_ms.astype(float), now.duration_ms.astype(float)),
        tuple(apps),
    )


def stability(before: FloatArray, now: FloatArray) -> float | None:
    """The population stability index of two samples of times, in bins of the first's quantiles."""
    if len(before) < FEW or len(now) < FEW:
        return None
    bins = int(np.clip(min(len(before), len(now)) // 10, 2, BINS))
    edges = np.unique(np.quantile(before, np.linspace(0.0, 1.0, bins + 1)[1:-1]))
    p = _shares(before, edges)
    q = _shares(now, edges)
    return float(((p - q) * np.log(p / q)).sum())


_NOTHING = (np.zeros(0), np.zeros(0))


def _shares(values: FloatArray, edges: FloatArray) -> FloatArray:
    """Of each bin, with half a sample more in it, so that none is empty."""
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return np.asarray((counts + 0.5) / (counts.sum() + 0.5 * len(counts)), dtype=np.float64)


def _by_app(part: Trace) -> dict[str, tuple[FloatArray, FloatArray]]:
    """Times between arrivals and executions in ms, of each app called."""
    order = np.argsort(part.app, kind="stable")
    present, starts = np.unique(part.app[order], return_index=True)
    arrivals = np.split(part.arrival_ms[order].astype(np.float64), starts[1:])
    durations = np.split(part.duration_ms[order].astype(np.float64), starts[1:])
    return {
        part.apps[app].key: (np.diff(own), ran)
        for app, own, ran in zip(present.tolist(), arrivals, durations, strict=True)
    }


def _all_gaps(own: dict[str, tuple[FloatArray, FloatArray]]) -> FloatArray:
    return np.concatenate([gaps for gaps, _ in own.values()])


def _hours(part: Trace) -> float:
    return max(float(part.arrival_ms[-1] - part.arrival_ms[0]) / 3.6e6, 1e-3)
