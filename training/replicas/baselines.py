"""What ours is judged against: reactive rules tuned in hindsight, the season before, and clairvoyance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from warmscaler.replicas.compiled import fast
from warmscaler.replicas.levels import DAY_LOOKS, LOOK_S
from warmscaler.simulator.figures import charged_gaps_ms
from warmscaler.simulator.replicas.loop import run
from warmscaler.simulator.replicas.rules import Rule
from warmscaler.training.replicas.load import AppLoad, FloatArray, Load, gb_of

_NO_FLOOR = np.zeros(0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What serving a load took, from the split on; each of shape (apps,)."""

    wait_s: FloatArray
    waste_gb_s: FloatArray
    """Held beyond use; a place in a replica of several is its part of it."""
    waited: FloatArray
    """Requests that waited."""
    held_s: FloatArray
    """Replica-seconds."""

    def cost(self, price: float) -> float:
        """Seconds of waiting, plus GB·s held beyond use at the price."""
        return float(self.wait_s.sum() + price * self.waste_gb_s.sum())


def measured(load: Load, app: AppLoad) -> npt.NDArray[np.bool_]:
    """Which of the app's requests count."""
    return np.asarray(app.arrival_s >= load.split_s)


def serve(
    load: Load, app: AppLoad, rule: Rule, floor: FloatArray, begin_s: float, end_s: float
) -> tuple[FloatArray, float]:
    """Serves the app's requests before `end_s` under `rule` and a floor by look, if it has any.

    Returns the waits of those from `begin_s` on, and replica-seconds from then to the end.
    """
    until = int(np.searchsorted(app.arrival_s, end_s))
    wait_s = np.zeros(until)
    held_s, _, _ = fast(run)(
        app.arrival_s[:until],
        app.duration_s[:until],
        app.spec.container_concurrency,
        app.spec.start_s,
        rule.settings(),
        floor.astype(np.int64),
        LOOK_S,
        load.from_s,
        end_s,
        begin_s,
        wait_s,
    )
    return wait_s[int(np.searchsorted(app.arrival_s, begin_s)) :], held_s


def replay(load: Load, rule: Rule, floors: Sequence[FloatArray] | None = None) -> Outcome:
    """Serves every app under `rule`, with a floor by look from the trace's start on, if given."""
    rows = []
    for index, app in enumerate(load.apps):
        floor = _NO_FLOOR if floors is None else floors[index]
        wait_s, held_s = serve(load, app, rule, floor, load.split_s, load.end_s + 1e-6)
        # Less than a microsecond is rounding of sums.
        rows.append((wait_s.sum(), _waste(load, app, held_s), (wait_s > 1e-6).sum(), held_s))
    return Outcome(*np.array(rows, dtype=np.float64).reshape(-1, 4).T)


def replay_all(load: Load, rules: Sequence[Rule], done: Callable[[float], None]) -> list[Outcome]:
    """Every rule's outcome; `done` is told how many there are."""
    outcomes = []
    for rule in rules:
        outcomes.append(replay(load, rule))
        done(len(outcomes))
    return outcomes


def seasonal(app: AppLoad, looks_before: int = DAY_LOOKS) -> FloatArray:
    """Floors of the seasonal naive forecast: the last value, or what was needed a day before."""
    floors = app.needed.copy()
    ahead = round(app.spec.start_s / LOOK_S) + 3
    for near in range(1, ahead):
        shift = looks_before - near
        if shift < len(floors):
            floors[shift:] = np.maximum(floors[shift:], app.needed[: len(floors) - shift])
    return floors


def clairvoyant(load: Load) -> Outcome:
    """Perfect knowledge of arrivals without making a request wait: the least that a replica is held.

    A replica is kept over a gap, or let go and started again just in time, whichever is shorter.
    """
    rows = []
    for app in load.apps:
        places = app.spec.container_concurrency
        begin_ms, length_ms = _replica_uses(app, places)
        gaps_s = (
            charged_gaps_ms(begin_ms, length_ms, app.spec.start_s * 1_000.0, load.split_s * 1_000.0)
            / 1_000.0
        )
        use_s = sum(
            max(begin + length - max(begin, load.split_s * 1_000.0), 0.0)
            for begin, length in zip(begin_ms, length_ms, strict=True)
        )
        held_s = gaps_s + use_s / 1_000.0
        rows.append((0.0, _waste(load, app, held_s), 0.0, held_s))
    return Outcome(*np.array(rows, dtype=np.float64).reshape(-1, 4).T)


def _replica_uses(app: AppLoad, places: int) -> tuple[list[int], list[int]]:
    """When the k-th replica is in use, for every k: beginnings in order, and lengths, in ms."""
    begin_ms = np.round(app.arrival_s * 1_000.0).astype(np.int64)
    length_ms = np.round(app.duration_s * 1_000.0).astype(np.int64)
    if places == 1 or not len(begin_ms):
        return begin_ms.tolist(), length_ms.tolist()
    at = np.concatenate((begin_ms, begin_ms + np.maximum(length_ms, 1)))
    change = np.repeat([1, -1], len(begin_ms))
    order = np.lexsort((change, at))
    at, there = at[order], np.cumsum(change[order])
    uses: list[tuple[int, int]] = []
    for level in range(1, int(there.max()) + 1, places):
        edges = np.flatnonzero(np.diff((there >= level).astype(np.int8), prepend=0))
        pairs = at[edges].reshape(-1, 2)
        uses += [(int(begin), int(end - begin)) for begin, end in pairs]
    uses.sort()
    return [begin for begin, _ in uses], [length for _, length in uses]


def _waste(load: Load, app: AppLoad, held_s: float) -> float:
    used_s = app.duration_s[measured(load, app)].sum() / app.spec.container_concurrency
    return float((held_s - used_s) * gb_of(app))
