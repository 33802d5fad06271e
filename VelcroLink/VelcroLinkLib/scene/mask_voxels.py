"""Mask on a slice's pixels -> the voxels of the volume that lie under it, without holes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from velcro_engine.errors import InputError

from .slice_grid import SliceGrid
from .slice_pixels import pixelIndices
from .volume_geometry import VolumeGeometry

# Keeps a plane that runs exactly between two layers, or exactly through one, on one layer although
# its offset went through floating point.
TIE = 1e-6


@dataclass(frozen=True)
class VoxelMask:
    """Voxels in their bounding box: array (bool, K x J x I of the box) and the index (i, j, k) of
    its first voxel. Empty when no voxel is set: array has size 0."""

    array: np.ndarray
    first: tuple[int, int, int]

    @property
    def isEmpty(self) -> bool:
        return self.array.size == 0

    @property
    def extent(self) -> tuple[int, int, int, int, int, int]:
        """VTK extent (i0, i1, j0, j1, k0, k1)."""
        i, j, k = self.first
        nk, nj, ni = self.array.shape
        return i, i + ni - 1, j, j + nj - 1, k, k + nk - 1

    def inVolume(self, shapeIjk: tuple[int, int, int]) -> np.ndarray:
        """bool K x J x I of the whole volume."""
        whole = np.zeros(tuple(reversed(shapeIjk)), dtype=bool)
        i0, i1, j0, j1, k0, k1 = self.extent
        whole[k0 : k1 + 1, j0 : j1 + 1, i0 : i1 + 1] = self.array
        return whole


def maskToVoxels(mask: np.ndarray, grid: SliceGrid, geometry: VolumeGeometry) -> VoxelMask:
    """mask: bool, H x W, on the grid's pixels -> voxels of the volume.

    A voxel belongs to the mask when its centre lies within half a voxel of the plane and projects
    into a pixel of the mask. "Half a voxel" is half of the voxel's extent along the normal, so the
    voxels are those that the plane passes through: seen in the view the mask was drawn in, however
    oblique, there is no hole. On a voxel layer that is exactly this layer.

    Raises InputError when mask and grid differ in size.
    """
    mask = np.asarray(mask, dtype=bool)
    if mask.shape != (grid.height, grid.width):
        raise InputError("The mask and the slice differ in size.")
    ys, xs = np.nonzero(mask)
    if len(xs) == 0:
        return VoxelMask(np.zeros((0, 0, 0), dtype=bool), (0, 0, 0))
    if geometry.isLinear:
        voxels = _voxelsOfPlane(mask, xs, ys, grid, geometry)
    else:
        voxels = _voxelsOfBentPlane(xs, ys, grid, geometry)
    return _boxed(voxels)


def _voxelsOfPlane(
    mask: np.ndarray, xs: np.ndarray, ys: np.ndarray, grid: SliceGrid, geometry: VolumeGeometry
) -> np.ndarray:
    """N x 3 indices. Walks the columns of voxels along the axis closest to the normal: each is met
    by the plane in at most three voxels, so the work grows with the area, not with the volume."""
    ijkToPixel = np.linalg.inv(grid.pixelToRas) @ geometry.ijkToWorld
    slopes = ijkToPixel[2, :3]  # mm along the normal for one step along I, J, K
    half = float(np.abs(slopes).sum()) / 2  # of a voxel's extent along the normal
    axis = int(np.argmax(np.abs(slopes)))
    others = [a for a in range(3) if a != axis]
    low, high = _indexBox(xs, ys, half, np.linalg.inv(ijkToPixel), geometry.shapeIjk)
    if (high < low).any():
        return np.zeros((0, 3), dtype=int)
    columns = np.zeros((*(high - low + 1)[others], 3))
    columns[..., others[0]] = np.arange(low[others[0]], high[others[0]] + 1)[:, None]
    columns[..., others[1]] = np.arange(low[others[1]], high[others[1]] + 1)[None, :]
    columns = columns.reshape(-1, 3)
    depth0 = columns @ slopes + ijkToPixel[2, 3]  # of the column's voxel 0, mm from the plane
    nearest = np.floor(-depth0 / slopes[axis] + 0.5 + TIE)
    found = []
    for step in range(-1, 2) if half > abs(slopes[axis]) / 2 + TIE else (0,):
        ijk = columns.copy()
        ijk[:, axis] = nearest + step
        depth = np.abs(depth0 + slopes[axis] * ijk[:, axis])
        within = (depth <= half - TIE) | (step == 0)  # the column's nearest voxel always belongs
        within &= (ijk[:, axis] >= 0) & (ijk[:, axis] < geometry.shapeIjk[axis])
        found.append(ijk[within])
    ijk = np.concatenate(found)
    pixels = ijk @ ijkToPixel[:2, :3].T + ijkToPixel[:2, 3]
    return ijk[_inMask(mask, pixels)].astype(int)


def _voxelsOfBentPlane(
    xs: np.ndarray, ys: np.ndarray, grid: SliceGrid, geometry: VolumeGeometry
) -> np.ndarray:
    """N x 3 indices under a non-linear transform: the voxels in which the pixels' quarters lie.

    The voxels' axes differ from place to place, so there is no one thickness; but the voxels that
    a plane passes through are those that hold a point of it.
    """
    index = pixelIndices(geometry, grid)
    alongY, alongX = np.gradient(index, axis=(1, 2))
    index, alongX, alongY = (field[:, ys, xs] for field in (index, alongX, alongY))
    points = [index + dx * alongX + dy * alongY for dx in (-0.25, 0.25) for dy in (-0.25, 0.25)]
    ijk = np.floor(np.concatenate(points, axis=1) + 0.5).astype(int)
    shape = np.array(geometry.shapeIjk)[:, None]
    ijk = ijk[:, ((ijk >= 0) & (ijk < shape)).all(axis=0)]
    flat = np.unique(np.ravel_multi_index(tuple(ijk), geometry.shapeIjk))
    return np.stack(np.unravel_index(flat, geometry.shapeIjk), axis=1)


def _indexBox(
    xs: np.ndarray, ys: np.ndarray, half: float, pixelToIjk: np.ndarray, shapeIjk: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """First and last voxel index (3 each) that the mask can reach, inside the volume."""
    x0, x1, y0, y1 = xs.min() - 0.5, xs.max() + 0.5, ys.min() - 0.5, ys.max() + 0.5
    box = np.array([[x, y, z] for x in (x0, x1) for y in (y0, y1) for z in (-half, half)])
    ijk = box @ pixelToIjk[:3, :3].T + pixelToIjk[:3, 3]
    low = np.maximum(np.floor(ijk.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(ijk.max(axis=0)).astype(int), np.array(shapeIjk) - 1)
    return low, high


def _inMask(mask: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """bool N: the pixel (x, y) nearest to each position is inside the picture and set."""
    x, y = np.floor(pixels.T + 0.5 + TIE).astype(int)
    height, width = mask.shape
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    chosen = np.zeros(len(x), dtype=bool)
    chosen[inside] = mask[y[inside], x[inside]]
    return chosen


def _boxed(ijk: np.ndarray) -> VoxelMask:
    if len(ijk) == 0:
        return VoxelMask(np.zeros((0, 0, 0), dtype=bool), (0, 0, 0))
    low, high = ijk.min(axis=0), ijk.max(axis=0)
    box = np.zeros(tuple((high - low + 1)[::-1]), dtype=bool)
    i, j, k = (ijk - low).T
    box[k, j, i] = True
    return VoxelMask(box, (int(low[0]), int(low[1]), int(low[2])))
