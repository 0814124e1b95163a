"""What a user asks for, in words: `safe`, `score`, `cold-starts=1%`, `wait-p99=500ms`, `memory=40GB`,
`price=0.03`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite

from warmscaler.models.objectives.price import PRICE_RANGE, is_price

KNOWN = "safe, score, cold-starts=1%, wait-p99=500ms, memory=40GB, price=0.03"
_UNITS_MS = {"ms": 1.0, "s": 1_000.0, "m": 60_000.0}
_UNITS_GB = {"MB": 1.0 / 1_024.0, "GB": 1.0, "TB": 1_024.0}
_NUMBER = r"(\d+(?:\.\d*)?(?:e-?\d+)?)"


class ObjectiveError(ValueError):
    """Words that ask for nothing known. The text is one line: what is wrong, and what is known."""


class Kind(StrEnum):
    PRICE = "price"
    """Goes by one price, and holds nothing."""
    SAFE = "safe"
    """Requests wait no longer, in all, than under fixed:300; then the least memory."""
    SCORE = "score"
    """The contest's score."""
    COLD_STARTS = "cold-starts"
    """At most so large a share of the requests waits for an instance to start."""
    WAIT = "wait"
    """At most so large a share of the requests waits for longer than so many ms."""
    MEMORY = "memory"
    """The instances take at most so many GB, on average."""


@dataclass(frozen=True, slots=True)
class Objective:
    """One kind, and its number."""

    kind: Kind
    value: float = 0.0
    """COLD_STARTS: a share of the requests; WAIT: ms; MEMORY: GB; PRICE: seconds per GB·s, where 0
    is the model's own; else 0."""
    quantile: float = 0.0
    """WAIT: of the requests that wait no longer; else 0."""

    def __str__(self) -> str:
        """The words that `parse` reads."""
        if self.kind is Kind.COLD_STARTS:
            return f"cold-starts={self.value * 100.0:.6g}%"
        if self.kind is Kind.WAIT:
            return f"wait-p{self.quantile * 100.0:.6g}={self.value:.6g}ms"
        if self.kind is Kind.MEMORY:
            return f"memory={self.value:.6g}GB"
        if self.kind is Kind.PRICE and self.value:
            return f"price={self.value:.6g}"
        return str(self.kind)

    @property
    def allowed_share(self) -> float:
        """Of the requests, for COLD_STARTS and WAIT."""
        return self.value if self.kind is Kind.COLD_STARTS else 1.0 - self.quantile


SAFE = Objective(Kind.SAFE)
SCORE = Objective(Kind.SCORE)
OWN_PRICE = Objective(Kind.PRICE)
"""The price of the model, whatever it is."""
DEFAULT = SAFE


def at_price(s_per_gb_s: float) -> Objective:
    """Goes by that price. Raises ObjectiveError where it is none."""
    if not is_price(s_per_gb_s):
        raise ObjectiveError(f"the price is {s_per_gb_s:g}: {PRICE_RANGE}")
    return Objective(Kind.PRICE, s_per_gb_s)


def parse(text: str) -> Objective:
    """The objective that these words ask for. Raises ObjectiveError."""
    name, equals, said = text.strip().partition("=")
    if not equals and name in ("safe", "score", "price"):
        return Objective(Kind(name))
    if name == "price":
        return at_price(_number(text, said))
    if name == "cold-starts":
        share = _number(text, said[:-1]) / 100.0 if said.endswith("%") else _number(text, said)
        if not 0.0 < share < 1.0:
            raise ObjectiveError(f"the objective {text!r}: its share lies between 0 and 100 %")
        return Objective(Kind.COLD_STARTS, share)
    if wait := re.fullmatch(rf"wait-p{_NUMBER}={_NUMBER}(ms|s|m)", text.strip()):
        quantile, value_ms = float(wait[1]) / 100.0, float(wait[2]) * _UNITS_MS[wait[3]]
        if not (0.5 <= quantile < 1.0 and 0.0 < value_ms <= 86_400_000.0):
            raise ObjectiveError(
                f"the objective {text!r}: its quantile is from p50 to below p100, its time above 0 and"
                " a day at most"
            )
        return Objective(Kind.WAIT, value_ms, round(quantile, 12))
    if memory := re.fullmatch(rf"memory={_NUMBER}(MB|GB|TB)", text.strip()):
        value_gb = float(memory[1]) * _UNITS_GB[memory[2]]
        if not (isfinite(value_gb) and value_gb > 0.0):
            raise ObjectiveError(f"the objective {text!r}: its memory is above 0")
        return Objective(Kind.MEMORY, value_gb)
    raise ObjectiveError(f"there is no objective {text!r}: known are {KNOWN}")


def _number(text: str, said: str) -> float:
    if re.fullmatch(_NUMBER, said) is None:
        raise ObjectiveError(f"the objective {text!r}: {said!r} is no number; known are {KNOWN}")
    return float(said)
