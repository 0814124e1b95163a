"""An event loop that SIGTERM ends as Ctrl-C does."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """asyncio.run, with SIGTERM cancelling `work`: exit code 143 where that ends it.

    A handler that raises wherever the interpreter stands would also do so while gRPC makes a
    server, and what gRPC has made by then takes the process down when it is cleared away.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        return asyncio.run(_until_sigterm(work))
    except asyncio.CancelledError:
        sys.exit(128 + signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


async def _until_sigterm(work: Coroutine[Any, Any, Result]) -> Result:
    running = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    return await running
