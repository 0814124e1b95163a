"""The pages and pictures that an evaluation leaves: `--report`, `--picture`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from warmscaler.cli.errors import UserError
from warmscaler.data.files import whole
from warmscaler.training.evaluating.settings import BASELINE

if TYPE_CHECKING:
    from warmscaler.cli.folds import Fold


@dataclass(frozen=True, slots=True)
class Pages:
    """What to write, and what it is to say."""

    report: Path | None = None
    picture: Path | None = None
    baseline: str = BASELINE
    gb_hour: float | None = None
    """What a GB·h costs; None is a list price that the page names."""
    notes: Sequence[str] = ()

    def __bool__(self) -> bool:
        return self.report is not None or self.picture is not None


def check_pages(pages: Pages) -> None:
    """Finds out before the work whether its results have a place to go. Raises UserError."""
    if pages:
        check_drawing()
    check_target("--report", pages.report, ".html")
    check_target("--picture", pages.picture, ".svg")
    if pages.report is None and (pages.notes or pages.gb_hour is not None):
        raise UserError("--note and --gb-hour go with --report FILE.html")
    if pages.gb_hour is not None and not (isfinite(pages.gb_hour) and pages.gb_hour >= 0.0):
        raise UserError(f"--gb-hour {pages.gb_hour:g}: it must be a number from 0 on")


def check_target(option: str, target: Path | None, ending: str) -> None:
    """Raises UserError where no file can be written to `target`."""
    if target is None:
        return
    if target.suffix != ending:
        raise UserError(f"{option} {target}: the name must end in {ending}")
    if not target.absolute().parent.is_dir():
        raise UserError(f"{option} {target}: there is no folder {target.absolute().parent}")
    if target.is_dir():
        raise UserError(f"{option} {target}: is a folder")


def check_drawing() -> None:
    """Raises UserError where the libraries for pages and pictures are left out, as in the image."""
    for library in ("jinja2", "matplotlib"):
        if find_spec(library) is None:
            raise UserError(f"pages and pictures need {library}: pip install 'warmscaler[report]'")


def draw(fold: Fold, pages: Pages, *, trace: Path, create_ms: float) -> None:
    """Writes the page and the picture that are wanted. Raises UserError."""
    if not pages:
        return
    # Not above: serving and training need neither library, and start sooner without.
    from warmscaler.training.reporting.headline import GB_HOUR
    from warmscaler.training.reporting.origin import origin
    from warmscaler.training.reporting.plots import picture
    from warmscaler.training.reporting.report import ReportError, write_report

    try:
        if pages.report is not None:
            write_report(
                pages.report,
                fold.part,
                fold.measured,
                create_ms=create_ms,
                origin=origin(trace, command=_command(), notes=pages.notes),
                model=fold.model,
                baseline=pages.baseline,
                gb_hour=GB_HOUR if pages.gb_hour is None else pages.gb_hour,
            )
        if pages.picture is not None:
            with whole(pages.picture) as file:
                file.write_text(picture(fold.measured, baseline=pages.baseline), encoding="utf-8")
    except ReportError as error:
        raise UserError(str(error)) from None
    except OSError as error:
        raise UserError(f"{pages.picture}: cannot be written: {error.strerror or error}") from None


def _command() -> str:
    return shlex.join(["scaler", *sys.argv[1:]])
