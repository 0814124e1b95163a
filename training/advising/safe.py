"""The price of advice by which nobody waits longer than today.

Found as the advice itself is judged: made of the first half of what is known, replayed on the second.
On the part it was made of advice always does better than on what comes.
"""

from __future__ import annotations

from collections.abc import Callable

from warmscaler.data.trace import Trace, TraceError
from warmscaler.models.advised.policy import Advised
from warmscaler.models.objectives.limits import limits_of
from warmscaler.models.objectives.words import SAFE
from warmscaler.training.advising.search import try_all
from warmscaler.training.evaluating.evaluate import measure, window
from warmscaler.training.evaluating.settings import Setting

PRICES = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1)
"""Seconds of waiting per GB·s that are tried; `limits_of(SAFE)` are the first and the last."""


def safe_price(
    trace: Trace,
    *,
    today: str,
    create_ms: float,
    jobs: int = 1,
    on_progress: Callable[[float], None] | None = None,
) -> float:
    """The dearest price up to which requests wait no longer by the advice than by `today`'s policy.

    Where there is none, or too little of a trace to tell, it is the lowest. Raises PolicyError where
    `today` is no policy.
    """
    theirs = Setting(today)
    found = limits_of(SAFE)[0]
    try:
        part = window(trace, 0.5)
    except TraceError:
        return found
    allowed_s = measure(part, theirs, create_ms).figures.wait_s
    tried = try_all(part.training, create_ms=create_ms, jobs=jobs, on_progress=on_progress)
    for price in PRICES:
        ours = measure(part, Setting("advice"), create_ms, own=Advised(tried.cheapest(price)))
        if ours.figures.wait_s > allowed_s:
            break
        found = price
    return found
