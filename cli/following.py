"""Options of the commands that follow apps: a Prometheus, a stretch of time, overrides."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from warmscaler.cli.errors import UserError
from warmscaler.replicas.forecast import Forecast, ForecastError
from warmscaler.replicas.overrides import Override, OverridesError, parse_overrides
from warmscaler.service.looking.told import check_address

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_LONGEST_S = 90 * 86_400.0


def prometheus_of(text: str | None, option: str) -> str | None:
    """A Prometheus' URL. Raises UserError."""
    try:
        return None if text is None else check_address(text)
    except ValueError as error:
        raise UserError(f"{option} {text}: {error}") from None


def seconds_of(text: str, option: str) -> float:
    """What 90s, 30m, 12h or 2d says. Raises UserError."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)([smhd])", text)
    seconds = 0.0 if found is None else float(found[1]) * _SECONDS[found[2]]
    if not 0.0 < seconds <= _LONGEST_S:
        raise UserError(f"{option} {text}: must be a number with s, m, h or d, to 90d: 12h, 2d")
    return seconds


Interval = Annotated[
    float, typer.Option("--interval", min=1, max=3_600, help="Seconds between two looks.")
]
History = Annotated[str, typer.Option(help="What is read of an app at first sight: 12h, 2d.")]
ForecastFile = Annotated[
    Path | None,
    typer.Option(
        help="What scaler evaluate --replicas --save-forecast wrote; else last values and the day before."
    ),
]
_MOST_BYTES = 32 * 2**20


def forecast_of(path: Path | None) -> Forecast | None:
    """The learned forecast in a file. Raises UserError."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return Forecast(file.read(_MOST_BYTES + 1).decode())
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UserError(f"--forecast {path}: {said}") from None
    except ForecastError as error:
        raise UserError(f"--forecast {path}: {error}") from None


def overrides_of(path: Path | None) -> tuple[Override, ...]:
    """The overrides in a file. Raises UserError."""
    if path is None:
        return ()
    try:
        return parse_overrides(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UserError(f"--overrides {path}: {said}") from None
    except OverridesError as error:
        raise UserError(str(error)) from None
