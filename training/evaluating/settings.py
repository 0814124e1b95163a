"""Which policies an evaluation compares, and the settings of each one's knob."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from warmscaler.data.trace import Trace
from warmscaler.models.objectives.words import Kind, Objective
from warmscaler.models.registry import PolicyError, make_policy

CLAIRVOYANT = "clairvoyant"
GREEDY_DUAL = "greedy-dual"
LEARNED = "learned"
BASELINE = "fixed:300"
"""What platforms do today, and what ours is compared with."""
DEFAULT_POLICIES = (
    "fixed:60",
    "fixed:300",
    "fixed:600",
    "fixed:1800",
    "reference",
    "hybrid-histogram",
    "greedy-dual",
    "knative",
    "learned",
    "clairvoyant",
)
MADE_LATER = (LEARNED, GREEDY_DUAL, CLAIRVOYANT)
"""Those that want a model, a capacity, or the trace itself."""
KNOBS = {
    "fixed": "keep_s",
    "hybrid-histogram": "range_minutes",
    "greedy-dual": "capacity_gb",
    "knative": "stable_window_s",
    "cidre": "capacity_gb",
    "femux": "weight",
    "icebreaker": "utility",
    "spes": "give_up",
    "learned": "price",
}
DEFAULTS = {
    "hybrid-histogram": 240.0,
    "knative": 60.0,
    "femux": 0.01003,
    "icebreaker": 0.5,
    "spes": 1.0,
}
KEEP_S = (10, 20, 30, 60, 120, 180, 300, 450, 600, 900, 1200, 1800, 3600, 7200)
RANGE_MINUTES = (2, 5, 10, 20, 30, 60, 120, 240, 480)
WEIGHTS = (0.001, 0.0025, 0.01003, 0.04, 0.16)
UTILITIES = (0.01, 0.4, 0.5, 0.55, 0.6, 0.65)
GIVE_UPS = (0.5, 1, 2, 5, 10)
STABLE_WINDOW_S = (6, 15, 30, 60, 120, 300, 600, 1800, 3600)
PRICES = (
    *(1e-6, 1e-5, 3e-5, 1e-4, 2e-4, 3.5e-4, 5e-4, 7e-4),
    *(each * 1e-3 for each in (1, 1.25, 1.6, 2, 2.5, 3.15, 4, 5, 6.3, 8)),
    *(each * 1e-2 for each in (1, 1.25, 1.6, 2, 2.5, 3.15, 4, 5, 6.3, 8)),
    *(0.1, 0.125, 0.16, 0.2, 0.25, 0.315, 0.4, 0.6, 0.8, 1.2, 2.0),
)
"""From never releasing to hardly keeping at all, as far as any other policy goes; preferred numbers
(ISO 3, R10) where prices are likely."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One policy, as `make_policy` knows it, at one setting of its knob (None: it has none)."""

    policy: str
    knob: str | None = None
    knob_value: float | None = None
    price: float | None = None
    """For `learned` alone: stays as it is; None is the objective's."""
    objective: Objective | None = None
    """For `learned` alone; None is what its model was trained for."""
    swept: bool = False
    """Whether it is of a sweep's grid, and nobody asked for it."""

    @property
    def family(self) -> str:
        """The policy without its setting."""
        return self.policy.partition(":")[0]

    @property
    def label(self) -> str:
        """What a person calls it: the policy, and the knob's value where it was found by us."""
        if self.policy == GREEDY_DUAL and self.knob_value is not None:
            return f"{self.policy}:{self.knob_value:g}"
        if self.family == "learned" and self.knob_value is not None:
            moved = self.objective is not None and self.objective.kind is not Kind.PRICE
            aims = f", {self.objective}," if moved else ""
            return f"{self.policy}{aims} @ {self.knob_value:.3g} s/GB·s"
        return self.policy


def chosen(
    policies: Sequence[str], *, price: float | None = None, objective: Objective | None = None
) -> list[Setting]:
    """The policies as named, each once; `price` or `objective` is for learned. Raises PolicyError for
    one that cannot be made."""
    if objective is not None and objective.kind is Kind.PRICE and objective.value:
        price, objective = objective.value, None
    settings = []
    for policy in dict.fromkeys(policies):
        _check(policy)
        family, colon, text = policy.partition(":")
        knob = KNOBS.get(family)
        value = float(text) if colon and knob else DEFAULTS.get(family)
        learned_price = price if family == "learned" else None
        settings.append(
            Setting(
                policy,
                knob,
                value if learned_price is None else price,
                learned_price,
                objective if family == "learned" else None,
            )
        )
    return settings


def sweep(settings: Sequence[Setting], trace: Trace) -> list[Setting]:
    """`settings`, and besides them the whole grid of every knob among them."""
    result = {(each.policy, each.price): each for each in settings}
    for family in dict.fromkeys(each.family for each in settings):
        for each in _grid(family, trace):
            default = each.knob_value is not None and each.knob_value == DEFAULTS.get(family)
            if default and (family, None) in result:
                continue
            result.setdefault((each.policy, each.price), each)
    order = {
        family: place for place, family in enumerate(dict.fromkeys(s.family for s in settings))
    }
    return sorted(result.values(), key=lambda each: (order[each.family], each.knob_value or 0.0))


def capacities_gb(trace: Trace, *, step: float = 0.5) -> list[float]:
    """Cache sizes worth trying: from 1/32 of one instance of each app called to eight of each.

    `step` is in powers of two.
    """
    called = np.unique(trace.app)
    fleet_gb = sum(trace.apps[index].memory_mb for index in called) / 1024.0
    return [float(f"{fleet_gb * 2.0**power:.3g}") for power in np.arange(-5.0, 3.5, step)]


def _grid(family: str, trace: Trace) -> list[Setting]:
    if family == "learned":
        return [Setting("learned", "price", price, price, swept=True) for price in PRICES]
    values: Sequence[float] = {
        "fixed": KEEP_S,
        "hybrid-histogram": RANGE_MINUTES,
        "greedy-dual": capacities_gb(trace),
        "knative": STABLE_WINDOW_S,
        "cidre": capacities_gb(trace),
        "femux": WEIGHTS,
        "icebreaker": UTILITIES,
        "spes": GIVE_UPS,
    }.get(family, ())
    return [
        Setting(f"{family}:{value:g}", KNOBS[family], float(value), swept=True) for value in values
    ]


def _check(policy: str) -> None:
    """Raises PolicyError."""
    if policy in MADE_LATER:
        return
    try:
        make_policy(policy)
    except PolicyError as error:
        known_too = f", {CLAIRVOYANT}" if "known are" in str(error) else ""
        raise PolicyError(f"{error}{known_too}") from None
