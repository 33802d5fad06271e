"""Points on a volume's layers: what is kept of them and what is sent."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..scene.mask_voxels import VoxelMask
from ..scene.slice_grid import layerAxis
from ..scene.volume_geometry import VolumeGeometry
from .correction_nodes import Point
from .start import Mark


def isInVolume(ras: Any, geometry: VolumeGeometry) -> bool:
    """Whether a position (world RAS, mm) lies in one of the volume's voxels."""
    ijk = geometry.toIjk(np.array([ras]))[0]
    return bool(((ijk >= -0.5) & (ijk <= np.array(geometry.shapeIjk) - 0.5)).all())


def marksOf(points: list[Point]) -> tuple[Mark, ...]:
    """As they are kept with the segment."""
    return tuple((*point.ras, point.label) for point in points)


def sameMarks(a: tuple[Mark, ...], b: tuple[Mark, ...]) -> bool:
    """Whether they are the same points, to a hundredth of a millimetre, in any order."""
    return sorted(np.round(a, 2).tolist()) == sorted(np.round(b, 2).tolist())


def marksMissed(marks: tuple[Mark, ...], voxels: VoxelMask, geometry: VolumeGeometry) -> int:
    """How many lie on the wrong side of what came out. The engine keeps to every point on the slice
    it was given for; two that contradict each other in one voxel it cannot both keep to."""
    missed = 0
    for *ras, label in marks:
        where = np.floor(geometry.toIjk(np.array([ras]))[0] + 0.5).astype(int)
        i, j, k = np.clip(where, 0, np.array(geometry.shapeIjk) - 1) - voxels.first
        nk, nj, ni = voxels.array.shape
        within = 0 <= i < ni and 0 <= j < nj and 0 <= k < nk
        missed += (within and bool(voxels.array[k, j, i])) != bool(label)
    return missed


def layersOf(
    points: list[Point], geometry: VolumeGeometry | None, plane: str
) -> dict[int, list[Point]]:
    """The points by the voxel layer they lie on: any point in the volume lies on one layer of the
    plane, in whatever view it was clicked."""
    layers: dict[int, list[Point]] = {}
    if points and geometry is not None:
        axis = layerAxis(geometry, plane)
        where = geometry.toIjk(np.array([point.ras for point in points]))[:, axis]
        for point, index in zip(points, np.floor(where + 0.5).astype(int).tolist(), strict=True):
            layers.setdefault(index, []).append(point)
    return layers


def correctionFields(layers: dict[int, list[Point]]) -> list[dict[str, Any]]:
    """The "corrections" that `review_handlers.propagate` reads, one item for each layer."""
    return [
        {
            "at_ras": list(points[0].ras),
            "points_ras": [[*point.ras, point.label] for point in points],
        }
        for _index, points in sorted(layers.items())
    ]
