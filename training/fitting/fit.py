"""Fitting the learned policy's model: habits per app, the population's prior, the price.

Everything in the trace given is training data; a caller that measures gives what lies before its
split. The price is found by replaying the same trace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from warmscaler.data.trace import Trace
from warmscaler.models.learned.app import PRIOR_WEIGHT
from warmscaler.models.learned.habits import Model
from warmscaler.models.learned.plan import Prior
from warmscaler.models.objectives.words import DEFAULT, Kind, Objective, at_price
from warmscaler.training.fitting.habits import habits
from warmscaler.training.fitting.price import best_price


def fit(
    trace: Trace,
    *,
    create_ms: float,
    price: float | None = None,
    objective: Objective = DEFAULT,
    start: float | None = None,
    jobs: int = 1,
    on_progress: Callable[[float], None] | None = None,
    context: bool = False,
) -> Model:
    """Fits on every request of `trace`. `on_progress` gets the fraction done, now and then.

    The price is looked for by the `objective`, which moves it from there on while serving; a `price`
    (seconds of waiting per GB·s) that is given is an objective by itself. `start` is what a search found
    before. With `context`, what all apps teach of when calls come too, where that pays.
    """
    if price is not None:
        objective = at_price(price)
    fitted = habits(trace, create_ms, jobs)
    if on_progress is not None:
        on_progress(0.2)
    if objective.kind is Kind.PRICE and objective.value:
        found = objective.value
    elif start is not None:
        found = start
    else:
        found = best_price(trace, objective, create_ms, jobs, on_progress)
    taught = None
    if context:
        # Here, for it takes LightGBM and scikit-learn, which nothing else of training needs.
        from warmscaler.training.fitting.context import fit_context

        prior = Prior(fitted.prior_ms, PRIOR_WEIGHT)
        taught = fit_context(trace, prior, create_ms, jobs=jobs)
    return replace(fitted, price_s_per_gb_s=found, context=taught, objective=objective)
