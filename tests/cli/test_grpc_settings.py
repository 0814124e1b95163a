"""What the command tells gRPC before it is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SERVER = """
import cli
import asyncio
import grpc.aio

async def run():
    server = grpc.aio.server()
    server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await server.stop(None)

asyncio.run(run())
"""


def grpc_says(**settings: str) -> str:
    """On stderr, with these environment variables."""
    settings = {"PATH": os.environ["PATH"], "GRPC_VERBOSITY": "ERROR", **settings}
    command = [sys.executable, "-c", SERVER]
    done = subprocess.run(
        command, env=settings, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stderr


def test_grpc_knows_what_it_is_told() -> None:
    """A later one may call it something else, and then says so where we silence it."""
    assert "experiment" not in grpc_says()
    assert "experiment" in grpc_says(GRPC_EXPERIMENTS="-no_such_experiment")  # else it says nothing
