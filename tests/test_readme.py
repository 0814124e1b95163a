"""README's first ten commands, run in order in an empty folder: each prints what README says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.test_side_by_side import free_ports

README = Path(__file__).parents[1] / "README.md"
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Command:
    """What stands after a `$`, and the lines below it; `…` is anything."""

    words: list[str]
    says: list[str]
    in_background: bool

    def missing(self, output: str) -> str | None:
        """The first line that `output` lacks; they come in order."""
        lines = iter(output.splitlines())
        for said in self.says:
            wanted = re.compile(".*".join(map(re.escape, said.strip().split("…"))))
            if not any(wanted.fullmatch(line.strip()) for line in lines):
                return said
        return None


def commands(ports: dict[str, int]) -> list[Command]:
    """As README has them, with ports of our own."""
    text = README.read_text(encoding="utf-8")
    (block,) = re.findall(r"<!-- commands -->\n(.*?)<!-- /commands -->", text, re.DOTALL)
    found = []
    for each in re.split(r"^    \$ ", block, flags=re.MULTILINE)[1:]:
        line, *says = each.splitlines()
        words = shlex.split(line)
        if words[1] != "config":  # which shows what is there unless told
            words = [with_own(each, ports) for each in words]
            says = [with_own(each, ports) for each in says]
        background = words[-1] == "&"
        found.append(
            Command(
                words[1 : -1 if background else None], [s for s in says if s.strip()], background
            )
        )
    return found


def with_own(text: str, ports: dict[str, int]) -> str:
    return re.sub(r"\b900[12]\b", lambda port: str(ports[port[0]]), text)


@contextmanager
def serving(command: Command, folder: Path, environment: dict[str, str]) -> Iterator[None]:
    log = folder / "serve.log"
    with log.open("wb") as file:
        process = subprocess.Popen(run_as(command), cwd=folder, env=environment, stderr=file)
    try:
        end_s = time.monotonic() + PATIENCE_S
        while command.missing(log.read_text()) is not None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end_s, (command.missing(log.read_text()), log.read_text())
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def run_as(command: Command) -> list[str]:
    return [sys.executable, "-m", "warmscaler", *command.words]


def test_the_first_ten_commands_print_what_it_says(tmp_path: Path) -> None:
    own = dict(zip(("9001", "9002"), free_ports(2), strict=True))
    platform, statistics = free_ports(2)
    told = {
        "SCALER_PORT": str(own["9001"]),
        "SCALER_PLATFORM": f"127.0.0.1:{platform}",
        "SCALER_SIMULATE_PLATFORM_PORT": str(platform),
        "SCALER_SIMULATE_STATISTICS_PORT": str(statistics),
    }
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SCALER_")}
    all_of_them = commands(own)
    assert len(all_of_them) == 10
    begins = next(n for n, each in enumerate(all_of_them) if each.in_background)

    def check(command: Command, environment: dict[str, str]) -> None:
        done = subprocess.run(
            run_as(command), cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
        assert command.missing(output) is None, (command.missing(output), output)

    for command in all_of_them[:begins]:
        check(command, plain)
    with serving(all_of_them[begins], tmp_path, plain | told):
        for command in all_of_them[begins + 1 :]:
            check(command, plain | told)
