"""`scaler evaluate --protocol femux` and the table of `make duel`: a row a policy, a column a weight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table

from warmscaler.cli.console import out, print_json, print_wide, progress
from warmscaler.cli.errors import UserError
from warmscaler.training.evaluating.duel import (
    DEFAULT_PRICE,
    PRICES,
    PROTOCOL,
    Contender,
    Duel,
    as_json,
    duel,
)
from warmscaler.training.evaluating.evaluate import Window
from warmscaler.training.evaluating.settings import LEARNED

HEADINGS = (
    *(f"cost at {price:g}" for price in PRICES),
    f"p75 of apps at {DEFAULT_PRICE:g}",
    "wasted GB·s",
    "idle instance-hours",
    "waited s",
    "µs a decision",
)
"""The last five are told of the setting that is best at the default weight."""


def check_protocol(name: str, others: Sequence[object]) -> None:
    """Refuses a protocol that nobody knows, and the options that it has no place for."""
    if name != PROTOCOL:
        raise UserError(f"--protocol {name}: there is {PROTOCOL}")
    if any(others):
        raise UserError(
            f"--protocol {PROTOCOL} has policies, prices and start-up times of its own, and gives"
            " figures only: it goes with --split, --jobs, --cluster, --json"
        )


def run(part: Window, jobs: int) -> Duel:
    """Trains, and replays every policy."""
    with progress("replaying", 1) as show:
        return duel(part, jobs=jobs, on_progress=lambda done, of: show(done / of))


def show(of: Duel, *, json: bool) -> None:
    if json:
        print_json(as_json(of))
    else:
        print_wide(table_of(of))
        out.print(verdict(of))


def cells(of: Duel) -> Iterator[tuple[str, ...]]:
    """A row a policy: costs with the settings that they are of, then what stands beside them."""
    for each in of.contenders:
        best = each.best[PRICES.index(DEFAULT_PRICE)]
        figures = best.figures
        yield (
            each.family,
            *(_cost(each, at) for at in range(len(PRICES))),
            f"{figures.app_cold_start_rate_p75 or 0.0:.3f}",
            f"{figures.wasted_gb_s:,.0f}",
            f"{best.idle_hours:,.0f}",
            f"{figures.wait_s:,.0f}",
            f"{best.decision_us:.0f}",
        )


def verdict(of: Duel) -> str:
    """Ours against the cheapest of the others at each weight."""
    told = ", ".join(
        f"{of.ratio(at):.2f} at {price:g} (against {of.rival(at).family})"
        for at, price in enumerate(PRICES)
    )
    return f"{of.trace}: learned costs, over the cheapest of the others in hindsight, {told}"


def table_of(of: Duel) -> Table:
    table = Table(
        title=f"{of.trace}: FeMux's measure, s (the setting that costs least in hindsight)",
        box=box.SIMPLE,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    table.add_column("policy", no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in cells(of):
        table.add_row(*row)
    return table


def _cost(each: Contender, at: int) -> str:
    knob = each.best[at].setting.knob_value
    setting = "" if each.family == LEARNED or knob is None else f" ({knob:g})"
    return f"{each.cost_s(at):,.0f}{setting}"
