"""The model store: versions, and a pointer to the one in service. A folder, or any fsspec location.

    versions/VERSION/    one model each, as `models/artifact/folder.py` writes it; never changed
    current.json         the pointer: the version in service, and those before it, oldest first

A version is there once its manifest is, which comes last; the pointer is one small file that is
replaced as a whole. So a reader sees the old version or the new one, and whoever is killed in the
middle leaves what nobody looks at. In a folder, a lock keeps two who promote at once in turn; in an
object store the pointer is one PUT, and the later one counts.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

from warmscaler.data.files import PARTIAL, sync, whole
from warmscaler.models.artifact.folder import (
    MANIFEST,
    ArtifactError,
    read_manifest,
    read_whole,
    write_artifact,
)
from warmscaler.models.artifact.validity import check_model
from warmscaler.models.learned.habits import Model

POINTER = "current.json"
POINTER_FORMAT = "scaler-pointer"
VERSIONS = "versions"
VERSION_NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{12}")
_FILE_NAME = re.compile(r"[a-z0-9_]{1,64}\.(npy|txt)")
HISTORY = 100
"""Promotions that the pointer remembers, for rolling back."""
STALE_S = 86_400.0
"""After so long an unfinished version is nobody's any more."""


class StoreError(Exception):
    """A store that cannot be used, or what is asked of it. Its text is one line."""


@dataclass(frozen=True, slots=True)
class Pointer:
    """Which version is in service. `history` ends with it."""

    version: str
    sha256: str
    """Of its manifest, as the manifest itself says."""
    promoted: str
    history: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the store, by its manifest; `problem` where that cannot be read."""

    name: str
    manifest: Mapping[str, Any]
    problem: str | None = None


class Store:
    """One location. Nothing is cached: every question goes to where the store is."""

    def __init__(self, location: str) -> None:
        """`location` is a folder or a URL of fsspec's (`s3://bucket/models`). It need not exist.
        Raises StoreError."""
        self.location = location
        if not location.strip():
            raise StoreError("the store's location is empty: name a folder or a URL")
        try:
            self._fs, root = fsspec.core.url_to_fs(
                location, use_listings_cache=False, skip_instance_cache=True
            )
        except (ImportError, ValueError, OSError) as error:
            raise StoreError(f"{location}: no such kind of store ({_line(error)})") from None
        self._root = str(root).rstrip("/")
        self.folder = Path(self._root) if isinstance(self._fs, LocalFileSystem) else None
        """The store, where it is a folder of this machine."""
        if self.folder is not None and self.folder.exists() and not self.folder.is_dir():
            raise StoreError(f"{location}: is not a folder")

    # Reading

    def pointer(self) -> Pointer | None:
        """What is in service; None where nothing ever was. Raises StoreError."""
        try:
            content = self._fs.cat_file(f"{self._root}/{POINTER}")
        except FileNotFoundError:
            return None
        except Exception as error:  # every backend has exceptions of its own
            raise StoreError(f"{self.location}: cannot be read ({_line(error)})") from None
        try:
            value = json.loads(content)
            if value["format"] != POINTER_FORMAT or not value["history"]:
                raise ValueError
            names = (value["version"], *value["history"])
            if not all(VERSION_NAME.fullmatch(name) for name in names):
                raise ValueError
            return Pointer(
                value["version"], str(value["sha256"]), str(value["promoted"]), names[1:]
            )
        except (ValueError, KeyError, TypeError):
            raise StoreError(
                f"{self.location}/{POINTER}: is damaged; promote a version to mend it"
            ) from None

    def versions(self) -> list[Version]:
        """Every whole version, oldest first. Raises StoreError."""
        try:
            found = self._fs.ls(f"{self._root}/{VERSIONS}", detail=False)
        except FileNotFoundError:
            return []
        except Exception as error:
            raise StoreError(f"{self.location}: cannot be read ({_line(error)})") from None
        result = []
        names = sorted(str(path).rstrip("/").rpartition("/")[2] for path in found)
        for name in filter(VERSION_NAME.fullmatch, names):
            try:
                result.append(Version(name, self.manifest(name)))
            except (StoreError, ArtifactError) as error:
                if self._fs.exists(f"{self._path(name)}/{MANIFEST}"):
                    result.append(Version(name, {}, str(error)))
        return result

    def manifest(self, version: str) -> dict[str, Any]:
        """The manifest of a version. Raises StoreError, ArtifactError."""
        if self.folder is not None:
            self._check_name(version)
            return read_manifest(Path(self._path(version)))
        with self._fetched(version, arrays=False) as folder:
            return read_manifest(folder)

    def read(self, version: str) -> tuple[Model, dict[str, Any]]:
        """A version's model and manifest, every byte verified. Raises StoreError, ArtifactError."""
        with self._fetched(version) as folder:
            model, manifest = read_whole(folder)
        check_model(model)
        return model, manifest

    # Writing

    def add(self, model: Model, about: Mapping[str, Any]) -> str:
        """Adds a version, which is not in service yet. Returns its name. Raises StoreError."""
        with tempfile.TemporaryDirectory(prefix="scaler-store-") as scratch:
            folder = Path(scratch) / "model"
            try:
                check_model(model)
                write_artifact(folder, model, about)
            except ArtifactError as error:
                raise StoreError(str(error)) from None
            return self.add_folder(folder)

    def add_folder(self, folder: Path) -> str:
        """Adds the model in `folder`, as `scaler train` makes one. Raises StoreError, ArtifactError."""
        model, manifest = read_whole(folder)
        check_model(model)
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{manifest['sha256'][:12]}"
        target = self._path(name)
        try:
            if self.folder is not None:
                self._place(folder, Path(target), manifest["sha256"])
            elif not self._fs.exists(f"{target}/{MANIFEST}"):
                for file in sorted(manifest["files"]):
                    self._fs.pipe_file(f"{target}/{file}", (folder / file).read_bytes())
                self._fs.pipe_file(f"{target}/{MANIFEST}", (folder / MANIFEST).read_bytes())
        except Exception as error:
            raise StoreError(f"{self.location}: cannot be written ({_line(error)})") from None
        return name

    def promote(self, version: str, *, over: str | None = "") -> Pointer:
        """Puts a version in service, once it is verified. Raises StoreError, ArtifactError.

        With `over`, only if that version (None: none) is in service still.
        """
        _, manifest = self.read(version)
        with self.lock():
            before = self._pointer_or_none()
            current = before.version if before is not None else None
            if over not in ("", current):
                raise StoreError(f"{self.location}: {current} was promoted meanwhile")
            history = before.history if before is not None else ()
            if version != current:
                history = (*history, version)[-HISTORY:]
            return self._point(version, manifest["sha256"], history)

    def rollback(self) -> Pointer:
        """Puts the version before the current one in service. Raises StoreError, ArtifactError."""
        with self.lock():
            before = self.pointer()
            if before is None or len(before.history) < 2:
                raise StoreError(f"{self.location}: there is no version to go back to")
            history = before.history[:-1]
            _, manifest = self.read(history[-1])
            return self._point(history[-1], manifest["sha256"], history)

    def prune(self, keep: int) -> list[str]:
        """Takes versions away, oldest first, down to `keep` and those that the pointer may need:
        the current one and the `keep` before it. Returns their names. Raises StoreError."""
        with self.lock():
            pointer = self.pointer()
            needed = set(pointer.history[-keep - 1 :]) if pointer is not None else set()
            names = [each.name for each in self.versions()]
            gone = [name for name in names[: max(len(names) - keep, 0)] if name not in needed]
            try:
                for name in gone:
                    # The manifest first: without it, it is no version.
                    self._fs.rm_file(f"{self._path(name)}/{MANIFEST}")
                    self._fs.rm(self._path(name), recursive=True)
                self._tidy()
            except Exception as error:
                raise StoreError(f"{self.location}: cannot be written ({_line(error)})") from None
            return gone

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the store of a folder for oneself; a process that is killed lets go of it."""
        if self.folder is None:
            yield
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(f"{self.location}: cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(file)

    # How

    def _path(self, version: str) -> str:
        return f"{self._root}/{VERSIONS}/{version}"

    def _check_name(self, version: str) -> None:
        if not VERSION_NAME.fullmatch(version) or not self._fs.isdir(self._path(version)):
            raise StoreError(
                f"{self.location}: there is no version {version!r}: see scaler models list"
            )

    def _pointer_or_none(self) -> Pointer | None:
        """A damaged pointer is none: to promote mends it."""
        try:
            return self.pointer()
        except StoreError:
            return None

    def _point(self, version: str, sha256: str, history: Sequence[str]) -> Pointer:
        promoted = datetime.now(UTC).isoformat(timespec="seconds")
        content = json.dumps(
            {
                "format": POINTER_FORMAT,
                "version": version,
                "sha256": sha256,
                "promoted": promoted,
                "history": list(history),
            },
            indent=2,
        ).encode()
        try:
            if self.folder is None:
                self._fs.pipe_file(f"{self._root}/{POINTER}", content)
            else:
                with whole(self.folder / POINTER, durable=True) as file:
                    file.write_bytes(content)
        except Exception as error:
            raise StoreError(f"{self.location}: cannot be written ({_line(error)})") from None
        return Pointer(version, sha256, promoted, tuple(history))

    def _place(self, folder: Path, target: Path, sha256: str) -> None:
        """A copy of `folder`, whose manifest has this checksum, that appears at `target` whole."""
        if target.exists():
            return  # the same bytes: its name has their checksum
        target.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
        try:
            new.chmod(0o755)
            for file in [*read_manifest(folder)["files"], MANIFEST]:
                content = (folder / file).read_bytes()
                with (new / file).open("xb") as copy:
                    copy.write(content)
                    copy.flush()
                    os.fsync(copy.fileno())
            if read_whole(new)[1]["sha256"] != sha256:
                raise OSError(f"{folder} was replaced meanwhile; try again")
            try:
                new.rename(target)
            except OSError:
                if not target.exists():  # else somebody added the same
                    raise
            sync(target.parent)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def _tidy(self) -> None:
        """Takes away what others that were killed left unfinished."""
        if self.folder is None:
            return
        left = [
            *(self.folder / VERSIONS).glob(".new-*"),
            *self.folder.glob(f".{POINTER}.*{PARTIAL}"),
        ]
        for path in left:
            if time.time() - path.stat().st_mtime > STALE_S:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    @contextmanager
    def _fetched(self, version: str, *, arrays: bool = True) -> Iterator[Path]:
        """A version's files in a folder of this machine."""
        self._check_name(version)
        if self.folder is not None:
            yield Path(self._path(version))
            return
        with tempfile.TemporaryDirectory(prefix="scaler-store-") as scratch:
            folder = Path(scratch)
            try:
                content = self._fs.cat_file(f"{self._path(version)}/{MANIFEST}")
                (folder / MANIFEST).write_bytes(content)
                files = read_manifest(folder)["files"] if arrays else ()
                for file in filter(_FILE_NAME.fullmatch, files):
                    content = self._fs.cat_file(f"{self._path(version)}/{file}")
                    (folder / file).write_bytes(content)
            except FileNotFoundError:
                raise StoreError(f"{self.location}: version {version} is not whole") from None
            except ArtifactError:
                raise
            except Exception as error:
                raise StoreError(f"{self.location}: cannot be read ({_line(error)})") from None
            yield folder


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
