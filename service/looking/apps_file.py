"""Apps that are followed though no ScaledObject asks for them: a TOML file, a table for each.

[shop]
query = "sum(in_flight{app='shop'})"
memoryMb = 512
startSeconds = 20
"""

from __future__ import annotations

import tomllib
from pathlib import Path

from warmscaler.replicas.spec import AppSpec
from warmscaler.service.looking.followed import Source
from warmscaler.service.looking.told import Defaults, ToldError, read


class AppsFileError(Exception):
    """A file that cannot be used. Its text is one line: where, what is wrong."""


def read_apps(path: Path, defaults: Defaults) -> list[tuple[AppSpec, Source]]:
    """Every app in it, under the keys of a ScaledObject's trigger. Raises AppsFileError."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        raise AppsFileError(f"{path}: {said}") from None
    found: dict[str, tuple[AppSpec, Source]] = {}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise AppsFileError(f"{path}: {name}: each app is a table: [{name}]")
        try:
            each = read({key: _text(key, value) for key, value in table.items()}, name, defaults)
        except ToldError as error:
            raise AppsFileError(f"{path}: {name}: {error}") from None
        app = each[0].app
        if app in found:
            raise AppsFileError(f"{path}: {name}: app: {app} is another one's; name it otherwise")
        found[app] = each
    return list(found.values())


def _text(key: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise ToldError(f"{key}: it must be a text or a number")
