"""A command's options from a file and from the environment as well.

The command line stands above the environment, that above the file, that above the default. What can be
set is what the command's options are: nothing is listed here a second time.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperOption
from typer.main import get_command

from warmscaler.cli.errors import UserError

Value = bool | int | float | str | list[Any] | None
_SERVICE_LINKS = ("tcp://", "udp://", "sctp://")
"""How Kubernetes fills SCALER_PORT in where a Service is called scaler: no option of ours."""


class Source(StrEnum):
    """Where a value comes from."""

    COMMAND_LINE = "command line"
    ENVIRONMENT = "environment"
    FILE = "file"
    DEFAULT = "default"


_SOURCES = {
    "COMMANDLINE": Source.COMMAND_LINE,
    "ENVIRONMENT": Source.ENVIRONMENT,
    "DEFAULT_MAP": Source.FILE,
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One option of a command as it is in force."""

    key: str
    """The option's name, without dashes before it."""
    value: Value
    source: Source
    place: str | None
    """The file, or the environment's variable; None for the others."""
    help: str


class ConfiguredCommand(TyperCommand):
    """A command whose options may also stand in a file (`--config`) or in the environment."""

    def __init__(self, name: str | None, **attributes: Any) -> None:
        super().__init__(name, **attributes)
        for option in options_of(self):
            # Each follows the same rule: said once, not at every option.
            option.envvar, option.show_envvar = variable_of(name or "", option), False
        self.params.append(_config_option())

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """As any command's; a value that is no good is told with the place where it stands."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            option = error.param
            if not isinstance(option, TyperOption):
                raise
            source, place = _source(ctx, option)
            if place is None:
                raise
            if source is Source.FILE:
                said = (ctx.default_map or {}).get(option.name)
                place = f"{place}: [{ctx.info_name}] {key_of(option)} = {said!r}"
            raise UserError(f"{place}: {error.message.rstrip('.')}") from None

    def settings(self, words: Sequence[str]) -> Iterator[Setting]:
        """What would be in force with `words` on the command line, in the order of `--help`.

        Raises what parsing them raises, but for words that are required and not there yet.
        """
        for each in self.params:
            each.required = False
        ctx: Any = self.make_context(self.name, list(words))
        for option in options_of(self):
            value = ctx.params[option.name]
            yield Setting(key_of(option), _plain(value), *_source(ctx, option), option.help or "")


def options_of(command: TyperCommand) -> list[TyperOption]:
    """The options that can be set from outside: all but `--config` itself and `--help`."""
    return [
        each for each in command.params if isinstance(each, TyperOption) and each.name != "config"
    ]


def key_of(option: TyperOption) -> str:
    """`metrics-port` for `--metrics-port`."""
    return option.opts[0].lstrip("-")


def variable_of(command: str, option: TyperOption) -> str:
    """`SCALER_METRICS_PORT` for serve's `--metrics-port`; other commands' have their name before it."""
    prefix = "SCALER" if command == "serve" else f"SCALER_{command}"
    return f"{prefix}_{key_of(option)}".replace("-", "_").upper()


def read_settings(path: Path, command: str, options: Sequence[TyperOption]) -> dict[str, Any]:
    """What the file says of `command`, by parameter.

    Raises UserError, with file and key, for what is no TOML, and for a table, a key or a kind of
    value that there is not.
    """
    from warmscaler.cli.commands import SUBCOMMANDS  # they are listed there, and import us

    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--config {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"--config {path}: is not TOML: {error}") from None
    tables = [name for name, each in SUBCOMMANDS.items() if each.is_configured]
    by_key = {key_of(each): each for each in options}
    for name, table in content.items():
        if not isinstance(table, dict):
            below = f"; options stand below [{command}]" if name in by_key else ""
            raise UserError(f"{path}: {name}: stands in no table of a command{below}")
        if name not in tables:
            raise UserError(f"{path}: [{name}]: no command's table{_meant(name, tables, '[{}]')}")
    asked = content.get(command, {})
    for key, value in asked.items():
        if key not in by_key:
            raise UserError(
                f"{path}: [{command}] {key}: no option is called so{_meant(key, by_key)}"
            )
        if isinstance(value, bool) and not by_key[key].is_flag:
            raise UserError(f"{path}: [{command}] {key}: takes a value, not true or false")
        if by_key[key].is_flag and not isinstance(value, bool):
            raise UserError(f"{path}: [{command}] {key}: must be true or false")
    return {
        by_key[key].name: [value] if by_key[key].multiple and isinstance(value, str) else value
        for key, value in asked.items()
    }


def mistaken_variables(command: object) -> list[str]:
    """A line for each variable that looks like a misspelt one of `command`'s. Refused they are not:
    others may have variables of their own."""
    if not isinstance(command, ConfiguredCommand):
        return []
    known = [variable_of(command.name or "", each) for each in options_of(command)]
    own = [name for name in os.environ if name.startswith("SCALER_") and name not in known]
    return [
        f"{name} in the environment: no option is called so{_meant(name, known)}"
        for name in sorted(own)
        if get_close_matches(name, known, 1, 0.9)
    ]


def to_toml(command: str, settings: Sequence[Setting]) -> str:
    """A file for `--config`: what was set, and in comments all that could be."""
    lines = [f"[{command}]"]
    for each in settings:
        lines += ["", *(f"# {line}" for line in each.help.split("\n") if line)]
        live = "# " if each.source is Source.DEFAULT else ""
        lines.append(f"{live}{each.key} = {_literal(each.value)}".rstrip())
    return "\n".join(lines) + "\n"


def _config_option() -> TyperOption:
    def takes(
        config: Annotated[
            Path | None,
            typer.Option(
                envvar="SCALER_CONFIG",
                is_eager=True,
                expose_value=False,
                callback=_take_up,
                help="A TOML file with options of this command; `scaler config show` prints one.",
            ),
        ] = None,
    ) -> None:
        """Makes the option as typer makes every other."""

    alone = typer.Typer(add_completion=False)
    alone.command()(takes)
    (option,) = get_command(alone).params
    return cast(TyperOption, option)


def _take_up(ctx: typer.Context, config: Path | None) -> None:
    command = ctx.command
    if not isinstance(command, ConfiguredCommand) or ctx.resilient_parsing:
        return
    for option in options_of(command):
        if os.environ.get(str(option.envvar), "").startswith(_SERVICE_LINKS):
            option.envvar = None
    if config is not None:
        ctx.meta["config"] = config
        ctx.default_map = read_settings(config, command.name or "", options_of(command))


def _source(ctx: typer.Context, option: TyperOption) -> tuple[Source, str | None]:
    told = ctx.get_parameter_source(option.name)
    source = _SOURCES.get("" if told is None else told.name, Source.DEFAULT)
    if source is Source.ENVIRONMENT:
        return source, str(option.envvar)
    return source, str(ctx.meta["config"]) if source is Source.FILE else None


def _meant(name: str, known: Sequence[str] | Mapping[str, Any], form: str = "{}") -> str:
    close = get_close_matches(name, list(known), 1)
    return f"; did you mean {form.format(close[0])}?" if close else ""


def _plain(value: Any) -> Value:
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, Enum):
        return str(value.value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(value)


def _literal(value: Value) -> str:
    import orjson

    if value is None:
        return ""
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    # A basic string of TOML is one of JSON, but for one character more that is escaped.
    return orjson.dumps(value).decode().replace("\x7f", "\\u007f")
