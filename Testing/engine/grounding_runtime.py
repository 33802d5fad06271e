"""A stand-in model for grounding: bright squares are what their grey level says (see
`standin_runtime`), and every image token carries the embedding of its own grey level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from standin_runtime import DIMENSION, StandInRuntime, text_vector
from velcro_engine.knowledge_base import text
from velcro_engine.model.preprocess import STRIDE


@dataclass
class Encoded:
    grey: np.ndarray
    dense: np.ndarray
    dense_side: np.ndarray


class GroundingRuntime(StandInRuntime):
    nothing = text_vector("nothing at all")

    def encode(self, model_input):
        grey = super().encode(model_input)
        tokens = grey.reshape(28, STRIDE, 28, STRIDE).mean((1, 3))
        vectors = np.stack([self._vector(g) for g in tokens.ravel()])
        right = model_input.position[0, 0]
        if not model_input.position[0, 3].any():  # unknown: radiological, left is at the right
            right = np.repeat(np.linspace(1, -1, 28)[None], 28, axis=0)
        side = np.zeros((1, 3, 28, 28), np.float32)
        side[0, 0], side[0, 1] = 6.0 * (right < 0), 6.0 * (right > 0)
        return Encoded(grey, vectors.T.reshape(1, DIMENSION, 28, 28), side)

    def decode(self, embedding, points, labels):
        if isinstance(embedding, Encoded):
            embedding = embedding.grey
        return super().decode(embedding, points, labels)

    def decode_many(self, embedding, points, labels):
        masks, confidences, vectors, _ = super().decode_many(embedding.grey, points, labels)
        sides = np.stack(
            [self._side(embedding, *prompt) for prompt in zip(points, labels, strict=True)]
        )
        return masks, confidences, vectors, sides

    def _vector(self, grey):
        return self.nothing if grey < 0.1 else text_vector(text(self.entry_for(255 * grey)))

    @staticmethod
    def _side(embedding, points, labels):
        x, y = points[labels >= 0].mean(axis=0)
        row, column = (int(np.clip(v // STRIDE, 0, 27)) for v in (y, x))
        return embedding.dense_side[0, :, row, column]


def grey_of(runtime: GroundingRuntime, entry_id: str) -> int:
    """A grey level that the stand-in calls by that entry."""
    number = [e.id for e in runtime.entries].index(entry_id)
    return int(np.ceil((number + 0.5) * 256 / len(runtime.entries)))
