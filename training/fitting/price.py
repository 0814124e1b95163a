"""The price to begin with: by replays of the training part at one price each, from coarse to fine.

What is replayed is what will serve: a policy that knows the habits of what came before. One that begins
with the population's prior alone pays for learning where it should pay for its price, and of an hour's
traffic that was nearly all it paid for.

For the score it is the rate at which the score itself exchanges memory for waiting at the price found,
which its steering goes to at once. On a short stretch the score differs from price to price by chance as
well; the rate is of totals.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, log

from warmscaler.data.trace import Trace
from warmscaler.models.learned.habits import Model
from warmscaler.models.learned.policy import Learned
from warmscaler.models.objectives.limits import limits_of
from warmscaler.models.objectives.price import exchange_rate
from warmscaler.models.objectives.steering import WINDOW_MS, aim_of
from warmscaler.models.objectives.words import Kind, Objective
from warmscaler.models.published.fixed import Fixed
from warmscaler.simulator.figures import Figures, figures
from warmscaler.simulator.replay import replay
from warmscaler.training.cluster import share, task
from warmscaler.training.fitting.habits import habits
from warmscaler.training.objective_met import spent_of_allowed
from warmscaler.training.workers import parallel

PRICES = (0.00005, 0.0004, 0.0032, 0.0256, 0.2048, 1.6384)
"""Seconds of waiting per GB·s to begin the search with: fleets differ by so much."""
PRICE_STEPS = (8.0**0.5, 8.0**0.25)
"""Then the neighbours of the best, so many times dearer and cheaper: the score is flat there."""
PRICE_REQUESTS = 80_000
"""The latest so many training requests find the price: the price is a habit of the fleet."""
PRICE_SPLIT = 0.35
"""The part of them, in time, that is not judged."""
_Merit = tuple[float, ...]


def best_price(
    trace: Trace,
    objective: Objective,
    create_ms: float,
    jobs: int,
    on_progress: Callable[[float], None] | None,
) -> float:
    """The price that meets the objective best on the latest stretch, by habits from before what is judged.

    `on_progress` goes from 0.2 to 1.
    """
    latest = trace
    if len(trace) > PRICE_REQUESTS:
        latest = trace.between(float(trace.arrival_ms[-PRICE_REQUESTS]), inf)
    before = trace.between(-inf, latest.split_ms(PRICE_SPLIT))
    model = habits(before, create_ms, jobs) if len(before) else Model()
    stretch, known = share(latest), share(model)
    merits: dict[float, _Merit] = {}
    rates: dict[float, float] = {}
    best = PRICES[0]
    low, high = limits_of(objective)
    with parallel(jobs) as side_by_side:
        window_s = _waits_s(latest, create_ms) if objective.kind is Kind.SAFE else None
        for stage in range(len(PRICE_STEPS) + 1):
            step = PRICE_STEPS[stage - 1]
            prices = (best / step, best * step) if stage else PRICES
            held = (min(max(price, low), high) for price in prices)
            rounded = sorted({float(f"{price:.3g}") for price in held} - merits.keys())
            done = side_by_side(
                task(_tried, stretch, known, objective, each, create_ms, window_s)
                for each in rounded
            )
            for price, (reached, rate) in zip(rounded, done, strict=True):
                merits[price], rates[price] = reached, rate
            best = max(merits, key=merits.__getitem__)
            if on_progress is not None:
                on_progress(0.2 + 0.8 * (stage + 1) / (len(PRICE_STEPS) + 1))
    if objective.kind is Kind.SCORE:
        return min(max(float(f"{rates[best]:.3g}"), low), high)
    return best


def merit(objective: Objective, of: Figures, used: float | None) -> _Merit:
    """The larger the better: that what is `used` of what is allowed is no more than is aimed at, then
    the least memory; where memory is what it is about, the least waiting before that."""
    if used is None:
        return (of.score,)
    beyond = max(log(max(used, 1e-9) / aim_of(objective)), 0.0)
    first = (-of.wait_s,) if objective.kind is Kind.MEMORY else ()
    return -beyond, *first, -of.slot_gb_s


def _tried(
    trace: Trace,
    model: Model,
    objective: Objective,
    price: float,
    create_ms: float,
    window_wait_s: float | None,
) -> tuple[_Merit, float]:
    """And the rate at which the score exchanges memory for waiting there."""
    result = replay(trace, Learned(model, price), create_ms=create_ms)
    split_ms = trace.split_ms(PRICE_SPLIT)
    used = spent_of_allowed(objective, trace, result, split_ms, window_wait_s)
    of = figures(trace, result, split_ms)
    rate = price
    if of.slot_gb_s and of.execution_s:
        rate = exchange_rate(of.execution_gb_s, of.slot_gb_s, of.execution_s, of.wait_s)
    return merit(objective, of, used), rate


def _waits_s(trace: Trace, create_ms: float) -> float:
    """Under the window that SAFE is measured by."""
    result = replay(trace, Fixed(WINDOW_MS / 1_000.0), create_ms=create_ms)
    return figures(trace, result, trace.split_ms(PRICE_SPLIT)).wait_s
