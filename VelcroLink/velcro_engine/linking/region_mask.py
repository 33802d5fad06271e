"""From mask logits to the mask that is shown: the cut that overlaps best, in the pieces that belong.

A pixel in doubt is worth more inside the mask than outside when the structure is thin: the overlap
(Dice) that is expected from the pixels' probabilities is greatest at a threshold below one half,
another one for each region. It is found by sorting (Lipton et al., "Optimal thresholding of
classifiers to maximize F1 measure", ECML PKDD 2014).
"""

from __future__ import annotations

import numpy as np

from ..imaging.mask_pieces import clean_mask
from ..messages.request import SliceRequest
from .point_rules import held_to, points_to_keep

MASK_TEMPERATURE = 1.4  # divides mask logits; fitted on dev, see decision 11
BOX_SLACK = 0.04  # of a box's sides, how far a mask may leave it; and a pixel
FAINTEST = -3.0  # logits below are no candidates where there is no box
FAINT = 0.01  # log-odds that a pixel outside the mask is at least against it
HOPELESS = -4.0  # nor, with one, are these: what the decoder is sure about stays outside


def region_mask(
    logits: np.ndarray, request: SliceRequest, temperature: float = MASK_TEMPERATURE
) -> np.ndarray:
    """Mask (bool, H x W) of a prompt from the logits on the slice's pixels (H x W).

    With a box the mask stays in it, but for a little slack and what points beside it ask for.
    """
    rows, columns = _support(logits, request)
    part = logits[rows, columns].astype(np.float64) / temperature
    probability = 1.0 / (1.0 + np.exp(-np.clip(part, -30, 30)))
    threshold = best_threshold(probability)
    mask = np.zeros(logits.shape, dtype=bool)
    mask[rows, columns] = probability >= threshold
    mask &= logits > (FAINTEST if request.box is None else HOPELESS)
    points = points_to_keep(request.box, request.points)
    if points:
        cut = temperature * float(np.log(threshold / max(1e-9, 1 - threshold)))
        odds = np.where(mask, np.maximum(logits - cut, 0.0), np.minimum(logits - cut, -FAINT))
        mask = held_to(odds, request.pixels, points, mask.sum()) >= 0
    return clean_mask(mask, request)


def best_threshold(probability: np.ndarray) -> float:
    """The threshold whose mask has the greatest expected Dice; 0.5 at most, 1 of no pixels."""
    falling = np.sort(probability, axis=None)[::-1]
    if len(falling) == 0:
        return 1.0
    sums = np.cumsum(falling)
    expected = 2 * sums / (np.arange(1, len(falling) + 1) + sums[-1])
    return float(min(0.5, falling[int(np.argmax(expected))]))


def _support(logits: np.ndarray, request: SliceRequest) -> tuple[slice, slice]:
    """Rows and columns that a mask may reach."""
    height, width = logits.shape
    if request.box is None:
        rows, columns = np.nonzero(logits > FAINTEST)
        if len(rows) == 0:
            return slice(0, 0), slice(0, 0)
        return (
            slice(int(rows.min()), int(rows.max()) + 1),
            slice(int(columns.min()), int(columns.max()) + 1),
        )
    x0, y0, x1, y1 = request.box
    slack_x, slack_y = 1 + BOX_SLACK * (x1 - x0), 1 + BOX_SLACK * (y1 - y0)
    top, left = max(0, int(np.rint(y0 - slack_y))), max(0, int(np.rint(x0 - slack_x)))
    return (
        slice(top, max(top, min(height, int(np.rint(y1 + slack_y)) + 1))),
        slice(left, max(left, min(width, int(np.rint(x1 + slack_x)) + 1))),
    )
