"""Imports point one way: a file imports its own room and those before it, and what is pure does no I/O."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "warmscaler"
ROOMS = (
    "data",
    "replicas",
    "models/outlook.py",
    "models/policy.py",
    "models/objectives",
    "models/published",
    "models/learned",
    "models/artifact",
    "models/advised",
    "models/registry.py",
    "service/scheduler",
    "service/slots",
    "service/proto",
    "service/observer.py",
    "service/explaining",
    "service/address.py",
    "service/switch_interval.py",
    "service/stopping.py",
    "service/shadow.py",
    "service/persistence",
    "service/live",
    "service/observability",
    "service/looking",
    "service/front",
    "service/keda",
    "service/knative",
    "simulator",
    "training/provenance.py",
    "training/cluster.py",
    "training/workers.py",
    "training/objective_met.py",
    "training/fitting",
    "training/replicas",
    "training/evaluating",
    "training/reporting",
    "training/study",
    "training/advising",
    "training/retraining",
    "cli",
)
"""In order. A name that ends in .py is a file that stands between rooms."""
FILES = [
    file
    for top in dict.fromkeys(room.split("/")[0] for room in ROOMS)
    for file in sorted((ROOT / top).rglob("*.py"))
]
PURE = (
    "replicas",
    "service/scheduler",
    "service/slots",
    "service/looking/followed.py",
    "service/looking/queries.py",
    "service/looking/told.py",
    "service/knative/revisions.py",
    "service/knative/election.py",
    "models/policy.py",
    "models/objectives",
    "models/published",
    "models/learned",
    "models/advised/policy.py",
)
"""What decides: it reads no clock and opens nothing."""
DOES_IO = {
    "asyncio",
    "concurrent",
    "grpc",
    "io",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "random",
    "secrets",
    "select",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "uuid",
    "uvloop",
}
MOST_LINES = 400


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every absolute import, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for name in node.names:
                yield node.lineno, f"{node.module}.{name.name}"


def room_of(path: str) -> int | None:
    """The room that `path` (service/live/driver.py, or a name's beginning) lies in."""
    inside = [
        number
        for number, room in enumerate(ROOMS)
        if path == room or path.startswith(f"{room.removesuffix('.py')}/") or path == room[:-3]
    ]
    return inside[0] if inside else None


def parse(file: Path) -> ast.AST:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def names(file: Path) -> list[tuple[int, str]]:
    return list(imported(parse(file)))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_only_earlier_rooms(file: Path) -> None:
    path = str(file.relative_to(ROOT))
    if path.count("/") == 1 and path.endswith("/__init__.py"):
        here: int | None = 0  # may import nothing but data
    else:
        here = room_of(path)
    assert here is not None, f"{path} lies in no room: add it to ROOMS"
    wrong = []
    for line, name in names(file):
        top, _, rest = name.partition(".")
        if top in {room.split("/")[0] for room in ROOMS} | {"tests"}:
            wrong.append(f"line {line}: imports {name}, not {PACKAGE}.{name}")
        elif top == PACKAGE:
            there = room_of(rest.replace(".", "/"))
            if there is not None and there > here:
                wrong.append(f"line {line}: imports {name}")
    assert not wrong


@pytest.mark.parametrize("room", PURE)
def test_what_decides_does_no_io(room: str) -> None:
    files = [ROOT / room] if room.endswith(".py") else sorted((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        for line, name in names(file):
            assert name.split(".")[0] not in DOES_IO, f"{file}:{line}: imports {name}"
        calls = [node.func for node in ast.walk(parse(file)) if isinstance(node, ast.Call)]
        opened = [call for call in calls if isinstance(call, ast.Name) and call.id == "open"]
        assert not opened, f"{file}: opens a file"


def test_no_file_is_long() -> None:
    generated = "service/proto"
    long = {
        str(file.relative_to(ROOT)): lines
        for file in FILES
        if not str(file.relative_to(ROOT)).startswith(generated)
        and (lines := len(file.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    }
    assert not long


def test_the_package_is_links_to_every_room() -> None:
    links = {link.name: link.readlink() for link in (ROOT / PACKAGE).iterdir() if link.is_symlink()}
    assert links == {top: Path("..") / top for top in {room.split("/")[0] for room in ROOMS}}


def test_the_test_sees_what_it_should() -> None:
    code = "def f():\n    import warmscaler.cli.main\n    from warmscaler.models import x\n"
    assert list(imported(ast.parse(code))) == [
        (2, "warmscaler.cli.main"),
        (3, "warmscaler.models.x"),
    ]
    assert room_of("cli/main") == len(ROOMS) - 1
    assert room_of("models/policy/Pool") == room_of("models/policy.py") == 3
