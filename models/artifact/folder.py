"""A trained model on disk: a folder of arrays and a manifest that says what they are.

    manifest.json   format version, when, from what, by what code; the model's settings;
                    size and SHA-256 of every other file; SHA-256 of all that
    NAME.npy        one array each, loaded with `allow_pickle=False`
    NAME.txt        a text each: the context's trees, as LightGBM writes them

Reading executes nothing from the folder, and takes it whole or not at all.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np
import numpy.typing as npt

from warmscaler.models.learned.context.trees import MOST_BYTES
from warmscaler.models.learned.habits import Model

FORMAT = "scaler-model"
FORMAT_VERSION = 3
MANIFEST = "manifest.json"
_ARRAY_NAME = re.compile(r"[a-z0-9_]{1,64}")
_LIBRARIES = ("numpy", "polars", "lightgbm", "scikit-learn")
_MAX_MANIFEST_BYTES = 64 << 20
"""A manifest larger than this is not ours; it is read into memory before it can be checked."""
_MAX_TEXT_BYTES = MOST_BYTES


PATIENCE_S = 10.0
SETTLE_S = 0.05
"""A folder that cannot be read and does not change for so long is not being replaced."""


class ArtifactError(Exception):
    """A model folder that cannot be used. Its text is one line: what is wrong, what to do."""


def write_artifact(folder: Path, model: Model, about: Mapping[str, Any]) -> None:
    """Writes `model` to `folder`, which appears whole or not at all.

    `about` goes into the manifest as it is, and must be JSON: when (`created`), and what the model
    was trained on (`trained_on`: name, span, requests, apps). A model already in `folder` is
    replaced; a folder that holds anything else is refused with `ArtifactError`.
    """
    folder = Path(folder)
    check_target(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.new-", dir=folder.parent))
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be written: {error.strerror}") from None
    try:
        new.chmod(0o755)
        _write_files(new, model, about)
        _swap(new, folder)
    except OSError as error:
        raise ArtifactError(f"{folder}: cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)


def check_target(folder: Path) -> None:
    """Raises `ArtifactError` where a model cannot be written: something else is in the way."""
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir() or folder.is_symlink():
        raise ArtifactError(f"{folder}: is in the way: it is not a folder")
    if any(folder.iterdir()):
        try:
            mine = json.loads((folder / MANIFEST).read_bytes())["format"] == FORMAT
        except (OSError, ValueError, KeyError, TypeError):
            mine = False
        if not mine:
            raise ArtifactError(f"{folder}: holds something that is not a model: name another")


def read_artifact(folder: Path) -> Model:
    """The model in `folder`. Raises `ArtifactError` unless it is exactly what was written."""
    return read_whole(folder)[0]


def read_whole(folder: Path) -> tuple[Model, dict[str, Any]]:
    """The model in `folder` and its manifest, which belong together; see `read_artifact`.

    Where it is replaced meanwhile it is read again, for as long as that goes on, up to PATIENCE_S.
    """
    folder = Path(folder)
    end_s = time.monotonic() + PATIENCE_S
    while True:
        before = _signature(folder)
        try:
            return _read(folder)
        except ArtifactError:
            if _signature(folder) == before:
                time.sleep(SETTLE_S)
                if _signature(folder) == before:
                    raise
            if time.monotonic() > end_s:
                raise


def _read(folder: Path) -> tuple[Model, dict[str, Any]]:
    manifest = read_manifest(folder)
    try:
        files = manifest["files"]
        arrays = {
            name: _read_array(folder, name, files[f"{name}.npy"]) for name in manifest["arrays"]
        }
        texts = {
            name: _read_text(folder, name, files[f"{name}.txt"])
            for name in manifest.get("texts", ())  # models of before had none
        }
        return Model.from_parts(arrays, manifest["settings"], texts), manifest
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        raise ArtifactError(
            f"{folder}: its files do not make a model ({error}): train it again"
        ) from None


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of the model in `folder`, checked against its own checksum and version."""
    folder = Path(folder)
    path = folder / MANIFEST
    if not folder.exists():
        raise ArtifactError(f"{folder}: there is no such model folder: train one with scaler train")
    if not path.is_file():
        raise ArtifactError(f"{folder}: is not a model folder: it has no {MANIFEST}")
    try:
        with path.open("rb") as file:
            manifest = json.loads(file.read(_MAX_MANIFEST_BYTES))
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ArtifactError(f"{path}: is not JSON: the model is damaged, train it again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ArtifactError(f"{folder}: is not a model folder: {MANIFEST} is of something else")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise ArtifactError(
            f"{folder}: is a model of format version {manifest.get('format_version')}, this program"
            f" reads {FORMAT_VERSION}: train it again"
        )
    if manifest.get("sha256") != _manifest_sha256(manifest):
        raise ArtifactError(f"{path}: was altered since training: train the model again")
    return manifest


def _signature(folder: Path) -> tuple[tuple[str, int, int, int], ...] | None:
    """Another whenever the folder, or a file in it, was changed or replaced; None without one."""
    try:
        stats = [(path.name, path.stat()) for path in (folder, *sorted(folder.iterdir()))]
    except OSError:
        return None
    return tuple((name, each.st_ino, each.st_size, each.st_mtime_ns) for name, each in stats)


def _write_files(new: Path, model: Model, about: Mapping[str, Any]) -> None:
    contents: dict[str, bytes] = {}
    arrays = model.arrays()
    for name, array in arrays.items():
        if not _ARRAY_NAME.fullmatch(name):
            raise ValueError(f"array name {name!r} is not [a-z0-9_]")
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        contents[f"{name}.npy"] = buffer.getvalue()
    texts = model.texts()
    contents |= {f"{name}.txt": text.encode() for name, text in texts.items()}
    files = {}
    for name, content in contents.items():
        files[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        _write(new / name, content)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **about,
        "versions": _versions(),
        "settings": model.settings(),
        "arrays": sorted(arrays),
        "texts": sorted(texts),
        "files": files,
    }
    manifest["sha256"] = _manifest_sha256(manifest)
    _write(new / MANIFEST, json.dumps(manifest, indent=2, allow_nan=False).encode() + b"\n")


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # the rename must not reach the disk before what it names


def _swap(new: Path, folder: Path) -> None:
    """Puts `new` in the place of `folder`; if that fails, what was there is there again."""
    if not folder.exists():
        new.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old-", dir=folder.parent))
    try:
        folder.rename(old / "model")
        try:
            new.rename(folder)
        except OSError:
            (old / "model").rename(folder)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _read_array(folder: Path, name: str, expected: Mapping[str, Any]) -> npt.NDArray[Any]:
    content = _read_checked(folder, name, ".npy", expected)
    try:
        return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except ValueError:
        path = folder / f"{name}.npy"
        raise ArtifactError(f"{path}: is not an array that loads without executing") from None


def _read_text(folder: Path, name: str, expected: Mapping[str, Any]) -> str:
    if expected["bytes"] > _MAX_TEXT_BYTES:
        raise ValueError(f"{name}.txt has more than {_MAX_TEXT_BYTES:,} bytes")
    return _read_checked(folder, name, ".txt", expected).decode("ascii")


def _read_checked(folder: Path, name: str, ending: str, expected: Mapping[str, Any]) -> bytes:
    """The bytes that were checked are the bytes that are loaded."""
    if not _ARRAY_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of an array or a text")
    path = folder / f"{name}{ending}"
    try:
        if path.stat().st_size != expected["bytes"]:
            raise ArtifactError(f"{path}: was altered since training: its size is another")
        content = path.read_bytes()
    except FileNotFoundError:
        raise ArtifactError(f"{path}: is missing: the model is damaged, train it again") from None
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != expected["sha256"]:
        raise ArtifactError(f"{path}: was altered since training: its SHA-256 is another")
    return content


def _manifest_sha256(manifest: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _versions() -> dict[str, str]:
    versions = {"python": python_version()}
    for library in ("warmscaler", *_LIBRARIES):
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    return versions
