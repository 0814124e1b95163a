"""Numba where it is worth it: plain functions for one look, the same ones compiled for a million.

A planner that looks once in 15 s runs them as they stand. `fast` compiles one for a replay, with all
that it calls, if numba is installed (the extra `replicas`); the result is the same either way, only
sooner. Nothing is cached on disk: numba would not see a change in a function called.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
IS_INSTALLED = find_spec("numba") is not None
_callable: list[Callable[..., Any]] = []


def compilable(function: F) -> F:
    """The function itself, known as one that compiled code may call."""
    _callable.append(function)
    return function


@cache
def fast(function: F) -> F:
    """`function` compiled, on its first call for each type; itself without numba."""
    if not IS_INSTALLED:
        return function
    numba: Any = import_module("numba")
    extending: Any = import_module("numba.extending")
    while _callable:
        extending.register_jitable(_callable.pop())
    compiled: F = numba.njit(nogil=True)(function)
    return compiled
