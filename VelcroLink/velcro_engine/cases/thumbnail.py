"""A small picture of a region for the library: a crop around it with its outline, as PNG.

Only the neighbourhood of the region is kept, which leaves out what is written into the margins of
ultrasound and X-ray pictures.
"""

from __future__ import annotations

import numpy as np

from ..imaging.overlay import png_bytes
from ..imaging.slice_sampling import resample

SIZE = 112
MARGIN = 0.6  # of the region's longer side, around it
SMALLEST = 24  # pixels of the slice that are shown at least
OUTLINE = (255, 214, 64)


def thumbnail(pixels: np.ndarray, mask: np.ndarray, size: int = SIZE) -> bytes:
    """PNG, size x size RGB, of a slice (uint8 H x W) around a mask (bool H x W)."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        rows, columns = np.arange(mask.shape[0]), np.arange(mask.shape[1])
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    side = max((1 + 2 * MARGIN) * max(height, width), SMALLEST)
    side = min(side, max(mask.shape))
    y = (rows[0] + rows[-1]) / 2 + ((np.arange(size) + 0.5) / size - 0.5) * side
    x = (columns[0] + columns[-1]) / 2 + ((np.arange(size) + 0.5) / size - 0.5) * side
    grey = _sampled(pixels, y, x)
    inside = _sampled(mask.astype(np.float32), y, x) > 0.5
    picture = np.repeat(grey[..., None], 3, axis=2)
    picture[inside & ~_eroded(inside)] = OUTLINE
    return png_bytes(np.clip(np.rint(picture), 0, 255).astype(np.uint8))


def _sampled(picture: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Bilinear samples, zero outside."""
    height, width = picture.shape
    found = resample(resample(picture, y, 0), x, 1)
    found[(y < -0.5) | (y > height - 0.5)] = 0
    found[:, (x < -0.5) | (x > width - 0.5)] = 0
    return found


def _eroded(mask: np.ndarray) -> np.ndarray:
    inner = np.pad(mask, 1)
    around = [np.roll(inner, shift, axis) for axis in (0, 1) for shift in (-1, 1)]
    return (inner & np.logical_and.reduce(around))[1:-1, 1:-1]
