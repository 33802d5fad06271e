"""The values of a volume node on a grid of pixels, fast enough for the main thread.

Voxel layers are numpy views; oblique planes go through vtkImageReslice (threads, no copy of the
volume); only a volume under a non-linear transform needs a position for every pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import vtk

from velcro_engine.request import IntensityWindow

from .roi_geometry import matrixToVtk
from .slice_grid import SliceGrid, VoxelLayer
from .volume_geometry import VolumeGeometry, luminance, volumeArray

# Non-linear positions are computed at every n-th pixel and interpolated between: smooth transforms
# change little over a few pixels, and inverting one for 260,000 pixels takes half a second.
BENT_STEP = 8


def sliceValues(
    volumeNode: Any, geometry: VolumeGeometry, grid: SliceGrid, window: IntensityWindow
) -> np.ndarray:
    """float32 H x W values (luminance for colour). Outside the volume: the window's low end; NaN
    and infinities count as the ends of the window, as in the engine."""
    array = volumeArray(volumeNode)
    if grid.layer is not None:
        return _layerValues(array, grid.layer, window)
    if geometry.isLinear:
        values = _reslicedValues(volumeNode, geometry, grid, window, array.ndim == 4)
        if np.isfinite(values).all():
            return values
        # A NaN voxel spoils all pixels around it; interpolate again over cleaned neighbours.
    index = _pixelIndices(geometry, grid)
    return _interpolate(array, index, window)


def _finite(values: np.ndarray, window: IntensityWindow) -> np.ndarray:
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return values
    return np.nan_to_num(values, nan=window.low, posinf=window.high, neginf=window.low)


def _layerValues(array: np.ndarray, layer: VoxelLayer, window: IntensityWindow) -> np.ndarray:
    axes = (2 - layer.normalAxis, 2 - layer.yAxis, 2 - layer.xAxis)
    shown = np.moveaxis(array, axes, (0, 1, 2))
    shown = shown[layer.index, :: layer.yStep, :: layer.xStep]
    values = _finite(luminance(shown, array.ndim == 4), window)
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


def _reslicedValues(
    volumeNode: Any,
    geometry: VolumeGeometry,
    grid: SliceGrid,
    window: IntensityWindow,
    isColour: bool,
) -> np.ndarray:
    from vtk.util.numpy_support import vtk_to_numpy

    # MRML keeps the image itself in voxel units (spacing 1, origin 0), so the reslice axes map
    # pixels straight to voxel indices.
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(volumeNode.GetImageData())
    axes = np.linalg.inv(geometry.ijkToWorld) @ grid.pixelToRas
    reslice.SetResliceTransform(_matrixTransform(axes))
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
    values = values.reshape((grid.height, grid.width, -1))
    values = luminance(values, True) if isColour else values[..., 0]
    return np.ascontiguousarray(values, dtype=np.float32)


def _matrixTransform(matrix: np.ndarray) -> vtk.vtkMatrixToLinearTransform:
    transform = vtk.vtkMatrixToLinearTransform()
    transform.SetInput(matrixToVtk(matrix))
    transform.Update()
    return transform


def _pixelIndices(geometry: VolumeGeometry, grid: SliceGrid) -> np.ndarray:
    """3 x H x W continuous voxel index (i, j, k) of every pixel."""
    step = 1 if geometry.isLinear else BENT_STEP
    xs, ys = _knots(grid.width, step), _knots(grid.height, step)
    x, y = np.meshgrid(xs, ys)
    pixels = np.stack([x.ravel(), y.ravel(), np.zeros(x.size)], axis=1)
    ras = pixels @ grid.pixelToRas[:3, :3].T + grid.pixelToRas[:3, 3]
    coarse = geometry.toIjk(ras).reshape(len(ys), len(xs), 3)
    if step > 1:
        coarse = _spread(_spread(coarse, ys, grid.height, 0), xs, grid.width, 1)
    return np.moveaxis(coarse, -1, 0)


def _knots(count: int, step: int) -> np.ndarray:
    knots = np.arange(0, count, step, dtype=float)
    return knots if knots[-1] == count - 1 else np.append(knots, count - 1)


def _spread(coarse: np.ndarray, knots: np.ndarray, count: int, axis: int) -> np.ndarray:
    """Values at knots -> values at 0 .. count - 1, linear in between, along one axis."""
    if len(knots) == count:
        return coarse
    positions = np.arange(count)
    right = np.clip(np.searchsorted(knots, positions, side="left"), 1, len(knots) - 1)
    weight = (positions - knots[right - 1]) / (knots[right] - knots[right - 1])
    weight = weight.reshape([-1 if a == axis else 1 for a in range(coarse.ndim)])
    return np.take(coarse, right - 1, axis) * (1 - weight) + np.take(coarse, right, axis) * weight


def _interpolate(array: np.ndarray, index: np.ndarray, window: IntensityWindow) -> np.ndarray:
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
        result += weight * _finite(luminance(array[k, j, i], array.ndim == 4), window)
    return np.where(inside, result, np.float32(window.low))
