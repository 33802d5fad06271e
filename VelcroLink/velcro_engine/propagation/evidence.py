"""What the image itself says about a region's extent, beside the model: grey levels and the box."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from ..imaging.mask_pieces import clean_mask
from ..messages.request import SliceRequest


def grey_shares(pixels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of each of 64 grey levels among the weighted pixels, smoothed, none of them zero."""
    counts = np.bincount((pixels >> 2).ravel(), weights=weights.ravel(), minlength=64)
    kernel = np.exp(-0.5 * (np.arange(-8, 9) / 2.5) ** 2)
    counts = np.convolve(counts, kernel / kernel.sum(), mode="same")
    return (counts + 0.002 * max(counts.sum(), 1.0)) / (1.128 * max(counts.sum(), 1.0))


def level_that_fills(logits: np.ndarray, request: SliceRequest) -> float:
    """The level between -3 and 3 at which the mask fits its box best (overlap of the two boxes).

    A decoder that draws a little too small or too large would, with each slice prompted by the last
    one's mask, shrink or grow on and on. 0 without a box.
    """
    if request.box is None:
        return 0.0
    best, best_overlap = 0.0, -1.0
    for level in sorted(np.arange(-3.0, 3.01, 0.5), key=abs):
        mask = clean_mask(logits > level, request)
        if not mask.any():
            continue
        overlap = _box_overlap(box_of(mask), request.box)
        if overlap > best_overlap + 0.01:
            best, best_overlap = float(level), overlap
    return best


def _box_overlap(a: Sequence[float], b: Sequence[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0.0) * max(height, 0.0)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return both / max(sum(areas) - both, 1e-9)


def sharpened(
    logits: np.ndarray,
    pixels: np.ndarray,
    request: SliceRequest,
    weight: float,
    usual: np.ndarray | None = None,
) -> np.ndarray:
    """Mask logits brought to the image's own edges: the decoder's grid is coarser than the slice.

    Expectation maximisation of two grey-level distributions, inside and around the mask, started at
    the decoder's probabilities, which stay the prior. usual: grey shares of the neighbour's mask.
    """
    if weight <= 0:
        return logits
    x0, y0, x1, y1 = _window_of(request, logits)
    part, prior = pixels[y0:y1, x0:x1], logits[y0:y1, x0:x1].astype(np.float64)
    now = prior
    for _ in range(3):
        inside = 1 / (1 + np.exp(-np.clip(now, -20, 20)))
        if inside.sum() < 4:
            return logits
        own = grey_shares(part, inside)
        if usual is not None:
            own = 0.5 * (own + usual)
        around = grey_shares(part, 1 - inside)
        evidence = np.clip(np.log(own / around), -3, 3)[part >> 2]
        now = prior + weight * _smoothed(evidence)
    out = logits.copy()
    out[y0:y1, x0:x1] = now
    return out


def _window_of(request: SliceRequest, logits: np.ndarray) -> tuple[int, int, int, int]:
    """Pixels around the prompt that the region is compared with."""
    if request.box is not None:
        box = request.box
    else:
        box = box_of(logits > 0) if (logits > 0).any() else (0.0, 0.0, 1.0, 1.0)
    margin = 4 + 0.25 * max(box[2] - box[0], box[3] - box[1])
    height, width = logits.shape
    return (
        int(max(0, box[0] - margin)),
        int(max(0, box[1] - margin)),
        int(min(width, box[2] + margin + 1)),
        int(min(height, box[3] + margin + 1)),
    )


def _smoothed(image: np.ndarray) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.DiscreteGaussian(sitk.GetImageFromArray(image), [0.5, 0.5]))


def box_of(mask: np.ndarray) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return columns[0] - 0.5, rows[0] - 0.5, columns[-1] + 0.5, rows[-1] + 0.5


def grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    grown = sitk.BinaryDilate(sitk.GetImageFromArray(mask.astype(np.uint8)), [pixels, pixels])
    return sitk.GetArrayFromImage(grown).astype(bool)


def dice_of(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * int(np.count_nonzero(a & b)) / max(1, int(a.sum()) + int(b.sum()))
