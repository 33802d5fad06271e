"""Which pieces of a predicted mask belong to the prompt."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ..messages.request import SliceRequest

# Beside the region's main piece, others count from this share of its area on, and only when the
# larger part of them lies in the box.
SMALLEST_PIECE = 0.05
INSIDE_BOX = 0.5
FINEST_SIDE = 640  # pieces of larger slices are told apart on every n-th pixel


def clean_mask(mask: np.ndarray, request: SliceRequest) -> np.ndarray:
    """The pieces of a mask (bool, H x W) that belong to the prompt.

    The main piece holds the first inner point, or is the one with most pixels in the box; with a
    box, further pieces stay when they are not specks and lie mostly in the box. Pieces under any
    inner point stay.
    """
    step = -(-max(mask.shape) // FINEST_SIDE)
    if step == 1:
        return _kept(mask, request, 1)
    coarse = mask[step // 2 :: step, step // 2 :: step]
    dropped = coarse & ~_kept(coarse, request, step)
    if not dropped.any():
        return mask
    # what was dropped reaches up to one coarse pixel further than its samples
    padded = np.pad(dropped, 1)
    wide = np.logical_or.reduce([np.roll(padded, d, a) for a in (0, 1) for d in (-1, 0, 1)])
    wide = wide[1:-1, 1:-1] & ~(coarse & ~dropped)
    rows = np.minimum(np.arange(mask.shape[0]) // step, wide.shape[0] - 1)
    columns = np.minimum(np.arange(mask.shape[1]) // step, wide.shape[1] - 1)
    return mask & ~wide[np.ix_(rows, columns)]


def _kept(mask: np.ndarray, request: SliceRequest, step: int) -> np.ndarray:
    """`clean_mask` on a mask that holds every `step`-th pixel of the request's slice."""
    if not mask.any():
        return mask
    labelled = sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), True)
    pieces = sitk.GetArrayFromImage(labelled).astype(np.intp)
    area = np.bincount(pieces.ravel())
    area[0] = 0
    if len(area) == 2:
        return mask

    def on_mask(value: float) -> float:
        return (value - step // 2) / step

    inner = [(on_mask(x), on_mask(y)) for x, y, label in request.points if label == 1]
    held = {_piece_at(pieces, *inner[0])} if inner else set()
    held |= {piece for piece in (_piece_under(pieces, *point) for point in inner) if piece}
    if request.box is None:
        return np.isin(pieces, list(held))
    x0, y0, x1, y1 = (on_mask(value) for value in request.box)
    rows, columns = np.arange(mask.shape[0]), np.arange(mask.shape[1])
    in_box = np.zeros(mask.shape, dtype=bool)
    in_box[np.ix_((rows >= y0) & (rows <= y1), (columns >= x0) & (columns <= x1))] = True
    inside = np.bincount(pieces[in_box], minlength=len(area))
    inside[0] = 0
    main = _piece_at(pieces, *inner[0]) if inner else int(np.argmax(inside))
    if area[main] == 0:
        main = int(np.argmax(area))
    kept = (area >= SMALLEST_PIECE * area[main]) & (inside >= INSIDE_BOX * area) & (area > 0)
    kept[[main, *held]] = True
    return kept[pieces]


def _piece_under(pieces: np.ndarray, x: float, y: float) -> int:
    """Number of the piece under a point, 0 for none."""
    row, column = int(np.rint(y)), int(np.rint(x))
    if not (0 <= row < pieces.shape[0] and 0 <= column < pieces.shape[1]):
        return 0
    return int(pieces[row, column])


def _piece_at(pieces: np.ndarray, x: float, y: float) -> int:
    """Number of the piece under a point, or of the one nearest to it."""
    row = int(np.clip(np.rint(y), 0, pieces.shape[0] - 1))
    column = int(np.clip(np.rint(x), 0, pieces.shape[1] - 1))
    if pieces[row, column]:
        return int(pieces[row, column])
    rows, columns = np.nonzero(pieces)
    nearest = int(np.argmin((rows - y) ** 2 + (columns - x) ** 2))
    return int(pieces[rows[nearest], columns[nearest]])
