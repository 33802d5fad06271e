"""Which pixels of a slice are what the start was: the model's own naming of pixels, if it has one.

A model with `posterior` maps names every pixel on its own; another one names its coarser image
tokens. Both are compared with what the start's mask was named, so that a decoder that fills any box
it is given does not carry the region on into its neighbours.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..linking.linker import Linker
from ..model.preprocess import Letterbox, mask_to_slice

LEAST = 1e-3  # probabilities below count as this
PIXEL_LIMIT, TOKEN_LIMIT = 6.0, 4.0
SIDED = 0.5  # mean log-odds of a side under the start's mask from which the side is held to


class Identity:
    """What the start was named, and by how much each place of another slice is named so."""

    def __init__(self, linker: Linker) -> None:
        self.linker = linker
        self.entry: int | None = None  # number in the knowledge base
        self.name: int | None = None  # number in the posterior
        self.side = 0.0  # +1 left, -1 right, 0 neither

    def learn_entry(self, embedding: np.ndarray) -> None:
        """From the region's embedding on the start slice."""
        if self.entry is None:
            self.entry = int(np.argmax(self.linker.embeddings @ embedding))

    @property
    def kind(self) -> str:
        """anatomy, pathology or device; "" before the start."""
        return "" if self.entry is None else self.linker.knowledge_base.entries[self.entry].kind

    @property
    def names_pixels(self) -> bool:
        """Whether pixels can be told apart, not only tokens."""
        return self.name is not None

    def learn_pixels(self, encoded: Any, mask: np.ndarray, window: Letterbox) -> None:
        """From the pixels under the start's mask (bool, H x W); nothing without a posterior."""
        posterior = _posterior(encoded)
        if posterior is None:
            return
        inside = np.stack([mask_to_slice(p, window, mask.shape)[mask].mean() for p in posterior])
        self.name = int(np.argmax(inside))
        side = self._side_odds(encoded, window, mask.shape)[mask].mean()
        paired = self.entry is not None and (
            self.linker.knowledge_base.entries[self.entry].laterality == "paired"
        )
        self.side = float(np.sign(side)) if paired and abs(side) >= SIDED else 0.0

    def margin(self, encoded: Any, window: Letterbox, shape: tuple[int, int]) -> np.ndarray | None:
        """H x W log-odds of the start's name against the best other one, the wrong side taken off;
        None for a model that names neither pixels nor tokens."""
        posterior = _posterior(encoded)
        if posterior is None or self.name is None:
            return self._token_margin(getattr(encoded, "dense", None), window, shape)
        own = np.log(np.maximum(posterior[self.name], LEAST))
        best = posterior[: self.name].max(axis=0, initial=LEAST)
        best = np.maximum(best, posterior[self.name + 1 :].max(axis=0, initial=LEAST))
        margin = mask_to_slice(own - np.log(best), window, shape)
        if self.side:
            margin = margin + np.minimum(self.side * self._side_odds(encoded, window, shape), 0)
        return np.clip(margin, -PIXEL_LIMIT, PIXEL_LIMIT)

    def _token_margin(self, dense, window, shape) -> np.ndarray | None:
        if dense is None or self.entry is None:
            return None
        _, depth, height, width = dense.shape
        cosine = self.linker.embeddings @ dense.reshape(depth, -1)
        own = cosine[self.entry].copy()
        cosine[self.entry] = -1.0
        margin = (own - cosine.max(axis=0)) / self.linker.runtime.calibration.temperature
        margin = np.clip(margin, -TOKEN_LIMIT, TOKEN_LIMIT).reshape(height, width)
        return mask_to_slice(margin, window, shape)

    def _side_odds(self, encoded: Any, window: Letterbox, shape: tuple[int, int]) -> np.ndarray:
        """H x W log-odds of left against right."""
        logits = encoded.dense_side[0]
        weights = np.exp(logits - logits.max(axis=0))
        shares = np.maximum(weights / weights.sum(axis=0), LEAST)
        return mask_to_slice(np.log(shares[0] / shares[1]), window, shape)


def _posterior(encoded: Any) -> np.ndarray | None:
    """Names x h x w probabilities."""
    found = getattr(encoded, "maps", {}).get("posterior")
    return None if found is None else found[0]
