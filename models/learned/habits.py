"""What training learns of apps, and what a model is made of: habits per app and level, the
population's prior, the price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from warmscaler.models.learned.context.context import Context
from warmscaler.models.learned.plan import FloatArray
from warmscaler.models.objectives.words import OWN_PRICE, Objective, parse

MEMORY_GAPS = 160
"""Idle times remembered per level."""
MAX_LEVELS = 256
"""Requests beyond that many at once get an instance each, kept for no longer than they run. An app
takes memory for as many as it ever had at once: some kB each."""
PERIODS_MS = (0.0, 60_000.0, 300_000.0)
"""The clocks that idle times are told on: an age since the level was left (0), or the same counted
from the last full minute, or five minutes before it. Where calls keep to a clock, their idle
times vary with when the last call came, and their times on that clock do not."""
CONTEXT = "context"
"""The name of what holds the context's trees."""
DEFAULT_PRICE = 0.04
DEFAULT_START_MS = 1_500.0


@dataclass(frozen=True, slots=True)
class LevelHabits:
    """What the trace says of one level of one app. Times in ms."""

    gaps_ms: FloatArray
    """Recent idle times, oldest first, at most MEMORY_GAPS."""
    phases_ms: FloatArray
    """When each began, modulo the longest of PERIODS_MS. Shape of `gaps_ms`."""
    covered_ms: float
    """Mean of min(time in use, start-up time): what its own request waits where it has no instance."""
    excess_ms: float
    """Mean of max(time in use - start-up time, 0): what a start can save once a request waits."""
    open_ms: float = 0.0
    """The idle time that had not ended when the trace did: it is at least so long."""
    uses: int = 0
    """How often it was taken while `gaps_ms` were seen."""
    behind: float = 1.0
    """What a miss costs in all, as a multiple of `covered_ms`: requests behind the first wait too."""

    def beyond(self, sure_ms: float) -> tuple[list[float], list[float]]:
        """The idle times longer than that, and when each began: on the clocks, and before time 0,
        which tells them from what is seen at runtime."""
        longer = self.gaps_ms > sure_ms
        return self.gaps_ms[longer].tolist(), (self.phases_ms[longer] - PERIODS_MS[-1]).tolist()


@dataclass(frozen=True, slots=True)
class AppHabits:
    """What the trace says of one app."""

    start_ms: float
    levels: tuple[LevelHabits, ...]
    use_ms: float = 0.0
    """Mean execution; 0 where it is not known."""
    crowd: float = 1.0
    """Requests that come while an instance starts, by the share of the start that they would wait."""


def _default_prior() -> FloatArray:
    return np.geomspace(1_000.0, 4_000_000.0, 25)


@dataclass(frozen=True, slots=True)
class Model:
    """What training learns: the population, each app seen, and the price to begin with."""

    price_s_per_gb_s: float = DEFAULT_PRICE
    prior_ms: FloatArray = field(default_factory=_default_prior)
    """Idle times of the population, equally likely, each app counting the same. Shape (n,)."""
    start_ms: float = DEFAULT_START_MS
    """The population's median start-up time."""
    apps: Mapping[str, AppHabits] = field(default_factory=dict)
    context: Context | None = None
    """What was learned across apps of when the next use comes; None where it does not pay."""
    objective: Objective = OWN_PRICE
    """What the price was found for, and is moved for while serving."""

    def settings(self) -> dict[str, float | str]:
        """The scalars, for a manifest."""
        settings: dict[str, float | str] = {
            "price_s_per_gb_s": self.price_s_per_gb_s,
            "start_ms": self.start_ms,
            "objective": str(self.objective),
        }
        if self.context is not None:
            settings["context_gain"] = self.context.new_apps_gain
        return settings

    def texts(self) -> dict[str, str]:
        """What is stored as text: the context's trees."""
        return {} if self.context is None else {CONTEXT: self.context.trees.text}

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything else as flat arrays; levels follow each other app by app."""
        levels = [level for app in self.apps.values() for level in app.levels]
        gaps = [level.gaps_ms for level in levels]
        # One after the other, each as long as it is: NumPy's own texts are all as long as the
        # longest, and end at a NUL.
        keys = [key.encode("utf-8", "surrogatepass") for key in self.apps]
        context = self.context
        in_context = (
            {} if context is None else {"app_context_gain": [*map(context.gain, self.apps)]}
        )
        return {
            "prior_ms": self.prior_ms,
            "app_key_bytes": np.frombuffer(b"".join(keys), dtype=np.uint8),
            "app_key_ends": np.cumsum([len(each) for each in keys], dtype=np.int64),
            "app_start_ms": np.array([app.start_ms for app in self.apps.values()], dtype=float),
            "app_use_ms": np.array([app.use_ms for app in self.apps.values()], dtype=float),
            "app_crowd": np.array([app.crowd for app in self.apps.values()], dtype=float),
            **{name: np.array(gains, dtype=float) for name, gains in in_context.items()},
            "app_levels": np.array([len(app.levels) for app in self.apps.values()], dtype=np.int64),
            "level_covered_ms": np.array([level.covered_ms for level in levels], dtype=float),
            "level_excess_ms": np.array([level.excess_ms for level in levels], dtype=float),
            "level_open_ms": np.array([level.open_ms for level in levels], dtype=float),
            "level_uses": np.array([level.uses for level in levels], dtype=np.int64),
            "level_behind": np.array([level.behind for level in levels], dtype=float),
            "level_gaps": np.array([len(each) for each in gaps], dtype=np.int64),
            "gaps_ms": np.concatenate([np.zeros(0), *gaps]),
            "phases_ms": np.concatenate([np.zeros(0), *(level.phases_ms for level in levels)]),
        }

    @classmethod
    def from_parts(
        cls,
        arrays: Mapping[str, npt.NDArray[Any]],
        settings: Mapping[str, Any],
        texts: Mapping[str, str] = MappingProxyType({}),
    ) -> Model:
        """The inverse of `arrays`, `settings` and `texts`. Raises KeyError or ValueError on others."""
        gaps, phases = (
            np.split(np.asarray(arrays[name], dtype=float), np.cumsum(arrays["level_gaps"])[:-1])
            for name in ("gaps_ms", "phases_ms")
        )
        levels = [
            LevelHabits(*row)
            for row in zip(
                gaps,
                phases,
                arrays["level_covered_ms"].tolist(),
                arrays["level_excess_ms"].tolist(),
                arrays["level_open_ms"].tolist(),
                arrays["level_uses"].tolist(),
                arrays["level_behind"].tolist(),
                strict=False,
            )
        ]
        apps = {}
        position = 0
        for key, start_ms, use_ms, crowd, count in zip(
            _keys(arrays["app_key_bytes"], arrays["app_key_ends"]),
            arrays["app_start_ms"].tolist(),
            arrays["app_use_ms"].tolist(),
            arrays["app_crowd"].tolist(),
            arrays["app_levels"].tolist(),
            strict=True,
        ):
            own = tuple(levels[position : position + count])
            apps[key] = AppHabits(start_ms, own, use_ms, crowd)
            position += count
        context = None
        if CONTEXT in texts:
            gains = dict(zip(apps, arrays["app_context_gain"].tolist(), strict=True))
            context = Context(texts[CONTEXT], gains, float(settings["context_gain"]))
        return cls(
            float(settings["price_s_per_gb_s"]),
            np.asarray(arrays["prior_ms"], dtype=float),
            float(settings["start_ms"]),
            apps,
            context,
            # One that was trained before there were any goes by its price.
            objective=parse(settings["objective"]) if "objective" in settings else OWN_PRICE,
        )


def _keys(content: npt.NDArray[Any], ends: npt.NDArray[Any]) -> list[str]:
    """Texts that lie one after the other as UTF-8. Raises ValueError where they do not."""
    if content.dtype != np.uint8 or ends.dtype != np.int64 or content.ndim != 1 or ends.ndim != 1:
        raise ValueError("keys of another kind")
    starts = [0, *ends.tolist()]
    if starts[-1] != len(content) or any(np.diff(ends, prepend=0) < 0):
        raise ValueError("keys out of order")
    text = content.tobytes()
    keys = [text[begin:end].decode("utf-8", "surrogatepass") for begin, end in pairwise(starts)]
    if len(set(keys)) < len(keys):
        raise ValueError("an app that is there twice")
    return keys
