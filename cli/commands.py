"""The subcommands of `scaler`. Each has a file of its own beside this one."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from warmscaler.cli.errors import UserError
from warmscaler.cli.lazy import LazyGroup, Subcommand

SUBCOMMANDS = {
    "train": Subcommand(
        "Fits the learned policy's model and writes it with a manifest of what it came from.",
        "warmscaler.cli.train",
        "train",
        "train trace.tar.gz --until 0.5 --out model",
    ),
    "evaluate": Subcommand(
        "Replays policies on a trace, and shows what each costs from the split on.",
        "warmscaler.cli.evaluate",
        "evaluate",
        "evaluate trace.tar.gz --policy fixed:300 --policy learned --report report.html",
    ),
    "advise": Subcommand(
        "Works out settings for each app: how long to keep, when to pre-warm, least instances.",
        "warmscaler.cli.advise",
        "advise",
        "advise trace.tar.gz --today fixed:300 --gb-hour 0.06",
    ),
    "retrain": Subcommand(
        "Trains a challenger on all but the newest stretch of a recording, replays that stretch"
        " with the model in service, the challenger and fixed:300, and promotes what wins by"
        " the margin.",
        "warmscaler.cli.retrain",
        "retrain_command",
        "retrain --log recording --store models --window 14d",
    ),
    "serve": Subcommand(
        "Serves Assign and Idle until SIGTERM, then drains and gives every slot back.",
        "warmscaler.cli.serve",
        "serve",
        "serve --model model --port 9001 --platform 127.0.0.1:50051",
    ),
    "keda": Subcommand(
        "Serves KEDA's external scaler until SIGTERM: replicas ahead of time, from Prometheus.",
        "warmscaler.cli.keda",
        "keda",
        "keda --prometheus http://prometheus:9090 --port 9001 --metrics-port 9002",
    ),
    "knative": Subcommand(
        "Keeps a floor under Knative's Revisions until SIGTERM, then takes it away.",
        "warmscaler.cli.knative",
        "knative",
        "knative --prometheus http://prometheus:9090 --dry-run",
    ),
    "explain": Subcommand(
        "Says why an app is up or down, until when, what is expected next and how sure that is, and"
        " what its last cold starts cost and why they came.",
        "warmscaler.cli.explain",
        "explain",
        "explain my-app --scaler 127.0.0.1:9001",
    ),
    "health": Subcommand("Asks the gRPC health service whether a scaler serves."),
    "simulate": Subcommand(
        "Plays a trace in real time against any scaler at the contest's interface.",
        "warmscaler.cli.simulate",
        "simulate",
        "simulate trace.tar.gz --scaler 127.0.0.1:9001 --start 3600 --duration 180",
    ),
    "demo": Subcommand(
        "Reads a trace, trains on its first half, serves live, replays the second half, reports.",
        "warmscaler.cli.demo",
        "demo",
        "demo --trace trace.tar.gz --out out/demo",
    ),
    "trace": Subcommand("Look at a trace, convert it, make one.", "warmscaler.cli.trace"),
    "config": Subcommand("What is in force, and where it comes from.", "warmscaler.cli.config"),
    "models": Subcommand(
        "The model store: list, show, promote, roll back, add.", "warmscaler.cli.models"
    ),
}


class _Subcommands(LazyGroup):
    subcommands = SUBCOMMANDS


# Its own help is plain: to import rich for it takes more CPU than all the rest.
app = typer.Typer(
    name="scaler", cls=_Subcommands, pretty_exceptions_enable=False, rich_markup_mode=None
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"scaler {version('warmscaler')}")
        raise typer.Exit


@app.callback(
    epilog="Exit codes: 0 done; 1 it does not serve (health), or no longer (serve), or requests failed"
    " (simulate); 2 a mistake,"
    " said in one line on stderr; 3 and 10 are retrain's; 129 SIGHUP; 130 Ctrl-C;"
    " 143 SIGTERM."
    " Results go to stdout, notes and progress to stderr.",
)
def _scaler(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print it and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """A predictive autoscaler for serverless platforms: learn an app's habits, keep its instances
    just as long as they pay, start them just before they are needed."""


def run() -> NoReturn:
    """Runs what the command line says. Raises UserError for a mistake on it."""
    try:
        # Not standalone: a wrong option is to be one line as well, not a box of five.
        if len(sys.argv) > 1:
            sys.exit(app(standalone_mode=False))
        app(["--help"], standalone_mode=False)
        sys.exit(2)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except TyperException as error:
        said = error.format_message().strip()
        if not said:
            sys.exit(2)  # a group of commands without arguments: typer has printed the help
        context = getattr(error, "ctx", None)
        command = "scaler" if context is None else context.command_path
        raise UserError(f"{said.rstrip('.')}; see {command} --help") from None
