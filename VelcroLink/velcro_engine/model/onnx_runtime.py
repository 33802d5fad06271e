"""The bundled model in ONNX Runtime: three graphs, no torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ModelError
from .folder import ModelFolder
from .preprocess import ModelInput
from .runtime import Calibration, Decoded, calibration_of
from .text_tokenizer import TextTokenizer

TEXT_BATCH = 32
# of NVIDIA, of Windows, of Apple; which of them is there depends on the onnxruntime package
GRAPHICS_PROVIDERS = (
    "CUDAExecutionProvider",
    "DmlExecutionProvider",
    "CoreMLExecutionProvider",
)
_NO_GRAPHICS = (
    "The installed onnxruntime cannot use a graphics processor; choose the processor (cpu) instead, "
    "or install onnxruntime-gpu (NVIDIA) or onnxruntime-directml (Windows)."
)


@dataclass(frozen=True)
class EncodedSlice:
    """Outputs of the encoder graph for one slice by name, float32; the decoder takes what it needs.

    embedding 1 x C x h x w, fine4, fine2 and pixels (finer maps) feed the decoder;
    dense 1 x D x h x w are unit embeddings of the image tokens, dense_side 1 x 3 x h x w.
    """

    maps: dict[str, np.ndarray]

    @property
    def dense(self) -> np.ndarray:
        return self.maps["dense"]

    @property
    def dense_side(self) -> np.ndarray:
        return self.maps["dense_side"]


class OnnxRuntime:
    """`runtime.Runtime` over a checked model folder. Graphs are opened when first needed.

    device: "cpu", or "gpu" for the encoder, which is nearly all of the work, on the graphics
    processor; the small graphs with their changing shapes stay on the processor.
    """

    def __init__(self, folder: ModelFolder, threads: int = 0, device: str = "cpu") -> None:
        if device not in ("cpu", "gpu"):
            raise ModelError(f"There is no device '{device}'; choose cpu or gpu.")
        self.device = device
        self._folder = folder
        self._threads = threads
        self._sessions: dict[str, Any] = {}
        self._tokenizer: TextTokenizer | None = None
        self.name = folder.name
        self.fingerprint = folder.fingerprint
        self.size = int(folder.config["size"])
        self.calibration: Calibration = calibration_of(folder.config)
        self.nothing = _nothing(folder.config)
        self.trained_entities = frozenset(map(str, folder.config.get("trained_entities", ())))
        # columns of the encoder's `posterior`, which SAM's has not; "nothing" comes after them
        named = () if folder.config.get("sam") else folder.config.get("entities", ())
        self.entities = tuple(map(str, named))
        self.text_only_factor = float(folder.config.get("text_only_factor", 1.0))
        self.present_above = _thresholds(folder.config)
        for role in ("encoder", "decoder", "text", "vocabulary"):
            if role not in folder.files:
                raise ModelError(f"'{folder.path}' lacks its {role}; install the model again.")

    @property
    def entry_embeddings_path(self) -> Path | None:
        """Text embeddings of the bundled knowledge base, computed when the model was exported."""
        return self._folder.files.get("entry_embeddings")

    def _session(self, role: str) -> Any:
        if role not in self._sessions:
            try:
                import onnxruntime as ort
            except ImportError as error:
                raise ModelError(
                    "onnxruntime is missing; install it with: pip install onnxruntime"
                ) from error
            options = ort.SessionOptions()
            options.intra_op_num_threads = self._threads or usable_cores()
            options.log_severity_level = 3
            # a fixed arena keeps the memory of the largest batch for ever
            options.enable_cpu_mem_arena = role != "text"
            providers = self._providers(role, ort.get_available_providers())
            try:
                session = ort.InferenceSession(
                    str(self._folder.files[role]), options, providers=providers
                )
            except Exception as error:  # noqa: BLE001 - the library raises its own kinds
                raise ModelError(
                    f"The model's {role} cannot be opened; install the model again.", repr(error)
                ) from error
            # the library goes on with the processor and only logs that it does
            if providers[0] not in session.get_providers():
                raise ModelError(_NO_GRAPHICS, f"{providers[0]} could not be started")
            self._sessions[role] = session
        return self._sessions[role]

    def _providers(self, role: str, available: Sequence[str]) -> list[str]:
        cpu = "CPUExecutionProvider"
        if self.device == "cpu" or role != "encoder":
            return [cpu]
        for provider in GRAPHICS_PROVIDERS:
            if provider in available:
                return [provider, cpu]
        raise ModelError(_NO_GRAPHICS, f"available: {', '.join(available)}")

    def encode(self, model_input: ModelInput) -> EncodedSlice:
        """One slice, once."""
        feeds = {"image": model_input.image, "position": model_input.position}
        session = self._session("encoder")
        names = [output.name for output in session.get_outputs()]
        return EncodedSlice(dict(zip(names, session.run(None, feeds), strict=True)))

    def decode(self, embedding: EncodedSlice, points: np.ndarray, labels: np.ndarray) -> Decoded:
        """One prompt: points 1 x 8 x 2 in input pixels, labels 1 x 8."""
        masks, iou, roi, side = self.decode_many(embedding, points, labels)
        return Decoded(masks[0], float(iou[0]), roi[0], side[0])

    def decode_many(
        self, embedding: EncodedSlice, points: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """N prompts on one slice -> masks N x m x m, IoU N, embeddings N x D, side N x 3."""
        session = self._session("decoder")
        prompt = {"points": points.astype(np.float32), "labels": labels.astype(np.float32)}
        feeds = {
            i.name: prompt.get(i.name, embedding.maps.get(i.name)) for i in session.get_inputs()
        }
        masks, iou, roi, side = session.run(None, feeds)
        return masks, iou, roi, side

    @property
    def tokenizer(self) -> TextTokenizer:
        if self._tokenizer is None:
            length = int(self._folder.config.get("context_length", 128))
            self._tokenizer = TextTokenizer.from_file(self._folder.files["vocabulary"], length)
        return self._tokenizer

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """N texts -> N x D float32, unit length."""
        out = [np.zeros((0, int(self._folder.config["embedding"])), dtype=np.float32)]
        for start in range(0, len(texts), TEXT_BATCH):
            tokens = self.tokenizer(list(texts[start : start + TEXT_BATCH]))
            longest = int(np.max(np.count_nonzero(tokens, axis=1), initial=2))
            feeds = {"tokens": tokens[:, :longest]}
            out.append(self._session("text").run(None, feeds)[0])
        return np.concatenate(out).astype(np.float32)


def usable_cores() -> int:
    """Cores this process may run on; ONNX Runtime counts all, and more threads than that wait."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _thresholds(config: dict[str, Any]) -> dict[str, float]:
    """{entry: least score of Find}, of the entries that have their own."""
    values = config.get("present_above", {})
    try:
        found = {str(entry): float(least) for entry, least in values.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(
            "The model's configuration is damaged; install it again.", repr(error)
        ) from error
    if not all(0.0 <= least <= 1.0 for least in found.values()):
        raise ModelError("The model's configuration is damaged; install it again.")
    return found


def _nothing(config: dict[str, Any]) -> np.ndarray | None:
    """Unit embedding of "nothing in the knowledge base", float32 D, if the model learnt one."""
    values = config.get("nothing")
    if values is None:
        return None
    vector = np.asarray(values, dtype=np.float32)
    if vector.ndim != 1 or not np.isfinite(vector).all() or not np.linalg.norm(vector) > 0:
        raise ModelError("The model's configuration is damaged; install it again.")
    return vector / np.linalg.norm(vector)
