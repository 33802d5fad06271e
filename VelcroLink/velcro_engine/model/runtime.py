"""How the linker talks to a model, whatever runs it, and how a model folder is opened.

A model folder holds `config.json` and the files it names, each with its SHA-256. Torch is never
needed here: the bundled model runs in ONNX Runtime (`model/onnx_runtime.py`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import ModelError
from ..resources import resource_path
from .preprocess import ModelInput

MODEL_SCHEMA = 1
BUNDLED = "bundled"


@dataclass(frozen=True)
class Calibration:
    """What turns scores into probabilities, fitted on the development split.

    temperature: divides cosines before the softmax over the knowledge base. abstain_below: lowest
    probability of the first entry that counts as a link. side_margin: least probability of left or
    right that is told as a side.
    """

    temperature: float = 0.07
    abstain_below: float = 0.0
    side_margin: float = 0.5


@dataclass(frozen=True)
class Decoded:
    """Answer of the decoder to one prompt, all float32.

    mask: m x m logits over the square model input. mask_confidence: estimated IoU, 0..1.
    embedding: D, unit length. side: 3 logits: left, right, no side.
    """

    mask: np.ndarray
    mask_confidence: float
    embedding: np.ndarray
    side: np.ndarray


class Runtime(Protocol):
    """One loaded model. Implemented by ONNX Runtime for the bundled model and by torch.

    name: name and version for results. fingerprint: changes with the weights; cached embeddings
    are kept under it. size: pixels along the square input. nothing: unit embedding (D) of "nothing
    in the knowledge base", if the model learnt one. entry_embeddings_path: text embeddings that came
    with the model, if any.
    """

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def calibration(self) -> Calibration: ...

    @property
    def nothing(self) -> np.ndarray | None: ...

    @property
    def entry_embeddings_path(self) -> Path | None: ...

    def encode(self, model_input: ModelInput) -> Any:
        """Whatever `decode` needs of a slice; the linker caches it and never looks inside."""

    def decode(self, embedding: Any, points: np.ndarray, labels: np.ndarray) -> Decoded:
        """One prompt as `preprocess.prompt_arrays` gives it."""

    def decode_many(
        self, embedding: Any, points: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """N prompts on one slice -> masks N x m x m, IoU N, embeddings N x D, side logits N x 3."""

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """N texts -> N x D float32, unit length."""


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


def open_runtime(model: str | os.PathLike[str] | None = None, device: str = "cpu") -> Runtime:
    """Load a model folder (None or "bundled": the one that ships). device: "cpu" or "gpu".
    Raises ModelError, for an impossible device only when the first slice is encoded."""
    folder = model_folder(model)
    kind = folder.config.get("runtime")
    if kind != "onnx":
        raise ModelError(f"'{folder.path}' needs runtime '{kind}', which is not known here.")
    from .onnx_runtime import OnnxRuntime

    return OnnxRuntime(folder, device=device)


def calibration_of(config: dict[str, Any]) -> Calibration:
    """Calibration written in a model's configuration. Raises ModelError for impossible values."""
    values = config.get("calibration", {})
    try:
        found = Calibration(**{key: float(value) for key, value in values.items()})
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError("The model's calibration is damaged; install it again.") from error
    if not found.temperature > 0 or not 0 <= found.abstain_below <= 1:
        raise ModelError("The model's calibration is out of range; install it again.")
    return found


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
