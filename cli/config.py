"""`scaler config`: what is in force, and where it comes from."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from warmscaler.cli.configuration import (
    ConfiguredCommand,
    mistaken_variables,
    to_toml,
)
from warmscaler.cli.console import out, print_json, say
from warmscaler.cli.errors import UserError
from warmscaler.cli.lazy import load
from warmscaler.cli.trace import Json

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()  # with one command and no callback there would be no `show` to name
def _config() -> None:
    """What is in force, and where it comes from."""


@app.command(
    "show",
    epilog="Example: scaler config show serve --config scaler.toml --port 9002",
    context_settings={"ignore_unknown_options": True},
)
def show(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[COMMAND] [ITS OPTIONS]", help="Else serve, without any on the command line."
        ),
    ] = None,
    json: Json = False,
    toml: Annotated[
        bool, typer.Option("--toml", help="A file for --config, with all that could be set.")
    ] = False,
) -> None:
    """Every option of a command, its value, and where that comes from: command line, else
    environment, else file, else default."""
    from warmscaler.cli.commands import SUBCOMMANDS

    if json and toml:
        raise UserError("--json and --toml do not go together")
    words = words or []
    name, rest = (words[0], words[1:]) if words[:1] and words[0][0] != "-" else ("serve", words)
    known = SUBCOMMANDS.get(name)
    if known is None or not known.is_configured:
        raise UserError(f"{name}: no command that takes --config; see scaler --help")
    command: ConfiguredCommand = load(name, known)
    settings = list(command.settings(rest))
    if json:
        shown = {
            each.key: {"value": each.value, "source": each.source, "place": each.place}
            for each in settings
        }
        print_json({"command": name, "settings": shown})
        return
    if toml:
        print(to_toml(name, settings), end="")
        return
    table = Table("option", "value", "from", title=name, title_justify="left")
    for each in settings:
        value = "" if each.value is None else f"{each.value}"
        where = each.source.value + ("" if each.place is None else f" {each.place}")
        table.add_row(f"--{each.key}", escape(value), escape(where))
    out.print(table)
    for line in mistaken_variables(command):
        say(f"warning: {line}")
