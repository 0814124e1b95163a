"""Numbers and their units: instants, durations and memory of any usual writing, as ms and MB.

An instant is a number since 1970 or text by ISO 8601. The unit of a number is the one told, else the
one that its column's name ends in, else, for instants, the only one that puts it between 1973 and
2286: the four are three orders of magnitude apart.
"""

from __future__ import annotations

import re

import polars as pl

from warmscaler.data.tables.table import Table
from warmscaler.data.trace import TraceError

TIME_UNITS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3, "min": 6e4, "h": 3.6e6}
"""Milliseconds in one of each."""
MEMORY_UNITS = {
    "b": 2.0**-20,
    "kb": 2.0**-10,
    "mb": 1.0,
    "gb": 2.0**10,
}
"""Megabytes (2**20 bytes, as the contest and the clouds count them) in one of each."""
_WORDS = {
    "ns": "ns nanos nanosecond nanoseconds nsec",
    "us": "us µs micros microsecond microseconds usec",
    "ms": "ms milli millis millisecond milliseconds msec msecs",
    "s": "s sec secs second seconds",
    "min": "min mins minutes",
    "h": "hours",
    "b": "byte bytes",
    "kb": "kb kib kilobytes",
    "mb": "mb mib megabyte megabytes",
    "gb": "gb gib gigabytes",
}
UNIT_OF_WORD = {word: unit for unit, words in _WORDS.items() for word in words.split()}
EPOCH_BANDS = {"s": (1e8, 1e10), "ms": (1e11, 1e13), "us": (1e14, 1e16), "ns": (1e17, 1e19)}
"""In which unit a number since 1970 lies between 1973 and 2286."""
_ISO = (
    r"^\s*(?P<year>\d{4})-?(?P<month>\d{2})-?(?P<day>\d{2})[Tt ]"
    r"(?P<hour>\d{2}):?(?P<minute>\d{2})(?::?(?P<second>\d{2})(?:[.,](?P<part>\d{1,9}))?)?"
    r"\s*(?P<zone>Z|z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?(?: UTC)?\s*$"
)
_N = r"([0-9.]+(?:e[+-]?\d+)?)\s*"
_WITH_UNITS = (
    rf"(?i)^\s*(?:PT)?(?:{_N}h)?(?:{_N}m(?:in)?)?(?:{_N}s)?"
    rf"(?:{_N}ms)?(?:{_N}[uµμ]s)?(?:{_N}ns)?\s*$"
)
"""Go's 1m0.5s, 20ms and 300µs, ISO 8601's PT1M0.5S."""
_CLOCK = r"^\s*(?:(\d+) days?,? )?(\d+):(\d{2}):(\d{2}(?:\.\d+)?)\s*$"
"""Python's and SQL's 0:00:00.12, and pandas' 0 days 00:00:00.12."""
_SIZE = r"(?i)^\s*(?P<number>[0-9.]+(?:e[+-]?\d+)?)\s*(?P<unit>[kmg]i?b?|b|bytes)\s*$"
"""Memory as Docker's 512MB, Kubernetes' 512Mi."""
_LATEST_MS = 253_402_300_799_999.0  # the end of the year 9999, as LIMITS of a trace


def instants_ms(table: Table, column: pl.Series, unit: str | None) -> tuple[pl.Series, str]:
    """Instants as milliseconds since the epoch (Float64), and what they were taken for.

    `unit` is the one told or named, or None. Raises TraceError with the line of the first value that
    is none, or where no unit fits.
    """
    if isinstance(column.dtype, pl.Datetime):
        whole = column.cast(pl.Datetime("us", column.dtype.time_zone)).dt.epoch("us")
        zone = "" if column.dtype.time_zone else ", without a zone: UTC taken"
        return _filled(table, column, whole.cast(pl.Float64) / 1000.0), f"datetimes{zone}"
    if column.dtype == pl.Date:
        raise TraceError(f"{table.where}: field `{column.name}` holds days; instants are wanted")
    if column.dtype == pl.String:
        first = column.drop_nulls().str.strip_chars().head(1)
        if len(first) and re.match(_ISO, first[0]):
            return _iso_ms(table, column)
    mend = "write all as ISO 8601, day and time, or all as numbers since 1970"
    number = _number(table, column, "is no instant", mend)
    taken = unit or _epoch_unit(table, column, number)
    ms = number * TIME_UNITS[taken]
    whole = column.cast(pl.Int64, strict=False)
    if taken == "ns":  # more digits than a float has
        exact = not column.dtype.is_float() and not whole.null_count()
        # The float next to a whole ms is not the ms before.
        ms = (whole // 1000).cast(pl.Float64) / 1000.0 if exact else ms.round(3)
    mend = f"say its unit, as arrival={column.name}:ms (one of {', '.join(TIME_UNITS)})"
    table.refuse(column, ms > _LATEST_MS, f"taken in {taken} is after the year 9999", mend)
    table.refuse(column, ms < 0.0, "is negative", "times count from 1970, or from a start at 0")
    since = "since 1970" if float(ms.max() or 0.0) > 1e11 else "from a start at 0"  # type: ignore[arg-type]
    return ms, f"{taken} {since}"


def refuse_other_unit(table: Table, column: pl.Series, unit: str) -> None:
    """Raises TraceError where instants, by the column's name in `unit`, lie between 2001 and 2103 in
    another and in January 1970 in this one."""
    if column.dtype.is_temporal():
        return
    number = column.cast(pl.Float64, strict=False)
    low, high = (float(number.min() or 0.0), float(number.max() or 0.0))  # type: ignore[arg-type]
    for other in EPOCH_BANDS:
        first, last = (each * 1e3 / TIME_UNITS[other] for each in (1e9, 4.2e9))
        if other != unit and first <= low and high < last:
            raise TraceError(
                f"{table.where}: field `{column.name}` is not in {unit}, as its name says: from"
                f" {low:.15g} on it looks like {other} since 1970; say it, as"
                f" arrival={column.name}:{other} (or :{unit}, if it is)"
            )


def durations_ms(table: Table, column: pl.Series, unit: str | None) -> tuple[pl.Series, str]:
    """Durations as milliseconds (Float64, empty ones stay empty), and what they were taken for."""
    if isinstance(column.dtype, pl.Duration):
        return column.cast(pl.Duration("us")).dt.total_microseconds() / 1000.0, "durations"
    if _has_words(column):
        spelt_ms = _spelt_ms(column)
        if spelt_ms.count():
            bad = spelt_ms.is_null() & column.is_not_null()
            mend = "write as 1.5s, 20ms or 300us, like others"
            table.refuse(column, bad, "is no duration with a unit", mend)
            return spelt_ms, "numbers with units"
    number = _number(table, column, "is no number", "mend the line or leave it out")
    taken = unit or "ms"
    said = taken if unit else f"{taken}, as no unit is named: say {column.name}:s if it is another"
    return number * TIME_UNITS[taken], said


def _spelt_ms(column: pl.Series) -> pl.Series:
    """Of text that names its units, or is as a clock shows it; empty where it does neither."""
    ms = pl.Series(column.name, [None], dtype=pl.Float64).new_from_index(0, len(column))
    for pattern, scales in (
        (_WITH_UNITS, [3.6e6, 6e4, 1e3, 1.0, 1e-3, 1e-6]),
        (_CLOCK, [8.64e7, 3.6e6, 6e4, 1e3]),
    ):
        groups = column.str.extract_groups(pattern).struct.unnest()
        parts = [
            part.cast(pl.Float64, strict=False) * by
            for part, by in zip(groups, scales, strict=True)
        ]
        some = ~pl.all_horizontal(*(part.is_null() for part in parts))
        ms = pl.select(pl.coalesce(ms, pl.when(some).then(pl.sum_horizontal(parts)))).to_series()
        if ms.count() == column.count():
            break
    return ms.alias(column.name)


def memory_mb(table: Table, column: pl.Series, unit: str | None) -> tuple[pl.Series, str]:
    """Memory as megabytes (Float64, empty ones stay empty), and what it was taken for."""
    if _has_words(column):
        spelt = column.str.extract_groups(_SIZE).struct
        number, units = spelt.field("number").cast(pl.Float64, strict=False), spelt.field("unit")
        if number.count():
            bad = number.is_null() & column.is_not_null()
            table.refuse(column, bad, "is no size with a unit", "write as 512MB, 512Mi or 2GB")
            scales = {each[:1]: by for each, by in MEMORY_UNITS.items()}
            letter = units.str.to_lowercase().str.head(1)
            return number * letter.replace_strict(scales, default=None), "numbers with units"
    number = _number(table, column, "is no number", "mend the line or leave it out")
    said = ""
    if unit is None:
        # No instance has a terabyte, and none has less than a megabyte.
        middle = number.median()
        unit = "b" if isinstance(middle, float) and middle >= 2.0**20 else "mb"
        said = f", as no unit is named: say {column.name}:gb if it is another"
    return number * MEMORY_UNITS[unit], f"{unit.upper()}{said}"


def _has_words(column: pl.Series) -> bool:
    """Whether it is text that is not all numbers."""
    if column.dtype != pl.String:
        return False
    return column.str.strip_chars().cast(pl.Float64, strict=False).count() < column.count()


def _number(table: Table, column: pl.Series, says: str, mend: str) -> pl.Series:
    if column.dtype.is_numeric():
        number = column.cast(pl.Float64)
    else:
        text = column.cast(pl.String, strict=False).str.strip_chars()
        number = text.cast(pl.Float64, strict=False)
        table.refuse(column, number.is_null() & column.is_not_null(), says, mend)
    table.refuse(column, number.is_not_null() & ~number.is_finite(), says, mend)
    return number.alias(column.name)


def _filled(table: Table, column: pl.Series, values: pl.Series) -> pl.Series:
    table.refuse(column, values.is_null(), "is no instant", "mend the line or leave it out")
    return values.alias(column.name)


def _epoch_unit(table: Table, column: pl.Series, number: pl.Series) -> str:
    """The unit that puts every value between 1973 and 2286."""
    given = number.drop_nulls()
    low, high = (float(given.min() or 0.0), float(given.max() or 0.0))  # type: ignore[arg-type]
    for unit, (least, most) in EPOCH_BANDS.items():
        if least <= low and high < most:
            return unit
    raise TraceError(
        f"{table.where}: field `{column.name}` from {low:.15g} to {high:.15g} is a time since 1970 in"
        f" no unit; say it, as arrival={column.name}:s (one of {', '.join(TIME_UNITS)})"
    )


def _iso_ms(table: Table, column: pl.Series) -> tuple[pl.Series, str]:
    split = column.str.extract_groups(_ISO).struct
    part, zone = split.field("part"), split.field("zone")
    clock = [split.field(each) for each in ("hour", "minute", "second")]
    day = split.field("year") + "-" + split.field("month") + "-" + split.field("day")
    text = day + " " + clock[0] + ":" + clock[1] + ":" + clock[2].fill_null("00")
    whole = text.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="ms", strict=False)
    mend = "write it as 2026-01-31T09:30:00.250Z, like the first"
    table.refuse(column, whole.is_null(), "is no instant by ISO 8601", mend)
    fraction_ms = ("0." + part).cast(pl.Float64) * 1000.0
    sign = zone.str.starts_with("-").replace_strict([True, False], [-1.0, 1.0], default=1.0)
    hours = zone.str.extract(r"^[+-](\d{2})").cast(pl.Float64).fill_null(0.0)
    minutes = zone.str.extract(r"^[+-]\d{2}:?(\d{2})").cast(pl.Float64).fill_null(0.0)
    offset_ms = sign * (hours * 60.0 + minutes) * 60_000.0
    ms = whole.dt.epoch("ms").cast(pl.Float64) + fraction_ms.fill_null(0.0) - offset_ms
    without = ", without a zone: UTC taken" if zone.null_count() else ""
    return ms.alias(column.name), f"ISO 8601{without}"
