"""What is asked for, in one of three ways: `--price`, `--objective`, or money."""

from __future__ import annotations

from math import isfinite
from typing import Annotated

import typer

from warmscaler.cli.errors import UserError
from warmscaler.models.objectives.price import PRICE_RANGE, is_price, price_of_money
from warmscaler.models.objectives.words import KNOWN, Objective, ObjectiveError, at_price, parse

PriceOption = Annotated[
    float | None,
    typer.Option("--price", help="Seconds of waiting that a GB·s is worth; it stays as it is."),
]
ObjectiveOption = Annotated[
    str | None,
    typer.Option(
        "--objective",
        help=f"What learned aims at, which moves the price: {KNOWN}. Without any: safe, no more"
        " waiting than under fixed:300, then the least memory.",
    ),
]
GbHour = Annotated[
    float | None,
    typer.Option("--gb-hour", help="What a GB·h of memory costs; with --second-waited: the price."),
]
SecondWaited = Annotated[
    float | None,
    typer.Option("--second-waited", help="What a second that a request waits costs, as --gb-hour."),
]


def asked(
    price: float | None = None,
    objective: str | None = None,
    gb_hour: float | None = None,
    second_waited: float | None = None,
    *,
    gb_hour_alone: bool = False,
    prefix: str = "--",
) -> Objective | None:
    """What the options ask for, None for none of them. Raises UserError, one line.

    `gb_hour_alone` lets it be said to tell figures in money only; `prefix` is that of the options.
    """
    for name, value in (("--gb-hour", gb_hour), ("--second-waited", second_waited)):
        if value is not None and not (isfinite(value) and value > 0.0):
            raise UserError(f"{name} {value:g}: it must be a number above 0")
    if second_waited is not None and gb_hour is None:
        raise UserError("--second-waited goes with --gb-hour: what a GB·h of memory costs")
    if gb_hour is not None and second_waited is None and not gb_hour_alone:
        raise UserError("--gb-hour goes with --second-waited: what a second of waiting costs")
    said = {
        f"{prefix}price": price,
        f"{prefix}objective": objective,
        "--gb-hour with --second-waited": second_waited,
    }
    named = [name for name, value in said.items() if value is not None]
    if len(named) > 1:
        raise UserError(f"{' and '.join(named)} ask for different things: say one of them")
    if price is not None and not is_price(price):
        raise UserError(f"{prefix}price {price:g}: {PRICE_RANGE}")
    try:
        if price is not None:
            return at_price(price)
        if objective is not None:
            return parse(objective)
    except ObjectiveError as error:
        raise UserError(f"{prefix}objective: {error}") from None
    if gb_hour is None or second_waited is None:
        return None
    worth = price_of_money(gb_hour, second_waited)
    if not is_price(worth):
        raise UserError(
            f"--gb-hour {gb_hour:g} and --second-waited {second_waited:g} make a price of"
            f" {worth:g}: {PRICE_RANGE}"
        )
    return at_price(worth)
