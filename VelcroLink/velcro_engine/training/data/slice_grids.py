"""Reading volumes at the points of a sampling grid, and bending the grid."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from .appearance import Generator, smooth_field


def interpolate(volume: torch.Tensor, ijk: np.ndarray) -> np.ndarray:
    """Linear, zero outside. volume: 1 x 1 x K x J x I; ijk: H x W x 3 voxels."""
    shape = np.asarray(volume.shape[:1:-1], dtype=np.float64)
    scale = np.where(shape > 1, 2.0 / np.maximum(shape - 1, 1), 0.0)
    unit = ijk * scale - np.where(shape > 1, 1.0, 0.0)
    if (shape == 1).any():  # one slice: only the in-plane position counts
        unit = np.where(shape == 1, 0.0, unit)
    grid = torch.from_numpy(unit.astype(np.float32))[None, None]
    return F.grid_sample(volume, grid, align_corners=True)[0, 0, 0].numpy()


def nearest(array: np.ndarray, ijk: np.ndarray) -> np.ndarray:
    """The nearest voxel's value, 0 outside. array: K x J x I; ijk: H x W x 3 voxels."""
    index = np.rint(ijk).astype(np.int64)
    shape = np.asarray(array.shape[::-1])
    if (shape == 1).any():
        index = np.where(shape == 1, 0, index)
    inside = ((index >= 0) & (index < shape)).all(-1)
    index = np.clip(index, 0, shape - 1)
    return np.where(inside, array[index[..., 2], index[..., 1], index[..., 0]], 0)


def warp(rng: Generator, size: int, amplitude: float, in_plane: bool) -> np.ndarray:
    """Smooth random shifts (size x size x 3, mm) of at most about `amplitude`."""
    strength = amplitude * rng.uniform(0, 1)
    field = [smooth_field(rng, size, 6) * strength for _ in range(3)]
    if in_plane:
        field[2] = np.zeros_like(field[2])
    return np.stack(field, -1)
