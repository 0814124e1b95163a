"""`scaler`: the one command. Each subcommand has a file of its own beside this one."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

import typer
from typer.exceptions import TyperException

from cli import demo, evaluate, health, models, retrain, serve, simulate, trace, train
from cli.console import UserError, fail
from data.trace import TraceError

app = typer.Typer(
    name="scaler",
    help="A predictive autoscaler for serverless platforms: learn an app's habits, keep its"
    " instances just as long as they pay, start them just before they are needed.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(trace.app, name="trace")
app.add_typer(models.app, name="models")
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("retrain")(retrain.retrain_command)
app.command("serve")(serve.serve)
app.command("health")(health.health)
app.command("simulate")(simulate.simulate)
app.command("demo")(demo.demo)


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
