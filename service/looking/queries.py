"""Prometheus' query API without I/O: many queries made one, and what its answers say.

The API: https://prometheus.io/docs/prometheus/latest/querying/api/.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import orjson

LABEL = "scaler_query"
"""Tells the series of one query from those of another in the answer to both."""
MOST_QUERY_CHARACTERS = 8_192


class QueryError(Exception):
    """An answer without the number that was asked for. Its text is one line."""


class Away(Exception):
    """Nobody there answers as Prometheus does. Its text is one line."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a query gave at a time."""

    value: float | None
    """None where it found no series."""
    problem: str | None = None
    """Why there is no number, where it found something else."""


def joined(queries: Sequence[str]) -> str:
    """One query whose answer holds those of all, each labelled by its place.

    Each must have been answered by itself before: a query that is not whole could swallow the others.
    """
    marked = (
        # On lines of their own, for a query may end in a comment.
        f'label_replace((\n{query}\n), "{LABEL}", "{place}", "", "")'
        for place, query in enumerate(queries)
    )
    return " or ".join(marked)


def instant(answer: bytes, count: int) -> list[Sample]:
    """Of a `joined` query of `count`: a sample each. Raises QueryError, Away."""
    data, warning = _data(answer, "vector")
    found: list[list[Any]] = [[] for _ in range(count)]
    for series in data:
        try:
            found[int(series["metric"][LABEL])].append(series["value"][1])
        except (KeyError, IndexError, TypeError, ValueError):
            raise QueryError("a series in the answer belongs to no query") from None
    return [_sample(each, warning) for each in found]


def history(answer: bytes, from_s: float, to_s: float, step_s: float) -> list[tuple[float, float]]:
    """Of a range query: times in seconds since the epoch and values, numbers or not, in order.

    Times may be a step off what was asked, as of those that align them. Raises QueryError,
    Away.
    """
    data, _ = _data(answer, "matrix")
    if not data:
        return []
    if len(data) > 1:
        raise QueryError(_many(len(data)))
    try:
        pairs = [(float(at_s), float(text)) for at_s, text in data[0]["values"]]
    except (KeyError, TypeError, ValueError):
        raise QueryError("the answer's values cannot be read") from None
    bounds = [from_s - step_s, *(at_s for at_s, _ in pairs), to_s + step_s]
    if not all(one <= next_one for one, next_one in pairwise(bounds)):
        raise QueryError("the answer's times are not those that were asked for")
    return pairs


def is_number(value: float) -> bool:
    """Whether so many requests may be executed at once."""
    return math.isfinite(value) and value >= 0.0


def refusal(answer: bytes) -> str | None:
    """What an answer says is wrong with the query; None if it is not Prometheus' own word."""
    try:
        found = orjson.loads(answer)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict) or found.get("status") != "error":
        return None
    return f"{found.get('errorType', 'error')}: {found.get('error', '')}"


def _data(answer: bytes, kind: str) -> tuple[list[Any], str | None]:
    """The series, and of what Prometheus warns."""
    try:
        found = orjson.loads(answer)
        data = found["data"]
        result, of_kind = data["result"], data["resultType"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise Away("no answer of Prometheus' query API") from None
    if of_kind != kind or not isinstance(result, list):
        raise QueryError(f"the answer is a {of_kind}, not a {kind}: the query must give one series")
    warnings = found.get("warnings")
    return result, str(warnings) if warnings else None


def _sample(values: list[Any], warning: str | None) -> Sample:
    if not values:
        # A store that did not answer has series too: that none came does not say that there are none.
        return Sample(
            None, warning and f"the query finds no series, and Prometheus warns: {warning}"
        )
    if len(values) > 1:
        return Sample(None, _many(len(values)))
    try:
        value = float(values[0])
    except (TypeError, ValueError):
        return Sample(None, "the value is no number")
    if not is_number(value):
        return Sample(None, f"the value is {value:g}: it must be a number from 0 on")
    return Sample(value)


def _many(count: int) -> str:
    return f"the query gives {count} series, not one: put sum() about it"
