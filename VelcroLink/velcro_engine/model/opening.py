"""A model folder becomes a model that runs. Torch is never needed here."""

from __future__ import annotations

import os

from ..errors import ModelError
from .folder import model_folder
from .runtime import Runtime


def open_runtime(model: str | os.PathLike[str] | None = None, device: str = "cpu") -> Runtime:
    """Load a model folder (None or "bundled": the one that ships). device: "cpu" or "gpu".
    Raises ModelError, for an impossible device only when the first slice is encoded."""
    folder = model_folder(model)
    kind = folder.config.get("runtime")
    if kind != "onnx":
        raise ModelError(f"'{folder.path}' needs runtime '{kind}', which is not known here.")
    from .onnx_runtime import OnnxRuntime

    return OnnxRuntime(folder, device=device)
