"""The wheel: one package, which works beside whatever else is called as our rooms are."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_it_occupies_one_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        tops = {name.split("/")[0] for name in packed.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"warmscaler"}
    assert len(tops) == 2


def test_it_holds_every_file_of_the_rooms(wheel: Path) -> None:
    rooms = ("cli", "data", "models", "replicas", "service", "simulator", "training")
    files = {
        f"warmscaler/{file.relative_to(ROOT)}"
        for room in rooms
        for file in (ROOT / room).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    with zipfile.ZipFile(wheel) as packed:
        assert files <= set(packed.namelist())


def test_it_runs_where_others_have_our_names(wheel: Path, tmp_path: Path) -> None:
    installed, theirs = tmp_path / "site", tmp_path / "theirs"
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(installed)
    for name in ("models", "service", "training", "simulator"):
        (theirs / name).mkdir(parents=True)
        (theirs / name / "__init__.py").write_text("raise RuntimeError('of somebody else')\n")
    for name in ("data", "cli"):
        (theirs / f"{name}.py").write_text("raise RuntimeError('of somebody else')\n")

    def run(*words: str) -> str:
        # -S leaves out what is installed, this project too; the libraries come by the path.
        libraries = [each for each in sys.path if Path(each).is_dir() and Path(each) != ROOT]
        path = os.pathsep.join([str(installed), *libraries])
        done = subprocess.run(
            [sys.executable, "-S", *words],
            cwd=theirs,
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = run("-c", "import warmscaler, warmscaler.service.live.driver as it; print(it.__file__)")
    assert Path(where.strip()).is_relative_to(installed)
    assert "serve" in run("-m", "warmscaler", "--help")
    made = theirs / "made.parquet"
    run("-m", "warmscaler", "trace", "generate", "contest-1", "--days", "0.02", "--out", str(made))
    assert "fixed:60" in run(
        "-m", "warmscaler", "evaluate", str(made), "--policy", "fixed:60", "--jobs", "1"
    )
