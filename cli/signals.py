"""How a signal ends the command: at once while code is imported, in order from then on."""

from __future__ import annotations

import os
import signal
import sys

from warmscaler.service.stopping import stopping


def end_at_once() -> None:
    """For the start: nothing is to be cleared away yet, and an exception raised by a signal may be
    lost there, as in a callback of the import system's, or be taken for another."""
    for number in (*_interrupt(), *stopping()):
        signal.signal(number, lambda number, _: os._exit(128 + number))


def end_in_order() -> None:
    """From now on files half-written and processes started are cleared away on the way out."""
    for number in _interrupt():
        signal.signal(number, signal.default_int_handler)
    # As a container's first process we would not be ended by SIGTERM.
    for number in stopping():
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def _interrupt() -> tuple[int, ...]:
    """SIGINT, unless who started us said that it is not for us (a job in the background)."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return () if ignored else (signal.SIGINT,)
