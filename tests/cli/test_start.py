"""What a start of the command costs in modules, and what it knows before it imports anything."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from importlib.metadata import version

import pytest

from warmscaler.cli.commands import SUBCOMMANDS
from warmscaler.cli.lazy import load

HEAVY = {
    "numpy",
    "polars",
    "grpc",
    "google",
    "pydantic",
    "joblib",
    "matplotlib",
    "orjson",
    "uvloop",
}
HEAVY |= {"asyncio", "prometheus_client", "fsspec", "sqlite3", "jinja2", "ssl", "multiprocessing"}
NEEDED_FOR_HEALTH = {"grpc", "google", "asyncio", "ssl"}
SHOW_MODULES = """
import sys
from warmscaler.cli.main import main
sys.argv[0] = "scaler"
try:
    main()
finally:
    print(*sorted(sys.modules), file=sys.stderr)
"""


def imported(*words: str) -> tuple[int, set[str]]:
    run = subprocess.run(
        [sys.executable, "-c", SHOW_MODULES, *words], capture_output=True, text=True, timeout=60
    )
    return run.returncode, set(run.stderr.split())


@pytest.mark.parametrize("words", [("--help",), ("--version",), ()])
def test_to_say_what_there_is_takes_nothing_heavy(words: tuple[str, ...]) -> None:
    code, modules = imported(*words)
    assert code == (0 if words else 2)
    assert "warmscaler.cli.commands" in modules
    assert not modules & (HEAVY | {"rich"})
    ours = {each for each in modules if each.startswith("warmscaler.")}
    assert len(ours) <= 11, ours
    assert len(modules) < 300


def test_the_health_check_takes_grpc_and_no_more() -> None:
    code, modules = imported("health", "127.0.0.1:1", "--timeout", "0.1")
    assert code == 1
    assert "grpc" in modules
    assert not modules & ((HEAVY | {"typer", "rich"}) - NEEDED_FOR_HEALTH)
    assert not {each for each in modules if each.startswith("warmscaler.models")}


def test_serving_takes_no_more_memory_than_it_needs() -> None:
    """It starts, as far as where another listens."""
    with socket.create_server(("127.0.0.1", 0)) as another:
        port = str(another.getsockname()[1])
        code, modules = imported("serve", "--port", port, "--metrics-port", "0")
    assert code == 2
    assert "warmscaler.models.learned.policy" in modules
    assert not modules & {"polars", "lightgbm", "sklearn", "scipy", "pandas", "joblib", "numba"}


@pytest.mark.parametrize("name", [name for name, each in SUBCOMMANDS.items() if each.module])
def test_a_subcommand_is_listed_as_its_own_help_begins(name: str) -> None:
    known = SUBCOMMANDS[name]
    assert " ".join(load(name, known).help.split()).startswith(known.summary)


def test_version() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "warmscaler", "--version"], capture_output=True, text=True
    )
    assert run.stdout == f"scaler {version('warmscaler')}\n"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("scaler tr", ["train", "trace"]),
        ("scaler trace c", ["convert"]),
        ("scaler serve --platform-c", ["--platform-ca", "--platform-cert"]),
    ],
)
def test_a_shell_completes(typed: str, offered: list[str]) -> None:
    asked = {"_SCALER_COMPLETE": "complete_bash", "COMP_WORDS": typed}
    asked["COMP_CWORD"] = str(len(typed.split()) - 1)
    script = "import sys; sys.argv[0] = 'scaler'; from warmscaler.cli.main import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | asked, capture_output=True, text=True
    )
    assert run.stdout.split() == offered
