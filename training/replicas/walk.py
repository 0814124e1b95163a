"""The planner's own code over many looks of one app at once, for fitting and judging."""

from __future__ import annotations

from typing import Any

from warmscaler.replicas.compiled import compilable
from warmscaler.replicas.experts import Accounts, Terms, charge, followed, propose
from warmscaler.replicas.levels import Memory, advance, describe, is_due, watched
from warmscaler.replicas.quantiles import adapted, covered, quantile


@compilable
def count_rows(memory: Memory, first: int, needed: Any, starts: Any) -> None:
    """Takes the looks in; `starts[i]` to `starts[i + 1]` are the rows of look i, shape (looks + 1,)."""
    for i in range(len(needed)):
        advance(memory, first + i, 0, needed[i])
        starts[i + 1] = starts[i] + (watched(memory) if is_due(memory, first + i) else 0)


@compilable
def describe_looks(
    memory: Memory, first: int, needed: Any, fleet: Any, lead: int, starts: Any, rows: Any
) -> None:
    """Takes the looks in, and describes the levels after each that is due into `rows`."""
    for i in range(len(needed)):
        advance(memory, first + i, 0, needed[i])
        if starts[i + 1] > starts[i]:
            describe(memory, first + i, lead, fleet[i], rows[starts[i] : starts[i + 1]])


@compilable
def falling(chances: Any, starts: Any) -> None:
    """A level is in use only where those below are: the chances of a look fall."""
    for i in range(len(starts) - 1):
        for row in range(starts[i] + 1, starts[i + 1]):
            chances[row] = min(chances[row], chances[row - 1])


@compilable
def follow_looks(
    memory: Memory,
    accounts: Accounts,
    terms: Terms,
    first: int,
    needed: Any,
    mean: Any,
    starts: Any,
    chances: Any,
    alpha: Any,
    floors: Any,
    chosen: Any,
    upper: Any,
    every: Any,
) -> None:
    """Plans look by look; without chances where `starts` is all zeros.

    Writes the floor, the expert followed, the 90 % quantile of the jittered peak a start ahead, and
    every expert's floor, shape (experts, looks).
    """
    lead = 1 + terms.start_looks
    begin, end = 0, 0
    for i in range(len(needed)):
        charge(accounts, terms, needed[i], mean[i])
        advance(memory, first + i, 0, needed[i])
        if starts[i + 1] > starts[i]:
            begin, end = starts[i], starts[i + 1]
        propose(accounts, memory, terms, first + i, chances[begin:end], end - begin)
        chosen[i], floors[i] = followed(accounts)
        ring = accounts.floors.shape[1]
        every[:, i] = accounts.floors[:, (accounts.count[0] - 1) % ring]
        if i >= lead:
            alpha[0] = adapted(alpha[0], covered(upper[i - lead], needed[i]))
        upper[i] = quantile(chances[begin:end], end - begin, 1.0 - alpha[0])
