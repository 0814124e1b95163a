"""The command run in this process: most mistakes need no process of their own."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator

import pytest

from warmscaler.cli.main import main

InHere = Callable[..., tuple[object, str, str]]
"""Takes the words after `scaler`; returns exit code, stdout, stderr."""


@pytest.fixture(autouse=True)
def _as_at_a_terminal() -> Iterator[None]:
    """A suite that runs in the background is told to ignore SIGINT, and so would all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def in_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[InHere]:
    """`scaler` in here. Its streams are those of the first use: what rich prints is not seen."""

    def run(*words: object) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["scaler", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in ends}
    yield run
    for number, handler in before.items():
        signal.signal(number, handler)
