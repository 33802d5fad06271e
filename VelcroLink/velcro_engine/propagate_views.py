"""The model's names of pixels, seen in all three directions, decide where a structure ends.

A slice names a pixel by what it shows; the two slices across it show the same place again. Their
mean is right more often than any of them, and it does not drift, since no slice is prompted by its
neighbour. What the walk found says only where to look. Averaging networks over the three anatomical
views is an old habit of segmentation (Prasoon et al., MICCAI 2013).
"""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from .propagate_walk import WORLD, Walk, layer_of_axis
from .slices import voxels_of_slice

REACH_MM = 4.0  # beyond what the walk found
LEAST_SHARE = 0.25  # of the walk's voxels that the names must agree to, or the walk stands


def seen_from_all_sides(work: Walk, voxels: np.ndarray, kept: list[int]) -> np.ndarray:
    """Voxels (bool, K x J x I) near those of the walk that are named like the start.

    kept: layers of the walk's plane that stay as they are: the start and what was corrected."""
    near = _within(voxels, work)
    total = np.zeros(voxels.shape, dtype=np.float32)
    for number, plane in enumerate(WORLD):
        for done, index, own in work.layers(plane, near):
            work.progress(
                work.share + (1 - work.share) * (number + done) / len(WORLD),
                f"{plane} slice {index + 1}",
            )
            cut = work.cut(plane, index)
            # the middle lies in the content, so the window is the same for all structures
            middle = ((own.shape[1] - 1) / 2, (own.shape[0] - 1) / 2, 1)
            encoded, window = work.encode(cut.request(points=[middle]))
            margin = work.margin(encoded, window, own.shape)
            assert margin is not None  # `Walk.by_pixels`
            where, pixel = voxels_of_slice(cut, work.volume)
            total[where] += margin[pixel]
    found = (total > 0) & near
    if np.count_nonzero(found & voxels) < LEAST_SHARE * np.count_nonzero(voxels):
        return voxels
    found = _touching(found, voxels)
    for index in kept:
        layer = layer_of_axis(work.axis, index)
        found[layer] = voxels[layer]
    return found


def _within(voxels: np.ndarray, work: Walk) -> np.ndarray:
    spacing = np.linalg.norm(work.volume.ijk_to_ras[:3, :3], axis=0)
    radius = [max(1, round(REACH_MM / float(s))) for s in spacing]
    image = sitk.GetImageFromArray(voxels.astype(np.uint8))
    return sitk.GetArrayFromImage(sitk.BinaryDilate(image, radius)) > 0


def _touching(found: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """The pieces that hold voxels of the walk."""
    image = sitk.ConnectedComponent(sitk.GetImageFromArray(found.astype(np.uint8)), True)
    pieces = sitk.GetArrayFromImage(image)
    held = np.zeros(int(pieces.max()) + 1, dtype=bool)
    held[np.unique(pieces[voxels])] = True
    held[0] = False
    return held[pieces]
