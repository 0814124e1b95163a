"""`scaler`: the one command. What it runs is imported where signals are heeded already."""

from __future__ import annotations

import signal
import sys

from warmscaler.cli import signals, streams
from warmscaler.cli.errors import UserError, fail


def main() -> None:
    """Runs the command; a mistake of the user's is one line on stderr and exit code 2."""
    streams.mend()
    signals.end_at_once()
    try:
        _run(sys.argv[1:])
    except UserError as error:
        fail(str(error))
    except KeyboardInterrupt:
        # Where it interrupted an exec of text (namedtuple and dataclasses do so), CPython takes it for
        # unhandled and would end by the signal itself, unless another exec comes after.
        exec("")  # noqa: S102
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away: nobody is left to tell
        sys.exit(0)
    except OSError as error:  # a full disk, a folder that may not be written
        fail(f"{error.filename or 'reading or writing'}: {error.strerror or error}")
    except MemoryError:
        fail("out of memory: give it a shorter trace, or more memory")
    except Exception as error:
        from warmscaler.data.trace import TraceError

        if not isinstance(error, TraceError):
            raise
        fail(str(error))


def _run(words: list[str]) -> None:
    if words[:1] == ["health"]:
        from warmscaler.cli import health

        signals.end_in_order()
        health.main(words[1:])
    else:
        from warmscaler.cli import commands

        commands.run()


if __name__ == "__main__":
    main()
