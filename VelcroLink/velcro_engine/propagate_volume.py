"""From the slices' masks to the volume: voxels, the majority of three directions, measures."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from .mask_pieces import clean_mask
from .propagate_evidence import box_of, grown
from .propagate_result import Propagation, Step
from .propagate_walk import WORLD, Walk, layer_of_axis
from .ranking import side_of
from .slices import anatomical_axes, mask_to_voxels


def voxels_of(work: Walk, steps: Mapping[int, Step]) -> np.ndarray:
    out = np.zeros(work.volume.array.shape, dtype=bool)
    for index, step in steps.items():
        where = layer_of_axis(work.axis, index)
        out[where] = mask_to_voxels(step.mask, work.cut(work.plane, index), work.volume)[where]
    return out


def consensus(work: Walk, voxels: np.ndarray) -> np.ndarray:
    """Majority of the three directions, the other two prompted by cross-sections of the first."""
    votes = voxels.astype(np.uint8)
    axes = anatomical_axes(work.volume)
    others = [plane for plane in WORLD if plane != work.plane]
    for number, plane in enumerate(others):
        for done, index, own in work.layers(plane, voxels):
            work.progress(0.9 + 0.1 * (number + done) / len(others), f"{plane} slice {index + 1}")
            cut = work.cut(plane, index)
            request = cut.request(box=box_of(own))
            logits = work.decode(request)[0]
            found = clean_mask((logits > 0) & grown(own, 2), request)
            where = layer_of_axis(axes[WORLD[plane]][0], index)
            votes[where] += mask_to_voxels(found, cut, work.volume)[where]
    return votes >= 2


def finished(work: Walk, steps, start, voxels, stopped, given, started) -> Propagation:
    from .review.shapes import Shape, measure_shape

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
