"""Where the pixels of a slice fall between the voxels: grids, interpolation, cuts. For `slices.py`."""

from __future__ import annotations

import numpy as np

from ..messages.request import MAXIMUM_PIXELS
from .volume import Volume


def nearest(positions: np.ndarray) -> np.ndarray:
    # A position halfway between two goes the same way whatever the last bits of a matrix say.
    return np.floor(positions + 0.5 + 1e-6).astype(int)


def square_grid(
    height: int, width: int, row_spacing: float, column_spacing: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Voxel positions of the rows and columns of square pixels over a layer, and their side in mm.

    The pixel is the finer of the two spacings and the grid is centred, so a layer with square
    voxels is sampled exactly at their centres.
    """
    pitch = min(row_spacing, column_spacing)
    area = height * row_spacing * width * column_spacing
    pitch = max(pitch, float(np.sqrt(area / MAXIMUM_PIXELS)) * 1.001 if area else pitch)
    rows = _centred(height, pitch / row_spacing)
    columns = _centred(width, pitch / column_spacing)
    return rows, columns, pitch


def _centred(count: int, step: float) -> np.ndarray:
    if abs(step - 1.0) * count < 0.01:
        return np.arange(count, dtype=np.float64)
    samples = max(1, round(count / step))
    return (np.arange(samples) - (samples - 1) / 2) * step + (count - 1) / 2


def resample(layer: np.ndarray, positions: np.ndarray, axis: int) -> np.ndarray:
    """Linear interpolation of a 2-D layer along one axis at voxel positions, float32."""
    count = layer.shape[axis]
    if len(positions) == count and positions[0] == 0 and positions[-1] == count - 1:
        return layer.astype(np.float32)
    clamped = np.clip(positions, 0, count - 1)
    low = np.minimum(clamped.astype(int), max(count - 2, 0))
    high = np.minimum(low + 1, count - 1)
    weight = (clamped - low).astype(np.float32)
    weight = weight[:, None] if axis == 0 else weight[None, :]
    layer = layer.astype(np.float32)
    return np.take(layer, low, axis) * (1 - weight) + np.take(layer, high, axis) * weight


def voxel_index(
    volume: Volume, pixel_to_ras: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """(3 x H x W continuous voxel index of every pixel, H x W whether it lies in the volume)."""
    matrix = volume.ras_to_ijk @ pixel_to_ras
    x = np.arange(width)[None, None, :]
    y = np.arange(height)[None, :, None]
    index = matrix[:3, 0, None, None] * x + matrix[:3, 1, None, None] * y
    index = index + matrix[:3, 3, None, None]
    limit = (volume.shape_ijk - 0.5)[:, None, None]
    inside = ((index >= -0.5 - 1e-6) & (index <= limit + 1e-6)).all(axis=0)
    return index, inside


def interpolate(volume: Volume, pixel_to_ras: np.ndarray, height: int, width: int) -> np.ndarray:
    """Trilinear values (float32, H x W); black (air in CT) outside the volume."""
    index, inside = voxel_index(volume, pixel_to_ras, height, width)
    top = (volume.shape_ijk - 1)[:, None, None]
    index = np.clip(index, 0, top)
    low = np.minimum(index.astype(np.int32), np.maximum(top - 1, 0))
    part = (index - low).astype(np.float32)
    high = np.minimum(low + 1, top)
    result = np.zeros((height, width), dtype=np.float32)
    for corner in range(8):
        picked = [(high if corner >> a & 1 else low)[a] for a in range(3)]
        weight = np.ones((height, width), dtype=np.float32)
        for a in range(3):
            weight *= part[a] if corner >> a & 1 else 1 - part[a]
        result += weight * volume.array[picked[2], picked[1], picked[0]]
    return np.where(inside, result, np.float32(volume.window.low))


def cut_outline(volume: Volume, normal: np.ndarray, level: float) -> np.ndarray:
    """N x 3 points (RAS) where the plane normal . p = level crosses the edges of the volume's box."""
    n = volume.shape_ijk
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * n - 0.5
    ras = corners @ volume.ijk_to_ras[:3, :3].T + volume.ijk_to_ras[:3, 3]
    height = ras @ normal - level
    points = []
    for a in range(8):
        for b in range(a + 1, 8):
            if bin(a ^ b).count("1") != 1 or height[a] * height[b] > 0:
                continue
            if abs(height[a] - height[b]) < 1e-9:
                points += [ras[a], ras[b]]
            else:
                t = height[a] / (height[a] - height[b])
                points.append(ras[a] + t * (ras[b] - ras[a]))
    return np.array(points).reshape(-1, 3)
