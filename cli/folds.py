"""One split of a trace: run, and what came of it told as a table or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table

from warmscaler.cli.console import out, print_wide, progress
from warmscaler.data.trace import Trace
from warmscaler.models.learned.habits import Model
from warmscaler.models.objectives.words import DEFAULT, Objective
from warmscaler.training.evaluating import evaluate as evaluation
from warmscaler.training.evaluating.evaluate import Measured, Window, as_json, mean_and_spread
from warmscaler.training.evaluating.settings import BASELINE, Setting

COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("score", "score", ".2f"),
    ("resource_score", "resource", ".2f"),
    ("cold_start_score", "cold", ".2f"),
    ("cold_start_rate", "cold rate", ".5f"),
    ("start_rate", "starts", ".5f"),
    ("app_cold_start_rate_p75", "p75 apps", ".3f"),
    ("wasted_gb_s", "wasted GB·s", ",.0f"),
    ("wait_s", "wait s", ",.0f"),
    ("wait_p99_ms", "p99 ms", ",.0f"),
)


@dataclass(frozen=True, slots=True)
class Fold:
    """One split of the trace, and every setting's figures on it."""

    part: Window
    measured: list[Measured]
    model: Model | None = None
    """What learned went by."""


def run(
    part: Window,
    settings: Sequence[Setting],
    model: Model | None,
    create_ms: float,
    jobs: int,
    *,
    keep_requests: bool = False,
    keep_replays: bool = False,
    baseline: str = BASELINE,
    objective: Objective = DEFAULT,
    context: bool = False,
) -> Fold:
    """Trains for `objective` if no model is given, then replays every setting."""
    if model is None and any(each.policy == "learned" for each in settings):
        with progress("training", 1) as show_training:
            model = evaluation.train(
                part,
                create_ms=create_ms,
                jobs=jobs,
                objective=objective,
                on_progress=show_training,
                context=context,
            )
    settings = evaluation.tune(part, settings, create_ms=create_ms, jobs=jobs)
    measured = []
    with progress("replaying", len(settings)) as show:
        for each in evaluation.evaluate(
            part,
            settings,
            create_ms=create_ms,
            model=model,
            jobs=jobs,
            keep_requests=keep_requests,
            keep_replays=keep_replays,
            baseline=baseline,
        ):
            measured.append(each)
            show(len(measured))
    return Fold(part, measured, model)


def figures_json(
    trace: Trace, split: float, create_ms: float, done: Sequence[Fold], *, in_folds: bool
) -> dict[str, Any]:
    """What `--json` prints."""
    head = {"trace": trace.name, "split": split, "create_ms": create_ms}
    if not in_folds:
        only = done[0].measured
        return head | {
            "requests": only[0].figures.requests,
            "policies": [as_json(each) for each in only],
        }
    means = [mean_and_spread(runs) for runs in zip(*(f.measured for f in done), strict=True)]
    return (
        head
        | {"split": None, "requests": sum(f.measured[0].figures.requests for f in done)}
        | {"policies": [as_json(mean) | {"spread": spread} for mean, spread in means]}
        | {
            "folds": [
                {
                    "split": fold.part.split,
                    "until": fold.part.until,
                    "requests": fold.measured[0].figures.requests,
                    "policies": [as_json(each) for each in fold.measured],
                }
                for fold in done
            ]
        }
    )


def print_table(trace: Trace, done: Sequence[Fold], baseline: str = BASELINE) -> None:
    """A row a policy, and what learned saves."""
    if len(done) == 1:
        requests = done[0].measured[0].figures.requests
        title = (
            f"{trace.name}: {requests:,} requests from {100 * done[0].part.split:g}% of the span on"
        )
        rows = [(each, None) for each in done[0].measured]
    else:
        title = f"{trace.name}: mean ± standard deviation of {len(done)} rolling folds"
        rows = [
            mean_and_spread(runs)  # type: ignore[misc]
            for runs in zip(*(fold.measured for fold in done), strict=True)
        ]
    table = Table(title=title, box=box.SIMPLE, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("policy", no_wrap=True)
    for _, heading, _ in COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    for measured, spread in rows:
        cells = []
        for name, _, form in COLUMNS:
            value = getattr(measured.figures, name)
            cell = "-" if value is None else format(value, form)
            if spread is not None and value is not None:
                cell += f" ±{spread[name]:{form}}"
            cells.append(cell)
        table.add_row(measured.setting.label, *cells)
    print_wide(table)
    line = evaluation.saving([measured for measured, _ in rows], baseline)
    if line:
        out.print(line)
