"""A model folder seen as a store of one version: whatever whole model lies in it is in service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from warmscaler.models.artifact.folder import ArtifactError, read_manifest, read_whole
from warmscaler.models.artifact.store import Pointer, StoreError
from warmscaler.models.artifact.validity import check_model
from warmscaler.models.learned.habits import Model


class FollowedFolder:
    """The folder that `--model` names; it need not exist yet."""

    def __init__(self, folder: Path) -> None:
        self.location = str(folder)
        self._folder = folder

    def pointer(self) -> Pointer:
        """The model in the folder, by its checksum. Raises StoreError where there is none."""
        try:
            manifest = read_manifest(self._folder)
        except ArtifactError as error:
            raise StoreError(str(error)) from None
        version = name_of(manifest)
        return Pointer(version, manifest["sha256"], str(manifest.get("created", "")), (version,))

    def read(self, version: str) -> tuple[Model, dict[str, Any]]:
        """The model and its manifest, every byte verified. Raises ArtifactError."""
        model, manifest = read_whole(self._folder)
        check_model(model)
        if name_of(manifest) != version:
            raise ArtifactError(f"{self.location}: is being replaced")
        return model, manifest


def name_of(manifest: dict[str, Any]) -> str:
    """What a model that no store named is called."""
    return str(manifest["sha256"])[:12]
