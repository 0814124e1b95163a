"""SIGTERM and SIGHUP end what runs on the event loop between two of its steps, not within one."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from warmscaler.cli import loop


@pytest.mark.usefixtures("hang_up_as_usual")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_a_step_end_and_what_was_begun_be_put_away(number: signal.Signals) -> None:
    done: list[str] = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(0.01)  # noqa: ASYNC251 - where gRPC would be making a server
            done.append("step")
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            done.append("put away")

    with pytest.raises(SystemExit) as ended:
        loop.run(work())
    assert (ended.value.code, done) == (128 + number, ["step", "put away"])


def test_what_comes_of_it_is_returned_and_the_handler_before_is_back() -> None:
    async def work() -> int:
        return 3

    before = signal.getsignal(signal.SIGTERM)
    assert loop.run(work()) == 3
    assert signal.getsignal(signal.SIGTERM) == before
