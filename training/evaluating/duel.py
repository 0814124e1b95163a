"""The duel: every published policy and ours by FeMux's measure, each at its best setting in hindsight.

FeMux's measure (RUM; N. Nasiri et al., EuroSys 2026, and its artifact) is the cost at a price: starts of
808 ms whatever the app, and a GB·s worth 1 / 99.69 s of starting, a quarter of that (`4_cs`) or four times
it (`4_wm`). Ours is set to each price; of every other policy the cheapest setting at that price is taken,
which nobody could have known before. Beside cost stand what SPES reports (C. Lee et al., ICDE 2024): the
75th percentile of the apps' cold-start rates, and the time that instances were there for nothing, whatever
their memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import process_time
from typing import Any

from warmscaler.data.trace import Trace
from warmscaler.models.learned.habits import Model
from warmscaler.simulator.figures import Figures, memory_gb
from warmscaler.training.cluster import share, task
from warmscaler.training.evaluating.evaluate import Window, measure
from warmscaler.training.evaluating.frontier import cost_s, rivals
from warmscaler.training.evaluating.settings import (
    GIVE_UPS,
    KNOBS,
    LEARNED,
    UTILITIES,
    WEIGHTS,
    Setting,
)
from warmscaler.training.fitting.fit import fit
from warmscaler.training.workers import parallel

PROTOCOL = "femux"
START_MS = 808
PRICES = (0.0025, 0.01003, 0.040)
"""Seconds of waiting a GB·s is worth: `4_cs`, the default, `4_wm`."""
DEFAULT_PRICE = 0.01003
_SECONDS_PER_HOUR = 3_600.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One setting's figures."""

    setting: Setting
    figures: Figures
    idle_hours: float
    """Instance-hours in which nothing executed, starts included; memory does not count."""
    decision_us: float
    """CPU time of its replay over twice its requests (Assign and Idle), the replay's own included."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One policy: its cheapest setting at each price."""

    family: str
    best: tuple[Entry, ...]
    """In the order of `PRICES`."""

    def cost_s(self, at: int) -> float:
        """Its cost at the price of this index."""
        return cost_s(self.best[at].figures, PRICES[at])


@dataclass(frozen=True, slots=True)
class Duel:
    """A trace's contenders, ours last."""

    trace: str
    contenders: tuple[Contender, ...]

    def rival(self, at: int) -> Contender:
        """The cheapest of the others at the price of this index."""
        return min(self.contenders[:-1], key=lambda each: each.cost_s(at))

    def ratio(self, at: int) -> float:
        """Our cost over that of the cheapest of the others: below 1 is ours."""
        return self.contenders[-1].cost_s(at) / max(self.rival(at).cost_s(at), 1e-9)


def by_protocol(part: Window) -> Window:
    """The same window where every app takes the protocol's time to start, all of it CreateSlot's."""
    apps = tuple(replace(app, init_ms=0) for app in part.trace.apps)
    return replace(part, trace=replace(part.trace, apps=apps))


def others(trace: Trace) -> list[Setting]:
    """Every setting of every other policy, a policy's together."""
    known = rivals(trace)
    grids: dict[str, Sequence[float]] = {
        "cidre": [each.knob_value or 0.0 for each in known if each.family == "greedy-dual"],
        "femux": WEIGHTS,
        "icebreaker": UTILITIES,
        "spes": GIVE_UPS,
    }
    return known + [
        Setting(f"{family}:{value:g}", KNOBS[family], float(value))
        for family, values in grids.items()
        for value in values
    ]


def duel(
    part: Window, *, jobs: int = 1, on_progress: Callable[[int, int], None] | None = None
) -> Duel:
    """Trains ours on what lies before the split, and replays all. `on_progress` gets the replays done
    and how many there are."""
    part = by_protocol(part)
    model = fit(part.training, create_ms=START_MS, price=DEFAULT_PRICE, jobs=jobs)
    ours = [Setting(LEARNED, "price", price, price) for price in PRICES]
    settings = [*others(part.trace), *ours]
    trace, known = share(part), share(model)
    calls = (task(_entry, trace, each, known) for each in settings)
    entries: list[Entry] = []
    for entry in parallel(max(min(jobs, len(settings)), 1), return_as="generator")(calls):
        entries.append(entry)
        if on_progress is not None:
            on_progress(len(entries), len(settings))
    rest = entries[: -len(PRICES)]
    families = list(dict.fromkeys(each.setting.family for each in rest))
    contenders = [
        _contender(family, [each for each in rest if each.setting.family == family])
        for family in families
    ]
    return Duel(part.trace.name, (*contenders, Contender(LEARNED, tuple(entries[-len(PRICES) :]))))


def as_json(of: Duel) -> dict[str, Any]:
    """One trace's object."""

    def told(at: int, each: Contender) -> dict[str, Any]:
        entry = each.best[at]
        return {
            "price_s_per_gb_s": PRICES[at],
            "cost_s": each.cost_s(at),
            "knob": entry.setting.knob,
            "knob_value": entry.setting.knob_value,
            "wait_s": entry.figures.wait_s,
            "wasted_gb_s": entry.figures.wasted_gb_s,
            "cold_start_rate": entry.figures.cold_start_rate,
            "app_cold_start_rate_p75": entry.figures.app_cold_start_rate_p75,
            "idle_instance_hours": entry.idle_hours,
            "decision_us": entry.decision_us,
        }

    places = range(len(PRICES))
    return {
        "protocol": PROTOCOL,
        "trace": of.trace,
        "start_ms": START_MS,
        "policies": [
            {"policy": each.family, "at": [told(at, each) for at in places]}
            for each in of.contenders
        ],
        "ratios": [
            {
                "price_s_per_gb_s": PRICES[at],
                "rival": of.rival(at).family,
                "ratio": of.ratio(at),
            }
            for at in places
        ],
    }


def _contender(family: str, entries: Sequence[Entry]) -> Contender:
    def cheapest(price: float) -> Entry:
        return min(entries, key=lambda each: cost_s(each.figures, price))

    return Contender(family, tuple(cheapest(price) for price in PRICES))


def _entry(part: Window, setting: Setting, model: Model) -> Entry:
    began_s = process_time()
    measured = measure(part, setting, START_MS, model)
    took_s = process_time() - began_s
    apps = measured.apps
    if apps is None:
        raise AssertionError(f"{setting.policy} was replayed")
    idle_s = float((apps.wasted_gb_s / memory_gb(part.trace)).sum())
    return Entry(
        setting,
        measured.figures,
        idle_s / _SECONDS_PER_HOUR,
        took_s * 1e6 / (2.0 * len(part.trace)),
    )
