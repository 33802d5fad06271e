"""Stripped brains of the benchmark shown with a skull, as whole-head images are in the clinic.

The skull is drawn once for a case, in three dimensions, by the rules that training draws it with
(`appearance.draw_skull`), so all its slices show the same head.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from ...imaging.volume import Volume, make_volume
from .appearance import draw_skull

REACH_MM = 46.0  # how far the head may reach beyond the brain
STRIPPED_SHARE = 0.3  # of voxels that are exactly black
BRAIN_MM = (60.0, 230.0)  # a brain's extent along every axis, children's included
GRID_MM = 2.0
STEP_MM = 4.0  # between the benchmark's slices

Pad = list[tuple[int, int]]


def looks_stripped(volume: Volume) -> bool:
    """Whether this is a brain whose head was cut away: no CT, much of it black, a brain's size."""
    if volume.is_picture or not volume.has_position or volume.modality == "CT":
        return False
    inside = volume.window.apply(volume.array) > 0
    if (~inside).mean() < STRIPPED_SHARE:
        return False
    for axis, mm in zip((2, 1, 0), volume.spacing, strict=True):
        others = tuple(a for a in range(3) if a != axis)
        filled = np.flatnonzero(inside.any(others))
        extent = (filled[-1] - filled[0] + 1) * mm if len(filled) else 0.0
        if not BRAIN_MM[0] <= extent <= BRAIN_MM[1]:
            return False
    return True


def with_skull(volume: Volume, seed: int) -> tuple[Volume, Pad]:
    """The volume in grey levels 0..255 with an artificial head around the brain.

    Returns it with the voxels that were added before and after each axis (K, J, I), so that label
    maps can follow: `np.pad(labels, pad)`.
    """
    rng = np.random.default_rng(seed)
    grey = volume.window.apply(volume.array)
    filled = [np.flatnonzero((grey > 0).any(tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    spacing = volume.spacing[::-1]
    # whole steps of the benchmark, so that the same layers are measured with a skull and without
    step = np.maximum(1, np.rint(STEP_MM / spacing)).astype(int)
    reach = np.ceil(REACH_MM / spacing).astype(int)
    pad = [
        (_whole(int(r - f[0]), int(k)), _whole(int(f[-1] + r + 1 - n), int(k)))
        for f, r, n, k in zip(filled, reach, grey.shape, step, strict=True)
    ]
    grey = np.pad(grey, pad)
    distance = _distance(grey > 0, spacing)

    def field(cells: int) -> np.ndarray:
        knots = rng.standard_normal((1, 1, cells, cells, cells)).astype(np.float32)
        size = tuple(int(n) for n in grey.shape)
        smooth = F.interpolate(torch.from_numpy(knots), size, mode="trilinear", align_corners=True)
        return smooth[0, 0].numpy()

    head = draw_skull(rng, grey.astype(np.float32) / 255.0, distance, field)
    matrix = volume.ijk_to_ras.copy()
    first = np.array([pad[2][0], pad[1][0], pad[0][0]], dtype=float)
    matrix[:3, 3] = matrix[:3, 3] - matrix[:3, :3] @ first
    shown = np.clip(np.rint(head * 255.0), 0, 255).astype(np.uint8)
    return make_volume(shown, matrix, volume.modality, name=volume.name), pad


def _whole(count: int, step: int) -> int:
    """`count` rounded up to whole steps, 0 when negative."""
    return max(0, -(-count // step) * step)


def _distance(brain: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """mm from every voxel to the brain (0 inside), through a 2 mm grid."""
    step = np.maximum(1, np.rint(GRID_MM / spacing)).astype(int)
    coarse = ndimage.binary_closing(brain[:: step[0], :: step[1], :: step[2]], iterations=3)
    grid = spacing * step
    distance = ndimage.distance_transform_edt(~coarse, sampling=grid).astype(np.float32)
    size = tuple(int(n) for n in brain.shape)
    fine = torch.from_numpy(distance)[None, None]
    # sample k of the coarse grid is voxel k * step, so the grid spans the first to the last of them
    axes = [
        torch.arange(n) * (2.0 / max(1, (c - 1) * int(s))) - 1.0
        for n, c, s in zip(size, distance.shape, step, strict=True)
    ]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    points = torch.stack([x, y, z], -1)[None].float()
    return F.grid_sample(fine, points, padding_mode="border", align_corners=True)[0, 0].numpy()
