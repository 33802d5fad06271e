"""From region embeddings to probabilities over the knowledge base; also how side is decided."""

from __future__ import annotations

import numpy as np

SIDE_NAMES = ("left", "right", None)


def entry_probabilities(
    regions: np.ndarray,
    entries: np.ndarray,
    nothing: np.ndarray | None,
    temperature: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Softmax of cosine / temperature over the entries and "nothing in the knowledge base".

    regions N x D and entries K x D, unit length; nothing D or None. Returns probabilities N x K and
    the probability of nothing N (zero when the model has no such embedding).
    """
    logits = regions.astype(np.float64) @ entries.T.astype(np.float64) / temperature
    if nothing is None:
        other = np.full((len(regions), 1), -np.inf)
    else:
        other = (regions.astype(np.float64) @ nothing.astype(np.float64) / temperature)[:, None]
    logits = np.concatenate([logits, other], axis=1)
    logits -= logits.max(axis=1, keepdims=True)
    weights = np.exp(logits)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights[:, :-1], weights[:, -1]


def side_of(
    laterality: str, side_logits: np.ndarray, has_position: bool, margin: float = 0.5
) -> str | None:
    """ "left", "right" or None for one entry; side_logits are left, right, neither.

    Never a side for what is single, nor for an image without position: a picture may be mirrored.
    `margin` is the least share of left or right of both that is told.
    """
    if not has_position or laterality in ("midline", "unpaired"):
        return None
    weights = np.exp(side_logits.astype(np.float64) - side_logits.max())
    left, right, neither = weights / weights.sum()
    if laterality == "any" and neither > max(left, right):
        return None
    if max(left, right) < margin * (left + right):
        return None
    return "left" if left > right else "right"
