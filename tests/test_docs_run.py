"""The programs in docs/ run as they stand."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from typer.core import TyperGroup

from tests.service.running import served, until
from warmscaler.cli.commands import SUBCOMMANDS
from warmscaler.cli.lazy import load

ROOT = Path(__file__).parents[1]


def programs(page: str, language: str = "python") -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def named() -> Iterator[tuple[str, list[str]]]:
    """Each `scaler …` on a line of its own in README or docs/: where, and its words."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in text.splitlines():
            told = re.match(r"    (?:\$ |[A-Z_]+=\S+ )*(?:\.venv/bin/)?scaler ([^#|>&]*)", line)
            if told is not None:
                yield f"{page.name}: {line.strip()}", told[1].split()


def test_every_command_and_option_that_is_named_exists() -> None:
    seen = 0
    for where, words in named():
        name = words.pop(0)
        if name == "health" or name.startswith("-"):  # it has a parser of its own
            continue
        assert name in SUBCOMMANDS, where
        command = load(name, SUBCOMMANDS[name])
        if isinstance(command, TyperGroup):
            assert words[0] in command.commands, where
            command = command.commands[words.pop(0)]
            if name == "config":
                command = load("serve", SUBCOMMANDS["serve"])
                words = [each for each in words if each not in ("--json", "--toml")]
        known = {text for each in command.params for text in (*each.opts, *each.secondary_opts)}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in known, (word, where)
                seen += 1
    assert seen > 50


def ran(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_caller_in_python() -> None:
    asyncio.run(_the_caller())


async def _the_caller() -> None:
    (program,) = programs("grpc.md")
    async with served() as world:
        world.platform.init_ms = {"orders": 1.0}
        here = program.replace("127.0.0.1:9001", f"127.0.0.1:{world.server.port}")
        assert here != program
        said = await asyncio.to_thread(ran, here)
        scheduler = world.server.driver.scheduler
        await until(lambda: any(scheduler.idle_instances()))
        (instance,) = scheduler.idle_instances()
        assert said == f"ran on {instance.id}\n"
        assert instance.pool.key == "orders"
        failing = here.replace('lambda instance_id: f"ran on {instance_id}"', "lambda _: 1 / 0")
        bad = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", failing], capture_output=True
        )
        assert b"ZeroDivisionError" in bad.stderr
        await until(lambda: not scheduler.instances)  # it was bad, and is destroyed


def test_a_policy_of_ones_own() -> None:
    said = ran("\n".join(programs("own-policies.md")))
    assert "patient:100" in said
    assert "fixed:300" in said


def test_the_caller_in_go_names_what_there_is() -> None:
    """No compiler is needed to see that a field is called so."""
    proto = (ROOT / "service/proto/scaler.proto").read_text()
    names = {
        "".join(part.title() for part in name.split("_"))
        for name in re.findall(r"^  (?:optional )?\w+ (\w+) = \d+;", proto, re.MULTILINE)
    }
    (program,) = programs("grpc.md", "go")
    program = re.sub(r"//.*", "", program)
    used = set(re.findall(r"\b([A-Z]\w+):", program)) | {"Assigment", "InstanceId", "Status"}
    assert used <= names
