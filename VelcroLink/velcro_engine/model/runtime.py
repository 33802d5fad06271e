"""How the linker talks to a model, whatever runs it (the bundled one: `onnx_runtime.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import ModelError
from .preprocess import ModelInput


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
