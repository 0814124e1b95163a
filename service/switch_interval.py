"""How long one thread may keep the event loop waiting for Python's lock."""

from __future__ import annotations

import sys

SWITCH_S = 0.0001
"""Each time; Python's own is 5 ms. The event loop then stands for less behind a model being read,
and a start behind a row being written."""


def switch_soon() -> None:
    """For this process, from now on."""
    sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_S))
