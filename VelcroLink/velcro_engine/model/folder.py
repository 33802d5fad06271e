"""How a model folder is read: `config.json` and the files it names, each with its SHA-256."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ModelError
from ..resources import resource_path

MODEL_SCHEMA = 1
BUNDLED = "bundled"


@dataclass(frozen=True)
class ModelFolder:
    """A checked model folder: its configuration and the paths of its files by their role."""

    path: Path
    config: dict[str, Any] = field(repr=False)
    files: dict[str, Path] = field(repr=False)
    fingerprint: str = ""

    @property
    def name(self) -> str:
        return f"{self.config['name']} {self.config['version']}"


def model_folder(model: str | os.PathLike[str] | None = None) -> ModelFolder:
    """The model folder of a path, or the bundled one for None and "bundled", checked.

    config.json: {"schema_version": 1, "name", "version", "runtime": "onnx", "size", "files":
    {role: {"name", "sha256"}}, "calibration": {...}, ...}.
    Raises ModelError when it is missing, of another schema, or a file does not match its checksum.
    """
    if model is None or str(model) == BUNDLED:
        folder = bundled_model_path()
    else:
        folder = Path(model)
    config = _read_config(folder)
    files: dict[str, Path] = {}
    digest = hashlib.sha256()
    for role, entry in sorted(config["files"].items()):
        files[role] = _checked_file(folder, entry)
        digest.update(f"{role}:{entry['sha256']}".encode())
    return ModelFolder(folder, config, files, digest.hexdigest()[:32])


def bundled_model_path() -> Path:
    """Folder of the model that ships with VelcroLink. Raises InputError when it is missing."""
    return resource_path("Models/velcro-compact")


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"'{folder}' is not a model folder: it has no config.json.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"'{path}' is damaged; install the model again.", repr(error)) from error
    if not isinstance(config, dict):
        raise ModelError(f"'{path}' is damaged; install the model again.")
    schema = config.get("schema_version")
    if schema != MODEL_SCHEMA:
        raise ModelError(
            f"'{folder}' has model schema {schema}, this version reads {MODEL_SCHEMA}; "
            "update VelcroLink or the model."
        )
    for key, kind in (("name", str), ("version", str), ("size", int), ("files", dict)):
        if not isinstance(config.get(key), kind):
            raise ModelError(f"'{path}' lacks '{key}'; install the model again.")
    return config


def _checked_file(folder: Path, entry: Any) -> Path:
    if (
        not isinstance(entry, dict)
        or not isinstance(entry.get("name"), str)
        or not isinstance(entry.get("sha256"), str)
    ):
        raise ModelError(f"'{folder}' names a file without checksum; install the model again.")
    path = folder / entry["name"]
    if path.parent.resolve() != folder.resolve():
        raise ModelError(f"'{folder}' names a file outside itself; do not use this model.")
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"'{path}' is missing; install the model again.", repr(error)) from error
    if digest != entry["sha256"]:
        raise ModelError(f"'{path}' is damaged (checksum); install the model again.")
    return path
