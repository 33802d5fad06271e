"""A click asks about a pixel: what that pixel says of itself counts beside what the decoder says.

The encoder names every pixel on its own (decision 11). Under a click inside a structure that name is
right more often than the decoder's, which has to guess from one point how far the region reaches;
both together are right more often than either (decision 14). Boxes are another matter: the decoder
knows the extent then. Pictures without a position are left alone, since their layers lie over
each other (a shadow on the lung): a pixel there has several names.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..knowledge_base import KnowledgeBase
from ..messages.request import SliceRequest
from ..model.preprocess import Letterbox

DECODER_COUNTS = 0.4  # power of the decoder's probabilities; the clicked pixels' have 1
FLOOR = 3e-3  # least share of a name at a pixel: a model is never that sure
MASK_GAIN = 0.5  # of the log-odds that a pixel bears the click's name, in its mask's logits
LEAST_SHARE = 1e-3


class ClickedPixels:
    """Corrects the answer to clicks, for one model and one knowledge base."""

    def __init__(self, entities: tuple[str, ...], knowledge_base: KnowledgeBase) -> None:
        """entities: names of the posterior's maps, in order, without the last ("nothing")."""
        number = {entry.id: n for n, entry in enumerate(knowledge_base.entries)}
        known = [(m, number[e]) for m, e in enumerate(entities) if e in number]
        self._maps = np.array([m for m, _ in known], dtype=int)
        self._entries = np.array([n for _, n in known], dtype=int)

    def heed(
        self,
        encoded: Any,
        request: SliceRequest,
        window: Letterbox,
        probability: np.ndarray,
        mask: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """(probability K over the knowledge base, mask logits m x m over the square input) of a prompt,
        after its clicks; as given when it has a box, no position, or a model that names no pixels.

        Entries that the posterior does not know (text alone, the user's own) keep their share."""
        maps = getattr(encoded, "maps", {}).get("posterior")
        if maps is None or request.box is not None or request.pixel_to_ras is None:
            return probability, mask
        posterior = maps[0]
        inside = [(x, y) for x, y, label in request.points if label == 1]
        if not inside or len(self._maps) == 0:
            return probability, mask
        here = shares_at(posterior, window, np.array(inside))[self._maps]
        own = np.log(probability[self._entries] + 1e-6)
        log = DECODER_COUNTS * own + np.log(here + FLOOR).mean(axis=1)
        names = np.exp(log - log.max())
        names /= names.sum()
        heeded = probability.copy()
        heeded[self._entries] = names * probability[self._entries].sum()
        same = np.tensordot(names, posterior[self._maps], axes=1)
        same = np.clip(same, LEAST_SHARE, 1 - LEAST_SHARE)
        odds = np.log(same) - np.log(1 - same)
        repeats = mask.shape[-1] // odds.shape[-1]
        return heeded, mask + MASK_GAIN * odds.repeat(repeats, axis=0).repeat(repeats, axis=1)


def shares_at(posterior: np.ndarray, window: Letterbox, points: np.ndarray) -> np.ndarray:
    """Shares of the names (N x P) at P x 2 slice pixels, bilinear in the maps N x h x w."""
    height, width = posterior.shape[1:]
    ratio = width / window.size
    at = (window.to_input(points) + 0.5) * ratio - 0.5
    x, y = np.clip(at[:, 0], 0, width - 1), np.clip(at[:, 1], 0, height - 1)
    x0, y0 = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    dx, dy = x - x0, y - y0
    upper = posterior[:, y0, x0] * (1 - dx) + posterior[:, y0, x0 + 1] * dx
    lower = posterior[:, y0 + 1, x0] * (1 - dx) + posterior[:, y0 + 1, x0 + 1] * dx
    shares: np.ndarray = upper * (1 - dy) + lower * dy
    return shares
