"""The price: how many seconds of waiting a GB·s of memory is worth."""

from __future__ import annotations

MIN_PRICE, MAX_PRICE = 1e-6, 1e6
"""Beyond, nothing is ever kept or ever let go."""

PRICE_RANGE = f"it must be from {MIN_PRICE:g} to {MAX_PRICE:g} seconds per GB·s"


def is_price(price: float) -> bool:
    """Whether it is one that decisions can be taken by; NaN is none."""
    return MIN_PRICE <= price <= MAX_PRICE


def price_of_money(gb_hour: float, second_waited: float) -> float:
    """Seconds of waiting per GB·s, where a GB·h of memory and a second of waiting cost so much."""
    return gb_hour / 3_600.0 / second_waited


def exchange_rate(
    execution_gb_s: float, slot_gb_s: float, execution_s: float, wait_s: float
) -> float:
    """Seconds of waiting that a GB·s is worth where the contest's score is stationary."""
    return execution_gb_s / slot_gb_s**2 * (execution_s + wait_s) ** 2 / execution_s


class Price:
    """One number for all apps, read at every decision. Its owner may move it."""

    __slots__ = ("s_per_gb_s",)

    def __init__(self, s_per_gb_s: float) -> None:
        """Raises ValueError outside of the range."""
        if not is_price(s_per_gb_s):
            raise ValueError(f"the price is {s_per_gb_s:g}: {PRICE_RANGE}")
        self.s_per_gb_s = s_per_gb_s
        """Seconds of waiting that a GB·s is worth, as of now."""
