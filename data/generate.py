"""Look-alikes: the contest's three data sets and an Azure-like population, seeded, of any size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from warmscaler.data.drawn import RUNTIMES, draw_init_ms, draw_runtime, seeded_by
from warmscaler.data.trace import App, Trace, TraceError

KINDS = ("contest-1", "contest-2", "contest-3", "azure")
START_MS = 1_682_899_200_000  # 2023-05-01, the year of the contest
MAX_DAYS = 3_650
MAX_APPS = 1_000_000
MAX_REQUESTS = 100_000_000
"""What a trace is made of in memory at once: some 10 GB."""
_DAY_MS = 86_400_000.0
_CONTROLLER_APPS = (
    "nodes",
    "roles",
    "rolebindings",
    "certificatesigningrequests",
    "binding",
    "csinodes",
)
FloatArray = npt.NDArray[np.float64]


def generate(
    kind: str,
    *,
    apps: int | None = None,
    days: float = 1.0,
    requests: int | None = None,
    seed: int = 0,
) -> Trace:
    """Makes a trace of `kind` (one of KINDS) over `days`.

    `apps` is for `contest-3` and `azure` only (the first two sets have six). `requests` is the
    number wanted, for `azure` only: met within a few per cent where there are some dozens of apps
    (a timer can only be so often). The same arguments give the same trace. TraceError for others.
    """
    if kind not in KINDS:
        raise TraceError(f"{kind}: no such kind of trace; there is {', '.join(KINDS)}")
    if not 0 < days <= MAX_DAYS:
        raise TraceError(f"--days {days}: must be above 0, and {MAX_DAYS} at most")
    for option, wanted, most in (("apps", apps, MAX_APPS), ("requests", requests, MAX_REQUESTS)):
        if wanted is not None and not 1 <= wanted <= most:
            raise TraceError(f"--{option} {wanted}: must be at least 1, and {most:,} at most")
    if apps is not None and kind in ("contest-1", "contest-2"):
        raise TraceError(f"--apps: {kind} has six apps of its own; leave it out")
    if requests is not None and kind != "azure":
        raise TraceError(f"--requests: for azure only; {kind} has what --days gives it")
    if kind in ("contest-1", "contest-2"):
        return _controllers(int(kind[-1]), days, seed)
    return _population(kind, apps or (400 if kind == "contest-3" else 100), days, requests, seed)


def _controllers(number: int, days: float, seed: int) -> Trace:
    """Sets 1 and 2: controllers that call every 30 s or so, in bursts; 30-56 ms executions."""
    span_ms = days * _DAY_MS
    _check_size(f"contest-{number}", len(_CONTROLLER_APPS) * span_ms / 30_000.0 * 4.0)
    apps: list[App] = []
    columns: list[tuple[FloatArray, FloatArray]] = []
    for name in _CONTROLLER_APPS:
        key = f"{name}{number}"
        random = seeded_by(f"contest-{number}/{key}", seed)
        ticks_ms = np.cumsum(random.normal(30_000.0, 900.0, int(span_ms / 30_000.0) + 1))
        ticks_ms = ticks_ms[ticks_ms < span_ms]
        calls = 1 + random.poisson(3.0, len(ticks_ms))
        arrivals_ms = np.repeat(ticks_ms, calls) + random.exponential(120.0, int(calls.sum()))
        mean_ms = random.uniform(30.0, 56.0)
        durations_ms = mean_ms * np.exp(0.25 * random.standard_normal(len(arrivals_ms)))
        apps.append(App(key, "go", int(random.choice([128, 256, 512])), 60, draw_start(random)))
        columns.append((arrivals_ms, durations_ms))
    return _merged(f"contest-{number}", apps, columns, span_ms)


def draw_start(random: np.random.Generator) -> int:
    """A start far longer than the controllers' executions, in ms."""
    return int(random.integers(1_000, 5_000))


def _population(kind: str, count: int, days: float, wanted: int | None, seed: int) -> Trace:
    span_ms = days * _DAY_MS
    root = seeded_by(f"{kind}/{count}", seed)
    # A few apps make most of the calls: calls a day are log-normal over four orders of magnitude.
    calls_a_day = np.exp(root.normal(np.log(150.0), 2.3, count)).clip(1.0, 150_000.0)
    habits = root.choice(len(_HABITS), size=count, p=_HABIT_SHARES)
    if wanted is not None:
        calls_a_day *= wanted / days / float(calls_a_day.sum())
    _check_size(kind, float(calls_a_day.sum()) * days)
    apps: list[App] = []
    columns: list[tuple[FloatArray, FloatArray]] = []
    for index in range(count):
        random = seeded_by(f"{kind}/{count}/{index}", seed)
        habit = _HABITS[habits[index]]
        arrivals_ms = habit(random, float(calls_a_day[index]) * days, span_ms)
        mean_ms = float(np.exp(random.normal(np.log(300.0), 1.6)).clip(2.0, 120_000.0))
        busy_share = len(arrivals_ms) * mean_ms / span_ms
        mean_ms = mean_ms * min(1.0, 5.0 / max(busy_share, 1e-9))
        durations_ms = mean_ms * np.exp(0.6 * random.standard_normal(len(arrivals_ms)) - 0.18)
        key = f"{random.integers(0, 2**63):016x}{random.integers(0, 2**63):016x}{index:08x}"
        memory_mb = 64 * int(random.choice([1, 2, 3, 4, 6, 10], p=[0.2, 0.4, 0.2, 0.1, 0.06, 0.04]))
        runtime = RUNTIMES[0] if kind == "contest-3" else draw_runtime(random)
        apps.append(App(key, runtime, memory_mb, 60, draw_init_ms(random)))
        columns.append((arrivals_ms, durations_ms))
    return _merged(kind, apps, columns, span_ms)


def _timer(random: np.random.Generator, calls: float, span_ms: float) -> FloatArray:
    periods_ms = np.array([1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 360.0, 1440.0]) * 60_000.0
    wanted_ms = span_ms / max(calls, 1.0)
    period_ms = float(periods_ms[np.argmin(np.abs(np.log(periods_ms / wanted_ms)))])
    at_once = max(1, round(calls * period_ms / span_ms))  # busy timers fire several calls a tick
    ticks_ms = random.uniform(0.0, period_ms) + np.arange(int(span_ms / period_ms) + 1) * period_ms
    arrivals_ms = np.repeat(ticks_ms, at_once)
    return arrivals_ms + 400.0 * random.standard_normal(len(arrivals_ms))


def _daily(random: np.random.Generator, calls: float, span_ms: float) -> FloatArray:
    """A Poisson process with a daily wave."""
    swing, phase = random.uniform(0.0, 0.9), random.uniform(0.0, 2.0 * np.pi)
    candidates_ms = random.uniform(0.0, span_ms, random.poisson(calls * (1.0 + swing)))
    wave = 1.0 + swing * np.sin(2.0 * np.pi * candidates_ms / _DAY_MS + phase)
    kept = random.uniform(0.0, 1.0 + swing, len(candidates_ms)) < wave
    return np.asarray(candidates_ms[kept], dtype=np.float64)


def _sessions(random: np.random.Generator, calls: float, span_ms: float) -> FloatArray:
    """Sessions at random times; calls of one session follow each other by seconds."""
    a_session = float(random.uniform(4.0, 40.0))
    starts_ms = random.uniform(0.0, span_ms, max(1, random.poisson(calls / a_session)))
    sizes = 1 + random.poisson(a_session - 1.0, len(starts_ms))
    pause_ms = float(np.exp(random.uniform(np.log(100.0), np.log(20_000.0))))
    pauses_ms = random.exponential(pause_ms, int(sizes.sum()))
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)
    since_first_ms = np.cumsum(pauses_ms) - np.cumsum(pauses_ms)[first]
    return np.asarray(np.repeat(starts_ms, sizes) + since_first_ms, dtype=np.float64)


_Habit = Callable[[np.random.Generator, float, float], FloatArray]
_HABITS: tuple[_Habit, ...] = (_timer, _daily, _sessions)
_HABIT_SHARES = (0.4, 0.3, 0.3)  # Serverless in the Wild, section 3: timers are everywhere


def _check_size(name: str, requests: float) -> None:
    if requests > MAX_REQUESTS:
        raise TraceError(
            f"{name}: would have about {requests:,.0f} requests, over {MAX_REQUESTS:,};"
            " ask for fewer apps or days"
        )


def _merged(
    name: str, apps: list[App], columns: list[tuple[FloatArray, FloatArray]], span_ms: float
) -> Trace:
    owners = np.repeat(np.arange(len(apps)), [len(arrivals) for arrivals, _ in columns])
    arrival_ms = np.rint(np.concatenate([arrivals for arrivals, _ in columns]).clip(min=0.0))
    duration_ms = np.concatenate([durations for _, durations in columns])
    order = np.argsort(arrival_ms, kind="stable")
    # Sessions and rare timers run past the end; kept, a thin tail would move every split.
    order = order[arrival_ms[order] < span_ms]
    if not len(order):
        raise TraceError(f"{name}: so few days give no request at all; ask for more")
    return Trace(
        name,
        tuple(apps),
        START_MS + arrival_ms[order].astype(np.int64),
        owners[order].astype(np.int64),
        np.maximum(1, np.rint(duration_ms[order])).astype(np.int64),
        np.full(len(order), 200, dtype=np.int64),
        ("generated",),
    )
