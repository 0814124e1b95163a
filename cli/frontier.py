"""The table of `scaler evaluate --frontier` and `make frontier`: a row a trace, a column a price."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from warmscaler.cli.console import progress
from warmscaler.models.learned.habits import Model
from warmscaler.models.objectives.words import SCORE
from warmscaler.training.evaluating.evaluate import Window, train
from warmscaler.training.evaluating.frontier import Frontier, frontier


def run(part: Window, model: Model | None, create_ms: float, jobs: int) -> Frontier:
    """Trains if no model is given, then replays ours at every price, and the others."""
    if model is None:
        with progress("training", 1) as show_training:
            model = train(
                part, create_ms=create_ms, jobs=jobs, objective=SCORE, on_progress=show_training
            )
    with progress("replaying", 1) as show:
        return frontier(
            part,
            model,
            create_ms=create_ms,
            jobs=jobs,
            on_progress=lambda done, of: show(done / of),
        )


def table_of(frontiers: Sequence[Frontier]) -> Table:
    """Our cost over that of the best of the others in hindsight, by trace and price."""
    prices = [point.price for point in frontiers[0].points]
    table = Table(
        title="cost of learned over that of the cheapest other setting, by price (s per GB·s)",
        box=box.SIMPLE,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    table.add_column("trace", no_wrap=True)
    for heading in (
        *(f"{price:g}" for price in prices),
        "mean",
        "worst",
        "trained",
        "at",
        "waste rises",
        "waiting falls",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in frontiers:
        trained = each.trained
        table.add_row(
            each.trace,
            *(f"{ratio:.2f}" for ratio in each.ratios),
            f"{each.geometric_mean:.3f}",
            f"{max(each.ratios):.2f}",
            "-" if trained is None else f"{trained.ratio:.2f}",
            "-" if trained is None else f"{trained.price:.3g}",
            f"{each.waste_rises:.1%}",
            f"{each.waiting_falls:.1%}",
        )
    return table
