"""`make generality`: apps never seen in training, and look-alikes of the contest's three sets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.bench.table import TRACE, Row, show, step
from warmscaler.data.generate import generate
from warmscaler.data.read import read_trace
from warmscaler.data.trace import Trace
from warmscaler.models.learned.habits import Model
from warmscaler.models.objectives.words import OWN_PRICE
from warmscaler.simulator.figures import Figures
from warmscaler.simulator.replay import CREATE_MS
from warmscaler.training.evaluating.evaluate import Measured, Window, evaluate, find, train, window
from warmscaler.training.evaluating.settings import KEEP_S, PRICES, Setting, chosen

JOBS = 2
TWO_SIDED_PERCENT = 58.0


def only(trace: Trace, apps: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Trace:
    """The requests of these apps."""
    own = np.isin(trace.app, apps)
    return replace(
        trace,
        arrival_ms=trace.arrival_ms[own],
        app=trace.app[own],
        duration_ms=trace.duration_ms[own],
        status_code=trace.status_code[own],
    )


def at_once(part: Window, model: Model, base: Figures) -> tuple[float, float]:
    """The price at which the larger of waste and waiting, as shares of fixed:300's, is least, and
    that share in %."""
    settings = [Setting("learned", "price", price, price) for price in PRICES if 0.01 < price < 0.1]
    done = evaluate(part, settings, create_ms=CREATE_MS, model=model, jobs=JOBS)
    shares = {
        each.setting.knob_value: max(
            each.figures.wasted_gb_s / base.wasted_gb_s, each.figures.wait_s / base.wait_s
        )
        for each in done
    }
    price = min(shares, key=shares.__getitem__)
    assert price is not None
    return price, 100.0 * shares[price]


def measured(part: Window, policies: list[str], model: Model | None) -> list[Measured]:
    return list(evaluate(part, chosen(policies), create_ms=CREATE_MS, model=model, jobs=JOBS))


def unseen(trace: Trace) -> list[Row]:
    """Trains on every other app, measures on the rest; then the other way round."""
    part = window(trace, 0.5)
    numbers = np.arange(len(trace.apps))
    rows = []
    for turn in (0, 1):
        step(f"apps never seen, {turn + 1} of 2")
        known = replace(part, trace=only(trace, numbers[turn::2]))
        rest = replace(part, trace=only(trace, numbers[1 - turn :: 2]))
        model = train(known, create_ms=CREATE_MS, jobs=JOBS, objective=OWN_PRICE)
        done = measured(rest, ["fixed:300", "learned"], model)
        base, ours = find(done, "fixed:300"), find(done, "learned")
        assert base is not None
        assert ours is not None
        name = f"apps never seen, half {turn + 1}"
        price, share = at_once(rest, model, base.figures)
        rows += [
            Row(
                f"{name}: score over fixed:300's",
                ours.figures.score - base.figures.score,
                "",
                0.0,
                at_most=False,
            ),
            Row(
                "  waste, of fixed:300's",
                100.0 * ours.figures.wasted_gb_s / base.figures.wasted_gb_s,
                "%",
            ),
            Row(
                "  waiting, of fixed:300's", 100.0 * ours.figures.wait_s / base.figures.wait_s, "%"
            ),
            Row(f"  the larger of both, at price {price:g}", share, "%", TWO_SIDED_PERCENT),
        ]
    return rows


def look_alikes() -> list[Row]:
    """Learned against the best fixed window of the sweep's, on each set."""
    rows = []
    for kind in ("contest-1", "contest-2", "contest-3"):
        step(kind)
        part = window(generate(kind), 0.5)
        model = train(part, create_ms=CREATE_MS, jobs=JOBS, objective=OWN_PRICE)
        done = measured(part, [*(f"fixed:{keep}" for keep in KEEP_S), "learned"], model)
        ours = done.pop()
        best = max(done, key=lambda each: each.figures.score)
        over = ours.figures.score - best.figures.score
        rows += [
            Row(
                f"{kind}: score over {best.setting.policy}'s, the best fixed",
                over,
                "",
                0.0,
                at_most=False,
            ),
            Row("  score", ours.figures.score, ""),
        ]
    return rows


def main() -> None:
    show([*unseen(read_trace(TRACE)), *look_alikes()], "make generality")


if __name__ == "__main__":
    main()
