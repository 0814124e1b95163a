"""Options of the whole suite."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import pytest
from grpc.aio import init_grpc_aio  # type: ignore[attr-defined] # the stubs lack it
from hypothesis import settings

# Most images set it. A hundred processes start during the suite, and each would compile our two
# hundred files again, as would every worker, with the assertions of all tests rewritten.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Else the last channel that is collected ends grpc.aio's thread then and there, and may wait for it
# for ever: whatever test has the collector run.
init_grpc_aio()

# No test is timed: a busy machine must not fail it. What passes for one must pass for all; "explore"
# draws anew every time, to look for more.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile("suite")


@pytest.fixture
def hang_up_as_usual() -> Iterator[None]:
    """SIGHUP as a terminal leaves it, here and in what is started: nohup has it ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite",
        action="store_true",
        help="write what the machines do now into their transcripts, instead of comparing",
    )
    parser.addoption(
        "--both-transports",
        action="store_true",
        help="run every test of the service on our own HTTP/2 and on grpcio's",
    )
