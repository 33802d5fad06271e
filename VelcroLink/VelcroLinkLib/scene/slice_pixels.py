"""The values of a volume node on a grid of pixels, fast enough for the main thread.

Voxel layers are numpy views; oblique planes go through vtkImageReslice (threads, no copy of the
volume), for a volume under a non-linear transform with a coarse grid of voxel indices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import vtk

from velcro_engine.messages.request import IntensityWindow

from .roi_geometry import matrixToVtk
from .slice_grid import SliceGrid, VoxelLayer
from .volume_geometry import VolumeGeometry, greyValues, shownComponent, volumeArray

# Non-linear positions are computed at every n-th pixel and interpolated between: smooth transforms
# change little over a few pixels, and inverting one for 260,000 pixels takes seconds.
BENT_STEP = 4


def sliceValues(
    volumeNode: Any, geometry: VolumeGeometry, grid: SliceGrid, window: IntensityWindow
) -> np.ndarray:
    """float32 H x W values (luminance of colour). Outside the volume: the window's low end; NaN
    and infinities count as the ends of the window, as in the engine."""
    array, component = volumeArray(volumeNode), shownComponent(volumeNode)
    if grid.layer is not None:
        return _layerValues(array, component, grid.layer, window)
    values = greyValues(_resliced(volumeNode, geometry, grid, window), component)
    if np.isfinite(values).all():
        return values
    # A NaN voxel has spoilt all pixels around it; interpolate again over cleaned neighbours.
    return _interpolate(array, component, pixelIndices(geometry, grid), window)


def _finite(values: np.ndarray, window: IntensityWindow) -> np.ndarray:
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return values
    return np.nan_to_num(values, nan=window.low, posinf=window.high, neginf=window.low)


def _layerValues(
    array: np.ndarray, component: int | None, layer: VoxelLayer, window: IntensityWindow
) -> np.ndarray:
    axes = (2 - layer.normalAxis, 2 - layer.yAxis, 2 - layer.xAxis)
    shown = np.moveaxis(array, axes, (0, 1, 2))
    shown = shown[layer.index, :: layer.yStep, :: layer.xStep]
    values = _finite(greyValues(shown, component), window)
    values = _resample(_resample(values, layer.rows, 0), layer.columns, 1)
    return np.ascontiguousarray(values, dtype=np.float32)


def _resample(values: np.ndarray, positions: np.ndarray, axis: int) -> np.ndarray:
    """Linear interpolation along one axis at voxel positions, float32; the edge is held."""
    count = values.shape[axis]
    if len(positions) == count and positions[0] == 0 and positions[-1] == count - 1:
        return values.astype(np.float32)
    clamped = np.clip(positions, 0, count - 1)
    low = np.minimum(clamped.astype(int), max(count - 2, 0))
    high = np.minimum(low + 1, count - 1)
    weight = (clamped - low).astype(np.float32)
    weight = weight[:, None] if axis == 0 else weight[None, :]
    values = values.astype(np.float32)
    return np.take(values, low, axis) * (1 - weight) + np.take(values, high, axis) * weight


def _resliced(
    volumeNode: Any, geometry: VolumeGeometry, grid: SliceGrid, window: IntensityWindow
) -> np.ndarray:
    """H x W x C float32."""
    from vtk.util.numpy_support import vtk_to_numpy

    # MRML keeps the image itself in voxel units (spacing 1, origin 0), so the reslice axes map
    # pixels straight to voxel indices.
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(volumeNode.GetImageData())
    reslice.SetResliceTransform(_pixelToIndexTransform(geometry, grid))
    reslice.SetOutputDimensionality(2)
    reslice.SetOutputSpacing(1.0, 1.0, 1.0)
    reslice.SetOutputOrigin(0.0, 0.0, 0.0)
    reslice.SetOutputExtent(0, grid.width - 1, 0, grid.height - 1, 0, 0)
    reslice.SetInterpolationModeToLinear()
    reslice.BorderOn()
    reslice.SetOutputScalarType(vtk.VTK_FLOAT)
    low = float(window.low)
    reslice.SetBackgroundColor(low, low, low, low)
    reslice.Update()
    output = reslice.GetOutput()
    values = vtk_to_numpy(output.GetPointData().GetScalars())
    return values.reshape((grid.height, grid.width, -1))


def _pixelToIndexTransform(geometry: VolumeGeometry, grid: SliceGrid) -> vtk.vtkAbstractTransform:
    if geometry.isLinear:
        linear = vtk.vtkMatrixToLinearTransform()
        linear.SetInput(matrixToVtk(np.linalg.inv(geometry.ijkToWorld) @ grid.pixelToRas))
        return linear
    from vtk.util.numpy_support import numpy_to_vtk

    index, xs, ys = _coarseIndices(geometry, grid)
    x, y = np.meshgrid(xs, ys)
    displacement = index - np.stack([x, y, np.zeros_like(x)], axis=-1)
    image = vtk.vtkImageData()
    image.SetDimensions(len(xs), len(ys), 1)
    image.SetSpacing(BENT_STEP, BENT_STEP, 1.0)
    image.GetPointData().SetScalars(numpy_to_vtk(displacement.reshape(-1, 3), deep=True))
    bent = vtk.vtkGridTransform()
    bent.SetDisplacementGridData(image)
    bent.SetInterpolationModeToLinear()
    return bent


def _coarseIndices(
    geometry: VolumeGeometry, grid: SliceGrid
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(Ny x Nx x 3 continuous voxel indices at every BENT_STEP-th pixel, xs, ys); the knots reach
    to the last pixel or just beyond."""
    xs, ys = (
        np.arange(0.0, max(count - 1, 1) + BENT_STEP, BENT_STEP)
        for count in (grid.width, grid.height)
    )
    x, y = np.meshgrid(xs, ys)
    pixels = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1)
    ras = pixels @ grid.pixelToRas[:3, :3].T + grid.pixelToRas[:3, 3]
    return geometry.toIjk(ras).reshape(len(ys), len(xs), 3), xs, ys


def pixelIndices(geometry: VolumeGeometry, grid: SliceGrid) -> np.ndarray:
    """3 x H x W continuous voxel index (i, j, k) of every pixel."""
    if geometry.isLinear:
        matrix = np.linalg.inv(geometry.ijkToWorld) @ grid.pixelToRas
        x = np.arange(grid.width)[None, None, :]
        y = np.arange(grid.height)[None, :, None]
        columns = matrix[:3, :, None, None]
        return columns[:, 0] * x + columns[:, 1] * y + columns[:, 3]
    index, xs, ys = _coarseIndices(geometry, grid)
    index = _spread(_spread(index, len(ys), grid.height, 0), len(xs), grid.width, 1)
    return np.moveaxis(index, -1, 0)


def _spread(coarse: np.ndarray, knots: int, count: int, axis: int) -> np.ndarray:
    """Values at every BENT_STEP-th position -> at 0 .. count - 1, linear in between."""
    positions = np.arange(count) / BENT_STEP
    left = np.minimum(positions.astype(int), knots - 2)
    weight = (positions - left).reshape([-1 if a == axis else 1 for a in range(coarse.ndim)])
    return np.take(coarse, left, axis) * (1 - weight) + np.take(coarse, left + 1, axis) * weight


def _interpolate(
    array: np.ndarray, component: int | None, index: np.ndarray, window: IntensityWindow
) -> np.ndarray:
    """Trilinear values (float32, H x W) at voxel indices 3 x H x W."""
    shape = np.array(array.shape[2::-1])[:, None, None]
    inside = ((index >= -0.5 - 1e-6) & (index <= shape - 0.5 + 1e-6)).all(axis=0)
    index = np.clip(index, 0, shape - 1)
    low = np.minimum(index.astype(np.int32), np.maximum(shape - 2, 0))
    part = (index - low).astype(np.float32)
    high = np.minimum(low + 1, shape - 1)
    result = np.zeros(inside.shape, dtype=np.float32)
    for corner in range(8):
        chosen = [bool(corner >> a & 1) for a in range(3)]
        i, j, k = ((high if chosen[a] else low)[a] for a in range(3))
        weight = np.ones(inside.shape, dtype=np.float32)
        for a in range(3):
            weight *= part[a] if chosen[a] else 1 - part[a]
        result += weight * _finite(greyValues(array[k, j, i], component), window)
    return np.where(inside, result, np.float32(window.low))
