"""Overrides: dated floors that a person knows of and no forecast can.

[[override]]
app = "checkout"
from = 2026-11-27T08:00:00+01:00
until = 2026-11-28T00:00:00+01:00
at_least = 20
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_KEYS = ("app", "from", "until", "at_least")
_MOST = 1_000_000


class OverridesError(ValueError):
    """Overrides that cannot be used. Its text is one line: what is wrong, where, what to do."""


@dataclass(frozen=True, slots=True)
class Override:
    """At least so many replicas of an app in [from_s, until_s), seconds since the epoch."""

    app: str
    from_s: float
    until_s: float
    at_least: int


def parse_overrides(text: str, where: str = "overrides.toml") -> tuple[Override, ...]:
    """The overrides in the TOML `text` that stands at `where`. Raises OverridesError."""
    try:
        found = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise OverridesError(f"{where}: not TOML: {error}") from None
    for key in found:
        if key != "override":
            raise OverridesError(f"{where}: `{key}` is not known here: each stands in [[override]]")
    tables = found.get("override", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise OverridesError(f"{where}: `override` must be tables, each headed [[override]]")
    return tuple(_override(table, f"{where}: override {n}") for n, table in enumerate(tables, 1))


def floor_at(overrides: Iterable[Override], app: str, from_s: float, to_s: float) -> int:
    """The most replicas that an override asks of `app` at any time in [from_s, to_s]."""
    asked = (
        each.at_least
        for each in overrides
        if each.app == app and each.from_s <= to_s and from_s < each.until_s
    )
    return max(asked, default=0)


def _override(table: dict[str, Any], where: str) -> Override:
    for key in table:
        if key not in _KEYS:
            raise OverridesError(f"{where}: `{key}` is not known; there are {', '.join(_KEYS)}")
    for key in _KEYS:
        if key not in table:
            raise OverridesError(f"{where}: `{key}` is missing")
    app, at_least = table["app"], table["at_least"]
    if not isinstance(app, str) or not app:
        raise OverridesError(f"{where}: `app` must be a name, as a string")
    if isinstance(at_least, bool) or not isinstance(at_least, int) or not 0 <= at_least <= _MOST:
        raise OverridesError(f"{where}: `at_least` must be a whole number from 0 to {_MOST:,}")
    from_s, until_s = (_seconds(table[key], key, where) for key in ("from", "until"))
    if from_s >= until_s:
        raise OverridesError(f"{where}: `until` must be later than `from`")
    return Override(app, from_s, until_s, at_least)


def _seconds(value: Any, key: str, where: str) -> float:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise OverridesError(
            f"{where}: `{key}` must be a date and time with its zone, as 2026-11-27T08:00:00Z"
        )
    return value.timestamp()
