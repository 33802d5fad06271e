"""From the slices' masks to the volume: voxels and measures."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from ..imaging.slice_voxels import mask_to_voxels
from ..linking.ranking import side_of
from ..messages.propagation import Propagation, Step
from .sight import layer_of_axis
from .walk import Walk


def voxels_of(work: Walk, steps: Mapping[int, Step]) -> np.ndarray:
    out = np.zeros(work.volume.array.shape, dtype=bool)
    for index, step in steps.items():
        where = layer_of_axis(work.axis, index)
        out[where] = mask_to_voxels(step.mask, work.cut(work.plane, index), work.volume)[where]
    return out


def areas_of(work: Walk, voxels: np.ndarray) -> dict[int, float]:
    """mm2 of each layer of the walk's plane that holds voxels (bool, K x J x I)."""
    counts = np.count_nonzero(voxels, axis=tuple(a for a in range(3) if a != 2 - work.axis))
    edges = np.delete(work.volume.ijk_to_ras[:3, :3], work.axis, axis=1)
    area = float(np.linalg.norm(np.cross(edges[:, 0], edges[:, 1])))
    return {int(i): float(counts[i]) * area for i in np.flatnonzero(counts)}


def finished(work: Walk, steps, start, voxels, stopped, given, started) -> Propagation:
    from ..segmentations.shapes import Shape, measure_shape

    volume, linker = work.volume, work.linker
    weights = np.array([np.sqrt(s.mask.sum()) for s in steps.values()])
    weights /= weights.sum()
    probabilities = np.einsum("n,nk->k", weights, [s.probabilities for s in steps.values()])
    entry = linker.knowledge_base.entries[int(np.argmax(probabilities))]
    sides = np.array([np.exp(s.side - s.side.max()) for s in steps.values()])
    sides = np.einsum("n,nk->k", weights, sides / sides.sum(axis=1, keepdims=True))
    side = side_of(
        entry.laterality,
        np.log(np.maximum(sides, 1e-9)),
        volume.has_position,
        linker.runtime.calibration.side_margin,
    )
    filled = np.argwhere(voxels)
    low, high = filled.min(axis=0), filled.max(axis=0) + 1
    crop = voxels[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    shape = Shape(crop, (int(low[0]), int(low[1]), int(low[2])), len(filled))
    measure_shape(shape, volume)
    return Propagation(
        work.plane,
        start,
        dict(sorted(steps.items())),
        voxels,
        areas_of(work, voxels),
        stopped,
        entry.id,
        side,
        float(probabilities.max()),
        len(filled) * abs(float(np.linalg.det(volume.ijk_to_ras[:3, :3]))) / 1000,
        shape.longest_mm,
        shape.perpendicular_mm,
        time.perf_counter() - started,
        dict(given),
    )
