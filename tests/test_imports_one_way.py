"""Rooms import one way: a file of a room imports only its own room and the ones before it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("data", "models", "service", "simulator", "training", "cli")
FILES = [file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))]


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and top-level package of every absolute import, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module.split(".")[0]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_only_earlier_rooms(file: Path) -> None:
    room = file.relative_to(ROOT).parts[0]
    later = {*ROOMS[ROOMS.index(room) + 1 :], "tests"}
    tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    wrong = [f"line {line}: imports {name}" for line, name in imported(tree) if name in later]
    assert not wrong


def test_every_room_is_looked_at() -> None:
    assert {file.relative_to(ROOT).parts[0] for file in FILES} == set(ROOMS)
    found = list(imported(ast.parse("def f():\n    import cli.main\n    from models import x\n")))
    assert found == [(2, "cli"), (3, "models")]
