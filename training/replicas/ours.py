"""Our floors on a trace: learned from what lies before the split, followed look by look after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from warmscaler.replicas import experts
from warmscaler.replicas.compiled import fast
from warmscaler.replicas.forecast import Forecast
from warmscaler.replicas.levels import LOOK_S, Memory, fresh, levels_for
from warmscaler.replicas.quantiles import ALPHA
from warmscaler.simulator.replicas.rules import Rule
from warmscaler.training.replicas.baselines import serve
from warmscaler.training.replicas.fit import IntArray, chances_of, fit, row_starts
from warmscaler.training.replicas.load import AppLoad, FloatArray, Load, gb_of
from warmscaler.training.replicas.walk import follow_looks

VALIDATION = 0.4
"""Last part of the looks before the split on which a first forecast says what each expert costs."""
PRIOR = 3.0
"""How many misses' worth an app believes of what experts cost the fleet."""
_TRIED = [0, experts.LEARNED, len(experts.NAMES) - 1]
"""Experts that a base is chosen with: none, and learned ones."""
HANDICAP = 3.0
"""Misses that the validation may have been spared: by so much the others must be cheaper than the
learned forecast at face value."""


@dataclass(frozen=True, slots=True)
class Learned:
    """The chances of one load; they do not depend on the price."""

    forecast: Forecast | None
    validation_look: int
    before: list[tuple[IntArray, FloatArray]]
    """By app, from the validation's start to the split, by a forecast from before it."""
    after: list[tuple[IntArray, FloatArray]]
    """By app, from the split on."""


@dataclass(frozen=True, slots=True)
class Floors:
    """What was wanted at a price."""

    floors: list[FloatArray]
    """By app, of every look; 0 before the split."""
    base: Rule
    """What stands under them."""
    coverage: float
    """Of the 90 % quantile of the peak a start ahead, over all apps and looks after the split."""
    coverage_busy: float
    """Of looks where that quantile is above 0."""
    followed: FloatArray
    """Looks for which each expert was followed, shape (experts,)."""
    misses: FloatArray
    """What each expert's account begins with for the fleet's sake, in misses, shape (experts,)."""


def learn(load: Load, done: Callable[[float], None] = lambda _: None) -> Learned:
    """Fits on what lies before the split; `done` is told a part of 1."""
    split = load.split_look
    begin = int(split * (1.0 - VALIDATION))
    first = fit(load, begin, lambda part: done(0.15 * part))
    done(0.25)
    final = fit(load, split, lambda part: done(0.25 + 0.15 * part))
    before, after = [], []
    for number, app in enumerate(load.apps):
        starts = row_starts(app, load.first, load.looks)
        before.append(chances_of(load, app, first, starts, begin, split))
        after.append(chances_of(load, app, final, starts, split, load.looks))
        done(0.5 + 0.5 * (number + 1) / len(load.apps))
    return Learned(final, begin, before, after)


def floors_at(load: Load, learned: Learned, price: float, bases: Sequence[Rule]) -> Floors:
    """What the planners want at `price`, look by look, above one of the `bases`.

    The base is the cheapest one of the validation part, under no floor or that of one of a few
    experts, an app at a time; there, experts begin with what each of them alone would have cost.
    """
    apps = [replace(app, spec=replace(app.spec, price=price)) for app in load.apps]
    begin, split = learned.validation_look, load.split_look
    walks = []
    proposed = []
    by_base = np.zeros(len(bases))
    for app, (starts, chances) in zip(apps, learned.before, strict=True):
        walk = _Walk(app)
        nothing = np.zeros(begin + 1, dtype=np.int64)
        walk.go(load, 0, begin, nothing, np.zeros(0))
        every = walk.go(load, begin, split, starts, chances)[3]
        by_base += [_validated(load, app, base, every[_TRIED], begin).min() for base in bases]
        walks.append(walk)
        proposed.append(every)
    base = bases[int(by_base.argmin())]
    costs = [
        _validated(load, app, base, every, begin) for app, every in zip(apps, proposed, strict=True)
    ]
    # What an expert cost the fleet, in units of the best one's, each app counted by its own misses.
    shares = [cost / walk.terms.miss_s for cost, walk in zip(costs, walks, strict=True)]
    fleet = np.sum(shares, axis=0)
    misses = PRIOR * fleet / max(float(fleet.min()), 1e-12) + HANDICAP
    misses[-1] -= HANDICAP
    floors, covered, busy = [], [], []
    followed = np.zeros(len(experts.NAMES))
    for walk, cost, (starts, chances) in zip(walks, costs, learned.after, strict=True):
        walk.accounts.cost[:] = cost + misses * walk.terms.miss_s
        floor, follow, upper, _ = walk.go(load, split, load.looks, starts, chances)
        floors.append(np.concatenate((np.zeros(split), floor)))
        followed += np.bincount(follow.astype(np.int64), minlength=len(followed))
        needed = walk.app.needed[split + 1 + walk.terms.start_looks :]
        upper = upper[: len(needed)]
        share = np.clip(upper - needed, 0.0, 1.0)
        covered.append(share)
        busy.append(share[np.ceil(upper) > 1.0])
    return Floors(floors, base, _mean(covered), _mean(busy), followed, misses)


def _validated(load: Load, app: AppLoad, base: Rule, every: FloatArray, begin: int) -> FloatArray:
    """What each expert's floors alone cost the app from look `begin` to the split, shape (experts,)."""
    begin_s, end_s = load.from_s + begin * LOOK_S, load.split_s
    second_s = app.spec.price * gb_of(app)
    costs = np.zeros(len(every))
    for expert, own in enumerate(every):
        floor = np.concatenate((np.zeros(begin), own))
        wait_s, held_s = serve(load, app, base, floor, begin_s, end_s)
        costs[expert] = wait_s.sum() + second_s * held_s
    return costs


class _Walk:
    """One app's planner on its way through a load."""

    def __init__(self, app: AppLoad) -> None:
        self.app = app
        self.terms = experts.terms_of(app.spec)
        self.accounts = experts.opened(self.terms)
        self.memory: Memory = fresh(levels_for(float(app.needed.max(initial=0.0))))
        self.alpha = np.array([ALPHA])

    def go(
        self, load: Load, begin: int, end: int, starts: IntArray, chances: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Floors, experts followed, upper quantiles of looks [begin, end), each of shape (looks,);
        and all experts' floors, shape (experts, looks)."""
        floors, chosen, upper = np.zeros((3, end - begin))
        every = np.zeros((len(experts.NAMES), end - begin))
        fast(follow_looks)(
            self.memory,
            self.accounts,
            self.terms,
            load.first + begin,
            self.app.needed[begin:end],
            self.app.mean[begin:end],
            starts,
            chances,
            self.alpha,
            floors,
            chosen,
            upper,
            every,
        )
        return floors, chosen, upper, every


def _mean(parts: list[FloatArray]) -> float:
    values = np.concatenate(parts) if parts else np.zeros(0)
    return float(values.mean()) if len(values) else float("nan")
