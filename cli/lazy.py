"""A command whose subcommands are imported when they are run: to start is quick, and to list them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from warmscaler.cli import signals


@dataclass(frozen=True, slots=True)
class Subcommand:
    """What is known of it without importing it, and where it is."""

    summary: str
    """As the list of commands shows it: how its own help begins."""
    module: str = ""
    attribute: str = "app"
    """A function, or a `typer.Typer` with subcommands of its own."""
    example: str = ""

    @property
    def is_configured(self) -> bool:
        """It takes `--config`: a command of its own, not a group of commands."""
        return bool(self.module) and self.attribute != "app"


class LazyGroup(TyperGroup):
    """Lists `subcommands` from their summaries; imports the one that is asked for."""

    subcommands: ClassVar[dict[str, Subcommand]] = {}

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, known in self.subcommands.items():
            self.add_command(TyperCommand(name, short_help=known.summary))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """The subcommand of `args` itself; what is listed stands for it only by name."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and (known := self.subcommands[name]).module:
            command = load(name, known)
            signals.end_in_order()
        return name, command, rest


def load(name: str, known: Subcommand) -> Any:
    """The subcommand itself."""
    from warmscaler.cli.configuration import ConfiguredCommand

    found = getattr(import_module(known.module), known.attribute)
    if known.is_configured:
        alone = typer.Typer(add_completion=False)
        epilog = f"Example: scaler {known.example}"
        alone.command(name, cls=ConfiguredCommand, epilog=epilog)(found)
        found = alone
    command = get_command(found)
    command.name = name
    return command
