"""From region embeddings to probabilities over the knowledge base; also how side is decided."""

from __future__ import annotations

import numpy as np

from ..messages.request import SliceRequest
from .attributes import centre_ras

MM_PER_LOGIT = 3.0  # beyond a head's middle plane; chosen on dev (decision 15)
MIDDLE_MM = 6.0  # nearer to it what can lie anywhere has no side
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


def right_of_middle(mask: np.ndarray, request: SliceRequest) -> float | None:
    """mm from the middle plane of a head to the centre of a mask (H x W), rising to the patient's
    right. None when it is not known how a head lies, or the mask is empty."""
    fore = request.foreground
    if fore is None or not fore.is_head or request.pixel_to_ras is None or not mask.any():
        return None
    centre = centre_ras(mask, request.pixel_to_ras)
    return float(fore.relative(centre)[0] * fore.half_extent[0])


def side_of(
    laterality: str,
    side_logits: np.ndarray,
    has_position: bool,
    margin: float = 0.5,
    right_mm: float | None = None,
) -> str | None:
    """ "left", "right" or None for one entry; side_logits are left, right, neither.

    Never a side for what is single, nor for an image without position: a picture may be mirrored.
    `margin` is the least share of left or right of both that is told. right_mm: from
    `right_of_middle`; it counts beside the logits, and decides for what can lie anywhere.
    """
    if not has_position or laterality in ("midline", "unpaired"):
        return None
    logits = side_logits.astype(np.float64)
    if right_mm is not None:
        if laterality == "any":
            return None if abs(right_mm) < MIDDLE_MM else "right" if right_mm > 0 else "left"
        logits = logits + [0.0, right_mm / MM_PER_LOGIT, 0.0]
    weights = np.exp(logits - logits.max())
    left, right, neither = weights / weights.sum()
    if laterality == "any" and neither > max(left, right):
        return None
    if max(left, right) < margin * (left + right):
        return None
    return "left" if left > right else "right"
