"""Slice -> volume: which voxels a slice's pixels show, and label maps on a slice.

The inverse of `slices`, with its conventions.
"""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from .slice_sampling import nearest, voxel_index
from .slices import Slice
from .volume import Volume


def mask_to_voxels(mask: np.ndarray, cut: Slice, volume: Volume) -> np.ndarray:
    """Mask on a slice (bool, H x W) -> the voxels it covers (bool, K x J x I).

    A voxel belongs to it when its centre lies within half a slice thickness of the plane and
    projects into a pixel of the mask. Along the volume axis closest to the normal that is one voxel
    per column, so the layer has neither holes nor double voxels on any oblique plane, and it is
    exactly the drawn-on layer on an anatomical plane. Raises InputError for a mask of another size.
    """
    mask = np.asarray(mask, dtype=bool)
    if mask.shape != cut.pixels.shape:
        raise InputError("The mask and the slice differ in size.")
    voxels = np.zeros(volume.array.shape, dtype=bool)
    where, pixel = voxels_of_slice(cut, volume)
    voxels[where] = mask[pixel]
    return voxels


def voxels_of_slice(
    cut: Slice, volume: Volume
) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """The voxels of a slice's layer, as `mask_to_voxels` chooses them, and the pixel of each:
    indices (k, j, i) into the volume and (y, x) into the slice."""
    normal, origin = cut.pixel_to_ras[:3, 2], cut.pixel_to_ras[:3, 3]
    slopes = normal @ volume.ijk_to_ras[:3, :3]
    axis = int(np.argmax(np.abs(slopes)))
    others = [a for a in range(3) if a != axis]
    counts = volume.shape_ijk
    ijk = np.zeros((3, counts[others[0]], counts[others[1]]))
    ijk[others[0]] = np.arange(counts[others[0]])[:, None]
    ijk[others[1]] = np.arange(counts[others[1]])[None, :]
    level = normal @ (origin - volume.ijk_to_ras[:3, 3])
    depth = (level - slopes[others[0]] * ijk[others[0]] - slopes[others[1]] * ijk[others[1]]) / (
        slopes[axis]
    )
    ijk[axis] = nearest(depth)
    inside = (ijk[axis] >= 0) & (ijk[axis] < counts[axis])
    found = ijk[:, inside].astype(int)
    ras = found.T @ volume.ijk_to_ras[:3, :3].T + volume.ijk_to_ras[:3, 3]
    x, y = nearest(cut.to_pixels(ras).T)
    height, width = cut.pixels.shape
    on_slice = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    i, j, k = found[:, on_slice]
    return (k, j, i), (y[on_slice], x[on_slice])


def labels_to_slice(labels: np.ndarray, cut: Slice, volume: Volume) -> np.ndarray:
    """Label map (K x J x I, on the volume's grid) -> labels on the slice's pixels (H x W).

    Every pixel takes the voxel whose centre is nearest; 0 outside the volume. Raises InputError
    when the label map has another size than the volume.
    """
    if labels.shape != volume.array.shape:
        raise InputError("The label map and the image differ in size.")
    height, width = cut.pixels.shape
    index, inside = voxel_index(volume, cut.pixel_to_ras, height, width)
    i, j, k = nearest(index)
    n = volume.shape_ijk
    i, j, k = np.clip(i, 0, n[0] - 1), np.clip(j, 0, n[1] - 1), np.clip(k, 0, n[2] - 1)
    return np.where(inside, labels[k, j, i], 0).astype(labels.dtype)
