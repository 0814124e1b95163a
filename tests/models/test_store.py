"""The store: whole versions or none, whoever writes at once, is killed, or damages a file."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec  # type: ignore[import-untyped]
import pytest

from warmscaler.models.artifact.folder import ArtifactError
from warmscaler.models.artifact.store import Store, StoreError
from warmscaler.models.learned.habits import Model

ROOT = Path(__file__).parents[2]
ABOUT = {"created": "2026-01-01T00:00:00+00:00", "trained_on": {"last_arrival_ms": 1}}


def model(price: float) -> Model:
    return Model(price_s_per_gb_s=price)


@pytest.fixture(params=["folder", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A folder, and an object store."""
    if request.param == "folder":
        yield Store(str(tmp_path / "store"))
        return
    yield Store(f"memory://{tmp_path.name}/store")
    fsspec.filesystem("memory").rm("/", recursive=True)


def test_versions_come_and_go(store: Store) -> None:
    assert store.pointer() is None
    assert store.versions() == []
    first, second = (store.add(model(price), ABOUT) for price in (0.01, 0.02))
    assert {each.name for each in store.versions()} == {first, second}
    assert store.pointer() is None  # to add is not to promote
    store.promote(first)
    store.promote(second)
    pointer = store.pointer()
    assert pointer is not None
    assert (pointer.version, pointer.history) == (second, (first, second))
    found, manifest = store.read(second)
    assert found.price_s_per_gb_s == 0.02
    assert manifest["trained_on"] == ABOUT["trained_on"]
    assert store.rollback().version == first
    with pytest.raises(StoreError, match="no version to go back to"):
        store.rollback()
    assert store.add(model(0.01), ABOUT) == first or len(store.versions()) == 3


def test_promotes_only_over_the_version_that_was_judged(store: Store) -> None:
    first, second, third = (store.add(model(price), ABOUT) for price in (0.01, 0.02, 0.03))
    store.promote(first, over=None)
    with pytest.raises(StoreError, match="meanwhile"):
        store.promote(second, over=None)
    store.promote(second, over=first)
    with pytest.raises(StoreError, match="meanwhile"):
        store.promote(third, over=first)


def test_keeps_what_the_pointer_may_need(store: Store) -> None:
    names = [store.add(model(0.01 * n), ABOUT) for n in range(1, 7)]
    for name in sorted(names):
        store.promote(name)
    oldest = sorted(names)[0]
    store.promote(oldest)
    store.prune(2)
    assert {each.name for each in store.versions()} == {*sorted(names)[-2:], oldest}
    assert store.rollback().version == sorted(names)[-1]


def test_a_damaged_version_is_not_promoted_nor_gone_back_to(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    first, second = (store.add(model(price), ABOUT) for price in (0.01, 0.02))
    store.promote(first)
    store.promote(second)
    file = tmp_path / "versions" / first / "prior_ms.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    for act in (store.rollback, lambda: store.promote(first)):
        with pytest.raises(ArtifactError, match="SHA-256"):
            act()
    pointer = store.pointer()
    assert pointer is not None
    assert pointer.version == second


@pytest.mark.parametrize("price", [float("inf"), -1.0])
def test_nonsense_is_not_added(tmp_path: Path, price: float) -> None:
    with pytest.raises(StoreError, match="price"):
        Store(str(tmp_path)).add(model(price), ABOUT)


def test_a_damaged_pointer_is_said_and_mended_by_promoting(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    name = store.add(model(0.01), ABOUT)
    (tmp_path / "current.json").write_text('{"format": "scaler-pointer", "version": "../../x"}')
    with pytest.raises(StoreError, match="damaged"):
        store.pointer()
    store.promote(name)
    assert store.pointer() is not None


@pytest.mark.parametrize("location", ["nosuch://place", "file"])
def test_what_cannot_be_a_store_is_said(tmp_path: Path, location: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        Store(location if "://" in location else str(tmp_path / location))


WRITER = """
import random, sys
from warmscaler.models.artifact.store import Store, StoreError
store = Store(sys.argv[1])
chance = random.Random(int(sys.argv[2]))
names = [each.name for each in store.versions()]
for turn in range(int(sys.argv[3])):
    try:
        if chance.random() < 0.3:
            store.rollback()
        else:
            store.promote(chance.choice(names))
    except StoreError as error:
        assert "go back" in str(error), error
    print(turn, flush=True)
"""


def race(folder: Path, seed: int, *, writers: int, turns: int, kills: int) -> int:
    """Promotes and rolls back in several processes at once, of which some go on until they are
    killed, wherever they are then; reads all the while. Returns how often was read."""
    store = Store(str(folder))
    names = {store.add(model(0.01 * n), ABOUT) for n in range(1, 5)}
    store.promote(sorted(names)[0])
    chance = random.Random(seed)
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", WRITER, folder, str(10 * seed + number)),
                str(turns if number >= kills else 1_000_000),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        for number in range(writers)
    ]
    doomed = {process: chance.randrange(1, turns) for process in processes[:kills]}
    reads = 0
    try:
        for process in doomed:
            assert process.stdout is not None
            process.stdout.readline()  # it is at work
        while doomed or any(process.poll() is None for process in processes[kills:]):
            for process, left in list(doomed.items()):
                if left:
                    process.stdout.readline()  # type: ignore[union-attr]
                    doomed[process] = left - 1
                    continue
                time.sleep(chance.uniform(0.0, 0.005))
                assert process.poll() is None
                os.kill(process.pid, signal.SIGKILL)
                del doomed[process]
            pointer = store.pointer()
            assert pointer is not None
            assert pointer.version in names
            assert store.manifest(pointer.version)["sha256"] == pointer.sha256
            store.read(pointer.version)
            reads += 1
    finally:
        for process in processes:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
    for process in processes[kills:]:
        assert process.returncode == 0
    assert {each.name for each in store.versions()} == names
    # Nobody holds the lock any more, and what the killed ones were at is in nobody's way.
    store.promote(min(names))
    return reads


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_four_at_once_some_killed(tmp_path: Path, seed: int) -> None:
    assert race(tmp_path, seed, writers=4, turns=20, kills=2) > 0
