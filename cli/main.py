"""`scaler`: the one command. Each subcommand has a file of its own beside this one."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import NoReturn

import typer
from typer.exceptions import TyperException

from warmscaler.cli import demo, evaluate, health, models, retrain, serve, simulate, trace, train
from warmscaler.cli.console import UserError, fail
from warmscaler.data.trace import TraceError

app = typer.Typer(
    name="scaler",
    help="A predictive autoscaler for serverless platforms: learn an app's habits, keep its"
    " instances just as long as they pay, start them just before they are needed.",
    epilog="Exit codes: 0 done; 1 it does not serve (health), or no longer (serve); 2 a mistake,"
    " said in one line on stderr; 3 and 10 are retrain's; 130 Ctrl-C; 143 SIGTERM."
    " Results go to stdout, notes and progress to stderr.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(trace.app, name="trace")
app.add_typer(models.app, name="models")
EXAMPLES: dict[str, tuple[Callable[..., None], str]] = {
    "train": (train.train, "train trace.tar.gz --until 0.5 --out model"),
    "evaluate": (
        evaluate.evaluate,
        "evaluate trace.tar.gz --policy fixed:300 --policy learned --report report.html",
    ),
    "retrain": (
        retrain.retrain_command,
        "retrain --log recording --store models --window 14d",
    ),
    "serve": (
        serve.serve,
        "serve --model model --port 9001 --platform 127.0.0.1:50051",
    ),
    "health": (health.health, "health 127.0.0.1:9001"),
    "simulate": (
        simulate.simulate,
        "simulate trace.tar.gz --scaler 127.0.0.1:9001 --start 3600 --duration 180",
    ),
    "demo": (demo.demo, "demo --trace trace.tar.gz --out out/demo"),
}
for name, (command, example) in EXAMPLES.items():
    app.command(name, epilog=f"Example: scaler {example}")(command)


def main() -> None:
    """Runs the command; a mistake of the user's is one line on stderr and exit code 2."""
    # As a container's first process we would not be ended by SIGTERM, and half-written files are
    # cleared away on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        # Not standalone: a wrong option is to be one line as well, not a box of five.
        sys.exit(app(standalone_mode=False))
    except TyperException as error:
        _fail_usage(error)
    except (UserError, TraceError) as error:
        fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away: nobody is left to tell
        sys.exit(0)
    except OSError as error:  # a full disk, a folder that may not be written
        fail(f"{error.filename or 'reading or writing'}: {error.strerror or error}")
    except MemoryError:
        fail("out of memory: give it a shorter trace, or more memory")


def _fail_usage(error: TyperException) -> NoReturn:
    said = error.format_message().strip()
    if not said:
        sys.exit(2)  # a command without arguments: typer has printed the help
    context = getattr(error, "ctx", None)
    command = "scaler" if context is None else context.command_path
    fail(f"{said.rstrip('.')}; see {command} --help")


if __name__ == "__main__":
    main()
