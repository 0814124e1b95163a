"""A model folder is taken whole or refused with one line, and never executes anything."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.traces import trace_of
from warmscaler.models.artifact import folder as artifact_folder
from warmscaler.models.artifact.folder import (
    ArtifactError,
    read_artifact,
    read_manifest,
    read_whole,
    write_artifact,
)
from warmscaler.models.learned.habits import AppHabits, LevelHabits, Model
from warmscaler.training.fitting.fit import fit

ABOUT: dict[str, Any] = {
    "created": "2020-01-01T00:00:00+00:00",
    "trained_on": {"name": "by-hand", "requests": 400, "apps": 2},
}


@pytest.fixture(scope="module")
def model() -> Model:
    rows = [(k * 30_000, k % 2, 200) for k in range(400)]
    return fit(trace_of(rows, memory_mb=[128, 256]), create_ms=300.0)


@pytest.fixture
def folder(tmp_path: Path, model: Model) -> Path:
    write_artifact(tmp_path / "model", model, ABOUT)
    return tmp_path / "model"


def same(one: Model, other: Model) -> bool:
    mine, theirs = one.arrays(), other.arrays()
    return (
        one.settings() == other.settings()
        and mine.keys() == theirs.keys()
        and all(np.array_equal(mine[name], theirs[name]) for name in mine)
    )


def refused(folder: Path) -> str:
    with pytest.raises(ArtifactError) as error:
        read_artifact(folder)
    text = str(error.value)
    assert "\n" not in text
    assert str(folder) in text
    return text


def rewrite(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def an_array(folder: Path) -> Path:
    return next(iter(sorted(folder.glob("*.npy"))))


def test_what_was_written_is_read(folder: Path, model: Model) -> None:
    assert same(read_artifact(folder), model)
    assert read_manifest(folder)["trained_on"] == ABOUT["trained_on"]
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_model_is_replaced_whole(folder: Path, model: Model) -> None:
    (folder / "left-over").write_text("from before")
    write_artifact(folder, model, ABOUT)
    assert same(read_artifact(folder), model)
    assert not (folder / "left-over").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_failed_write_leaves_the_old_model(folder: Path, model: Model) -> None:
    with pytest.raises(TypeError):
        write_artifact(folder, model, {"created": object()})
    assert same(read_artifact(folder), model)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_what_is_not_a_model_is_not_replaced(tmp_path: Path, model: Model) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(ArtifactError, match="not a model"):
        write_artifact(tmp_path, model, ABOUT)
    with pytest.raises(ArtifactError, match="not a folder"):
        write_artifact(tmp_path / "thesis.txt", model, ABOUT)
    assert (tmp_path / "thesis.txt").read_text() == "ten years of work"


def test_missing(tmp_path: Path) -> None:
    assert "no such model folder" in refused(tmp_path / "nowhere")
    assert "not a model folder" in refused(tmp_path)


def test_manifest_of_something_else(folder: Path) -> None:
    (folder / "manifest.json").write_text("{}")
    assert "not a model folder" in refused(folder)
    (folder / "manifest.json").write_text("{")
    assert "not JSON" in refused(folder)


def test_another_version(folder: Path) -> None:
    rewrite(folder, format_version=99)
    assert "format version 99" in refused(folder)


def test_altered_settings(folder: Path) -> None:
    rewrite(folder, settings={})
    assert "altered" in refused(folder)


def test_altered_array(folder: Path) -> None:
    path = an_array(folder)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "altered" in refused(folder)
    path.write_bytes(content[:-1])
    assert "altered" in refused(folder)


def test_a_manifest_made_to_harm(folder: Path, tmp_path: Path) -> None:
    """Its checksum is right: whoever writes it can compute that."""
    np.save(tmp_path / "other.npy", np.zeros(3))
    content = (tmp_path / "other.npy").read_bytes()
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    outside: dict[str, Any] = {"arrays": ["../other"], "files": {"../other.npy": entry}}
    cases: list[dict[str, Any]] = [
        outside,
        {"files": []},
        {"arrays": [1]},
        {"arrays": 7},
        {"settings": 7},
    ]
    for changes in cases:
        forged = json.loads((folder / "manifest.json").read_text()) | changes
        forged["sha256"] = artifact_folder._manifest_sha256(forged)
        forged_folder = tmp_path / "forged"
        shutil.copytree(folder, forged_folder, dirs_exist_ok=True)
        (forged_folder / "manifest.json").write_text(json.dumps(forged))
        assert "do not make a model" in refused(forged_folder)


def test_missing_array(folder: Path) -> None:
    an_array(folder).unlink()
    assert "missing" in refused(folder)


LEVEL = LevelHabits(np.array([1_000.0]), np.array([3.0]), 5.0, 0.0)


def with_keys(keys: list[str]) -> Model:
    """Each app starts in another time."""
    return Model(apps={key: AppHabits(float(n), (LEVEL,)) for n, key in enumerate(keys)})


@given(st.lists(st.text(max_size=20), unique=True, max_size=8))
@example(["a", "a\0", "", "\0", "ä", "\U0001f600", "a" * 50_000])
def test_every_key_is_another_app(keys: list[str]) -> None:
    model = with_keys(keys)
    read = Model.from_parts(model.arrays(), model.settings())
    assert {key: app.start_ms for key, app in read.apps.items()} == {
        key: float(n) for n, key in enumerate(keys)
    }


def test_a_long_key_costs_its_own_length(tmp_path: Path) -> None:
    keys = [f"app-{n}" for n in range(2_000)]
    write_artifact(tmp_path / "short", with_keys(keys), {})
    write_artifact(tmp_path / "long", with_keys([*keys, "x" * 50_000]), {})
    short, long = (
        sum(file.stat().st_size for file in (tmp_path / name).iterdir())
        for name in ("short", "long")
    )
    assert long - short < 60_000
    assert set(read_artifact(tmp_path / "long").apps) == {*keys, "x" * 50_000}


def test_keys_that_cannot_be_are_refused(folder: Path) -> None:
    model = with_keys(["a", "b"])
    good = model.arrays()
    for changes in (
        {"app_key_ends": np.array([1, 3])},
        {"app_key_ends": np.array([2, 1])},
        {"app_key_ends": np.array([-1, 2])},
        {"app_key_ends": np.array([1.0, 2.0])},
        {"app_key_bytes": np.frombuffer(b"a\xff", dtype=np.uint8)},
        {"app_key_bytes": np.frombuffer(b"aa", dtype=np.uint8)},
        {"app_key_bytes": np.array([97, 98])},
    ):
        with pytest.raises(ValueError, match=r"keys|twice|decode"):
            Model.from_parts(good | changes, model.settings())


REPLACES = """
import sys, time
from pathlib import Path
from tests.models.test_artifact import with_keys
from warmscaler.models.artifact.folder import write_artifact
number = 0
while True:
    number += 1
    write_artifact(Path(sys.argv[1]), with_keys([str(number)]), {"number": number})
"""


def test_a_folder_that_is_replaced_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    """By a process that does nothing else: each time it is one of its models, whole."""
    folder = tmp_path / "model"
    write_artifact(folder, with_keys(["0"]), {"number": 0})
    other = subprocess.Popen(
        [sys.executable, "-c", REPLACES, folder], cwd=Path(__file__).parents[2]
    )
    seen: set[int] = set()
    try:
        while len(seen) < 8:
            model, manifest = read_whole(folder)
            assert list(model.apps) == [str(manifest["number"])]
            seen.add(manifest["number"])
    finally:
        other.kill()
        other.wait()


def test_a_folder_that_is_copied_over_file_by_file_is_read_again(tmp_path: Path) -> None:
    """As `cp` does it: for a while it holds some files of the one, some of the other."""
    old, new = with_keys(["old"]), with_keys(["new", "newer"])
    write_artifact(tmp_path / "model", old, {})
    write_artifact(tmp_path / "new", new, {})

    def copy() -> None:
        for file in sorted((tmp_path / "new").iterdir()):
            (tmp_path / "model" / file.name).write_bytes(file.read_bytes())
            time.sleep(0.01)

    copying = Thread(target=copy)
    copying.start()
    while copying.is_alive():
        read = read_artifact(tmp_path / "model")
        assert same(read, old) or same(read, new)
    copying.join()
    assert same(read_artifact(tmp_path / "model"), new)
