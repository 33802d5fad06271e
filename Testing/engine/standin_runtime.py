"""A deterministic stand-in for a trained model, for tests of what lies around the model.

It segments what is as bright as the prompt's centre and names it by that brightness: the 256 grey
levels are shared out among the entries. Everything else (preprocessing, ranking, worker, files) is
the real thing.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence

import numpy as np

from velcro_engine.knowledge_base import KnowledgeBase, text
from velcro_engine.linking.linker import Linker
from velcro_engine.model.preprocess import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, GREY_MEAN, GREY_STD
from velcro_engine.model.runtime import Calibration, Decoded

DIMENSION = 64


def text_vector(entry_text: str) -> np.ndarray:
    """Unit vector drawn from a text's hash."""
    seed = int.from_bytes(hashlib.blake2b(entry_text.encode(), digest_size=8).digest(), "little")
    vector = np.random.default_rng(seed).standard_normal(DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class StandInRuntime:
    name = "stand-in 1"
    fingerprint = "standin"
    size = 224
    nothing = None
    entry_embeddings_path = None

    def __init__(self, entries, encode_seconds: float = 0.0, abstain_below: float = 0.2) -> None:
        self.entries = list(entries)
        self.calibration = Calibration(temperature=0.05, abstain_below=abstain_below)
        self.encode_seconds = encode_seconds
        self.encoded = 0
        self.embedded = 0
        self.side = np.array([4.0, 0.0, 0.0], np.float32)

    def entry_for(self, grey: float):
        return self.entries[min(int(grey * len(self.entries) / 256), len(self.entries) - 1)]

    def encode(self, model_input):
        self.encoded += 1
        time.sleep(self.encode_seconds)
        return model_input.image[0, 0] * GREY_STD + GREY_MEAN

    def decode(self, embedding, points, labels) -> Decoded:
        corners = {int(k): p for p, k in zip(points[0], labels[0], strict=True)}
        if BOX_TOP_LEFT in corners:
            centre = (corners[BOX_TOP_LEFT] + corners[BOX_BOTTOM_RIGHT]) / 2
        else:
            centre = corners[1]
        x, y = np.clip(np.rint(centre).astype(int), 0, self.size - 1)
        grey = embedding[y, x]
        mask = np.where(np.abs(embedding - grey) < 0.05, 5.0, -5.0).astype(np.float32)
        vector = text_vector(text(self.entry_for(grey * 255)))
        return Decoded(mask, 0.9, vector, self.side)

    def decode_many(self, embedding, points, labels):
        """(masks, confidences, embeddings, sides) of N prompts."""
        found = [
            self.decode(embedding, points[n : n + 1], labels[n : n + 1]) for n in range(len(points))
        ]
        return (
            np.stack([d.mask for d in found]),
            np.array([d.mask_confidence for d in found], np.float32),
            np.stack([d.embedding for d in found]),
            np.stack([d.side for d in found]),
        )

    def embed_text(self, texts):
        self.embedded += len(texts)
        return np.stack([text_vector(t) for t in texts])


def standin_linker(base: KnowledgeBase, ids: Sequence[str], **options: float) -> Linker:
    """Linker over a whole knowledge base whose stand-in answers with the entries `ids` only."""
    vectors = np.stack([text_vector(text(entry)) for entry in base.entries])
    return Linker(StandInRuntime([base.entry(i) for i in ids], **options), base, vectors)
