"""An event loop that SIGTERM and SIGHUP end as Ctrl-C does."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

from warmscaler.service.stopping import stopping

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """asyncio.run, with SIGTERM or SIGHUP cancelling `work`: exit code 143 or 129 where that ends it.

    A handler that raises wherever the interpreter stands would also do so while gRPC makes a
    server, and what gRPC has made by then takes the process down when it is cleared away.
    """
    before = {number: signal.getsignal(number) for number in stopping()}
    came: list[int] = []
    try:
        return asyncio.run(_until_signal(work, came))
    except asyncio.CancelledError:
        sys.exit(128 + (came or [signal.SIGTERM])[0])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _until_signal(work: Coroutine[Any, Any, Result], came: list[int]) -> Result:
    running = asyncio.ensure_future(work)

    def stop(number: int) -> None:
        came.append(number)
        running.cancel()

    for number in stopping():
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    return await running
