"""The advice for a fleet: for each app the window, or the times, that cost least on its own past.

Apps are independent, so one replay of the whole trace with one window for all says what that window
costs each of them. Every window of a grid is replayed once, and again with the clock that fits each
app best; each app takes its cheapest. Where an app was seen little, the population speaks too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

import joblib
import numpy as np
import numpy.typing as npt

from warmscaler.data.trace import Trace
from warmscaler.models.advised.policy import Advice, Advised, AppAdvice
from warmscaler.simulator.figures import MB_PER_GB
from warmscaler.simulator.replay import replay
from warmscaler.training.advising.clocks import best_clock
from warmscaler.training.advising.hours import least_by_hour
from warmscaler.training.evaluating.evaluate import Window, measure
from warmscaler.training.evaluating.settings import Setting

FloatArray = npt.NDArray[np.float64]
KEEP_S = (
    *(0.0, 0.5, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 90.0, 120.0, 180.0, 300.0, 450.0, 600.0),
    *(900.0, 1_200.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 43_200.0),
)
"""Windows that are tried, in s."""
CLOCKED_KEEP_S = (0.0, 2.0, 10.0, 30.0, 120.0)
"""Those that are tried beside times."""
SURE_SHARE = 0.05
"""An instance is kept at least this share of the time that costs as much as a start: that costs little
where it is for nothing, and an app may be called far more often than it ever was."""
PRIOR_REQUESTS = 2.0
"""The population weighs as much as so many of an app's own requests."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What every setting of the grid costs each app of a trace."""

    trace: Trace
    plain: tuple[Advice, ...]
    timed: tuple[Advice, ...]
    """The same for all apps but those with a clock of their own."""
    with_clock: npt.NDArray[np.bool_]
    """Shape (apps,)."""
    start_s: FloatArray
    """What a start takes. Shape (apps,)."""
    wait_s: FloatArray
    """Shape (settings, apps), the plain ones first; as the next."""
    wasted_gb_s: FloatArray

    def cheapest(self, price: float) -> Advice:
        """For each app the setting that costs least at `price`, in seconds of waiting per GB·s."""
        trace, plain, start_s = self.trace, self.plain, self.start_s
        cost_s = self.wait_s + price * self.wasted_gb_s
        requests = np.bincount(trace.app, minlength=len(trace.apps))
        called = np.flatnonzero(requests)
        # What starts in no time does not say what a start costs.
        telling = called[start_s[called] > 0.0]
        per_start = cost_s[: len(plain), telling] / (requests * start_s)[telling]
        usual = per_start.mean(axis=1) if len(telling) else np.zeros(len(plain))
        believed = np.concatenate((usual, np.full(len(self.timed), usual.min())))
        total_s = cost_s + PRIOR_REQUESTS * believed[:, None] * start_s[None, :]
        total_s[len(plain) :, ~self.with_clock] = inf
        best = total_s.argmin(axis=0)
        tried = (*plain, *self.timed)
        apps = {}
        for app in called.tolist():
            key = trace.apps[app].key
            own = tried[best[app]].apps.get(key, tried[best[app]].default)
            hold_cost = price * trace.apps[app].memory_mb / MB_PER_GB
            sure_ms = SURE_SHARE * float(start_s[app]) * 1000.0 / hold_cost
            apps[key] = replace(own, keep_ms=max(own.keep_ms, sure_ms))
        return Advice(plain[int(usual.argmin())].default, apps)


def find_advice(
    trace: Trace,
    *,
    price: float,
    create_ms: float,
    jobs: int = 1,
    on_progress: Callable[[float], None] | None = None,
) -> Advice:
    """The cheapest settings on `trace`, all of whose requests are the past.

    `price` is how many seconds of waiting a GB·s is worth; `create_ms` what a slot takes.
    """
    tried = try_all(trace, create_ms=create_ms, jobs=jobs, on_progress=on_progress)
    return _with_least(trace, tried.cheapest(price), price, create_ms)


def try_all(
    trace: Trace,
    *,
    create_ms: float,
    jobs: int = 1,
    on_progress: Callable[[float], None] | None = None,
) -> Tried:
    """Replays `trace` with every setting of the grid."""
    clocks = {trace.apps[app].key: best_clock(trace, int(app)) for app in np.unique(trace.app)}
    clocked = {key: clock for key, clock in clocks.items() if clock is not None}
    plain = tuple(Advice(AppAdvice(keep_s * 1000.0)) for keep_s in KEEP_S)
    timed = tuple(
        Advice(
            AppAdvice(keep_s * 1000.0),
            {key: AppAdvice(keep_s * 1000.0, clock) for key, clock in clocked.items()},
        )
        for keep_s in (CLOCKED_KEEP_S if clocked else ())
    )
    tried = (*plain, *timed)
    calls = (joblib.delayed(_paid)(trace, each, create_ms) for each in tried)
    paid = []
    for each in joblib.Parallel(n_jobs=jobs, return_as="generator")(calls):
        paid.append(each)
        if on_progress is not None:
            on_progress(len(paid) / (len(tried) + 1))
    wait_s, wasted_gb_s = (np.stack(each) for each in zip(*paid, strict=True))
    return Tried(
        trace,
        plain,
        timed,
        np.array([app.key in clocked for app in trace.apps], dtype=np.bool_),
        np.array([(create_ms + app.init_ms) / 1000.0 for app in trace.apps]),
        wait_s,
        wasted_gb_s,
    )


def _paid(trace: Trace, advice: Advice, create_ms: float) -> tuple[FloatArray, FloatArray]:
    """Seconds of waiting and GB·s wasted, by app. Shapes (apps,)."""
    part = Window(trace, float(trace.arrival_ms[0]), 0.0)
    apps = measure(part, Setting("advice"), create_ms, own=Advised(advice)).apps
    assert apps is not None  # noqa: S101 - only the clairvoyant reference has none
    return apps.wait_s, apps.wasted_gb_s


def _cost_s(trace: Trace, advice: Advice, price: float, create_ms: float) -> FloatArray:
    """Seconds of waiting, with waste at the price, by app. Shape (apps,)."""
    wait_s, wasted_gb_s = _paid(trace, advice, create_ms)
    return wait_s + price * wasted_gb_s


def _with_least(trace: Trace, advice: Advice, price: float, create_ms: float) -> Advice:
    """With the least instances by hour, for those apps that they pay for."""
    result = replay(trace, Advised(advice), create_ms=create_ms)
    least = least_by_hour(trace, result)
    apps = dict(advice.apps)
    for key, by_hour in least.items():
        apps[key] = replace(apps[key], least=by_hour)
    if not least:
        return advice
    with_them = replace(advice, apps=apps)
    before, after = (_cost_s(trace, each, price, create_ms) for each in (advice, with_them))
    index = {app.key: number for number, app in enumerate(trace.apps)}
    kept = {
        key: own if after[index[key]] < before[index[key]] else advice.apps[key]
        for key, own in apps.items()
    }
    return replace(advice, apps=kept)
