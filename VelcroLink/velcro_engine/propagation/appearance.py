"""What the start looks like: a discriminant of the encoder's pixel features, learnt on the spot.

The model's own names carry a region through the volume only where it knows them. Its features tell
a kidney from the fat around it all the same: Fisher's linear discriminant (Fisher, "The use of
multiple measurements in taxonomic problems", 1936) between the pixels under the mask of the start
and those around it says of each pixel of the following slices which of the two it is more like.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..model.preprocess import Letterbox, mask_to_slice

AROUND = 0.75  # of the region's longer side, how far the surroundings reach that it is told from
LEAST_AROUND = 6  # grid pixels
SHRINKAGE = 0.1  # of the pooled covariance towards its diagonal's mean
LEAST_PIXELS = 4  # of the grid, in the region and around it
LIMIT = 4.0  # log-odds


class Appearance:
    """Region against surroundings, on the grid of the encoder's finest maps."""

    def __init__(self) -> None:
        self._weights: np.ndarray | None = None
        self._bias = 0.0
        self.usual = 0.0  # mean log-odds under the mask that it was learnt from

    def learn(self, encoded: Any, mask: np.ndarray, window: Letterbox, pixels: np.ndarray) -> None:
        """From the start's slice (uint8 H x W) and the region's mask on it (bool). A model without
        pixel maps, or a region of less than four grid pixels, teaches nothing.

        Later slices do not add to it: a mask that has slipped would teach its own mistake."""
        features = _features(encoded, window, pixels)
        if features is None:
            return
        inside = _on_grid(mask.astype(np.float32), window, features.shape[1:])
        near = _around(inside > 0.5)
        if near is None:
            return
        samples, own = features[:, near].T.astype(np.float64), inside[near].astype(np.float64)
        if min(own.sum(), (1 - own).sum()) < LEAST_PIXELS:
            return
        of_region, of_others = _moments(samples, own), _moments(samples, 1 - own)
        pooled = 0.5 * (of_region[1] + of_others[1])
        spread = np.diag(pooled)
        pooled = (1 - SHRINKAGE) * pooled + np.diag(SHRINKAGE * spread + 1e-6 * spread.sum() + 1e-9)
        weights = np.linalg.solve(pooled, of_region[0] - of_others[0])
        self._weights = weights.astype(np.float32)
        self._bias = float(-0.5 * weights @ (of_region[0] + of_others[0]))
        odds = self.odds(encoded, window, pixels)
        self.usual = 0.0 if odds is None else float(odds[mask].mean())

    @property
    def learnt(self) -> bool:
        """Whether there is anything to compare with."""
        return self._weights is not None

    def odds(self, encoded: Any, window: Letterbox, pixels: np.ndarray) -> np.ndarray | None:
        """H x W log-odds of region against surroundings; None when nothing was learnt."""
        if self._weights is None:
            return None
        features = _features(encoded, window, pixels)
        if features is None:
            return None
        score = np.tensordot(self._weights, features, axes=1) + self._bias
        return np.clip(mask_to_slice(score, window, pixels.shape), -LIMIT, LIMIT)


def _moments(samples: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean F and covariance F x F of samples N x F."""
    weights = weights / weights.sum()
    mean = weights @ samples
    apart = samples - mean
    return mean, (apart * weights[:, None]).T @ apart


def _features(encoded: Any, window: Letterbox, pixels: np.ndarray) -> np.ndarray | None:
    """F x h x w: the encoder's pixel maps, and the grey level on the same grid."""
    maps = getattr(encoded, "maps", {}).get("pixels")
    if maps is None:
        return None
    grey = _on_grid(pixels.astype(np.float32) / 255.0, window, maps.shape[2:])
    own = maps[0] / (np.abs(maps[0]).mean(axis=(1, 2), keepdims=True) + 1e-6)
    return np.concatenate([own, 4 * grey[None]]).astype(np.float32)


def _on_grid(image: np.ndarray, window: Letterbox, grid: tuple[int, int]) -> np.ndarray:
    """H x W of the slice -> its values on a grid over the model's input, 0 outside the slice."""
    height, width = grid
    out = np.zeros(grid, dtype=np.float32)
    step = window.size / height
    axis = [(np.arange(n) + 0.5) * step - 0.5 for n in (width, height)]
    xs = window.to_slice(np.stack([axis[0], np.zeros_like(axis[0])], axis=-1))[:, 0]
    ys = window.to_slice(np.stack([np.zeros_like(axis[1]), axis[1]], axis=-1))[:, 1]
    columns, rows = np.rint(xs).astype(int), np.rint(ys).astype(int)
    right = (columns >= 0) & (columns < image.shape[1])
    down = (rows >= 0) & (rows < image.shape[0])
    out[np.ix_(down, right)] = image[np.ix_(rows[down], columns[right])]
    return out


def _around(inside: np.ndarray) -> np.ndarray | None:
    """The region's box, grown: bool like `inside`. None for an empty region."""
    if not inside.any():
        return None
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    side = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    grow = max(LEAST_AROUND, round(AROUND * side))
    out = np.zeros(inside.shape, dtype=bool)
    out[
        max(0, rows[0] - grow) : rows[-1] + grow + 1,
        max(0, columns[0] - grow) : columns[-1] + grow + 1,
    ] = True
    return out
