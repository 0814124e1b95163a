"""Advice on disk: what `scaler advise --format json` prints, read back to be followed and judged."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

import orjson

from warmscaler.models.advised.policy import HOURS, Advice, AppAdvice, Clock

VERSION = 1
_LONGEST_S = 10.0 * 365.0 * 86_400.0
_MOST = 1_000_000


class AdviceError(ValueError):
    """Advice that cannot be followed. Its text is one line: what is wrong, where, what to do."""


def read_advice(path: str | Path) -> Advice:
    """Reads what `scaler advise --format json` wrote. Raises AdviceError."""
    try:
        document = orjson.loads(Path(path).read_bytes())
    except OSError as error:
        raise AdviceError(f"{path}: {error.strerror or error}") from None
    except orjson.JSONDecodeError as error:
        raise AdviceError(
            f"{path}:{error.lineno}: not JSON; write it with scaler advise --format json"
        ) from None
    if not isinstance(document, dict) or document.get("advice_version") != VERSION:
        raise AdviceError(
            f"{path}: no advice of version {VERSION}; write it with scaler advise --format json"
        )
    try:
        default = app_advice(document["default"])
        apps = {}
        for number, row in enumerate(document["apps"], start=1):
            try:
                apps[str(row["app"])] = app_advice(row)
            except (KeyError, TypeError, ValueError) as error:
                raise AdviceError(
                    f"{path}: app {number}: {type(error).__name__}: {error}; write it anew with"
                    " scaler advise --format json"
                ) from None
    except AdviceError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise AdviceError(f"{path}: {type(error).__name__}: {error}; write it anew") from None
    return Advice(default, apps)


def app_advice(row: dict[str, Any]) -> AppAdvice:
    """What an app's row says. Raises KeyError, TypeError or ValueError."""
    clock = row.get("prewarm")
    least = tuple(_whole(each) for each in row.get("least_by_hour") or ())
    if len(least) not in (0, HOURS):
        raise ValueError(f"least_by_hour has {len(least)} numbers, not {HOURS}")
    return AppAdvice(
        _ms(row["keep_s"]),
        None
        if clock is None
        else Clock(_ms(clock["every_s"], 1.0), _ms(clock["from_s"]), _ms(clock["for_s"])),
        least if any(least) else (),
    )


def as_row(advice: AppAdvice) -> dict[str, Any]:
    """The inverse of `app_advice`."""
    clock = advice.clock
    return {
        "keep_s": advice.keep_ms / 1000.0,
        "prewarm": None
        if clock is None
        else {
            "every_s": clock.period_ms / 1000.0,
            "from_s": clock.opens_ms / 1000.0,
            "for_s": clock.open_ms / 1000.0,
        },
        "least_by_hour": list(advice.least) or None,
    }


def _ms(value: Any, least_s: float = 0.0) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number of seconds")
    if not (isfinite(value) and least_s <= value <= _LONGEST_S):
        raise ValueError(f"{value!r} s cannot be")
    return float(value) * 1000.0


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
        raise ValueError(f"{value!r} is no number of instances")
    return value
