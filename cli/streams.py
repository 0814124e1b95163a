"""The process' standard streams, made so that nothing breaks for what they are.

A stream that is closed (`2>&-`, as some supervisors start a daemon) is /dev/null from here on: else
the next file or socket that is opened gets its number, and what is printed goes into it. Where the
locale has no `·` and no `─`, a `?` stands for them.
"""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

_NAMES = ("stdin", "stdout", "stderr")


def mend() -> None:
    """To be called first: before anything is opened."""
    for number, name in enumerate(_NAMES):
        if getattr(sys, name) is None:  # Python found it closed
            mode = "r" if number == 0 else "w"
            if _is_closed(number):
                # The lowest number that is free, as those below are open by now.
                os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)
                os.set_inheritable(number, True)
            stream = open(number, mode, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="replace")


def _is_closed(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False
