"""Which square pixels show a plane of a volume: the Slicer side's twin of `velcro_engine.imaging.slices`.

Two kinds of plane, as in the engine: a *layer* is one layer of the volume's own voxels (the view is
parallel to it), taken without any interpolation across layers; any other plane is *oblique* and
interpolated. Pixels are in radiological display whatever the rotation of the view: what is sent
depends on the plane alone, so that turning or zooming the view asks the same question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from velcro_engine.errors import GeometryError
from velcro_engine.messages.request import MAXIMUM_PIXELS, plane_of

from .volume_geometry import VolumeGeometry

# World axis (0 = R, 1 = A, 2 = S) along the normal, the image's x and its upward direction, with the
# sign in which it is shown: Slicer's red, green and yellow views.
DISPLAY = {
    "axial": (2, (0, -1), (1, 1)),
    "coronal": (1, (0, -1), (2, 1)),
    "sagittal": (0, (1, -1), (2, 1)),
}
# A view counts as parallel to a layer when it leaves the layer by less than this part of its
# thickness anywhere in the volume: no voxel would be shown differently.
PARALLEL_TOLERANCE = 0.25


@dataclass(frozen=True, eq=False)
class SliceGrid:
    """Square pixels on a plane. Equal only to itself.

    pixelToRas: 4 x 4, (x, y, 0, 1) -> world RAS in mm; third column the unit normal.
    plane: "axial", "coronal", "sagittal", "oblique", None for a picture without position.
    thickness: mm along the normal that belong to the slice.
    layer: of a voxel layer, what to take from the volume; None on an oblique plane.
    """

    pixelToRas: np.ndarray
    height: int
    width: int
    plane: str | None
    thickness: float
    layer: VoxelLayer | None = None

    @property
    def isPicture(self) -> bool:
        return self.plane is None


@dataclass(frozen=True, eq=False)
class VoxelLayer:
    """One layer of voxels: number `index` along `normalAxis` (0 = I, 1 = J, 2 = K), its rows along
    `yAxis` and columns along `xAxis` in the direction of the steps (+1 or -1). rows, columns:
    positions of the pixels in voxels of the layer as it is shown."""

    normalAxis: int
    index: int
    xAxis: int
    xStep: int
    yAxis: int
    yStep: int
    rows: np.ndarray
    columns: np.ndarray


def gridForView(
    geometry: VolumeGeometry, sliceToRas: np.ndarray, isPicture: bool = False
) -> SliceGrid:
    """The pixels that cover what the plane of a slice view cuts out of a volume.

    sliceToRas: 4 x 4 of the slice node; only its normal and one point of the plane are used.
    Raises GeometryError when the plane misses the volume or the matrix is unusable.
    """
    if isPicture:
        return _pictureGrid(geometry)
    matrix = np.asarray(sliceToRas, dtype=float)
    if not np.isfinite(matrix).all() or np.linalg.norm(matrix[:3, 2]) < 1e-9:
        raise GeometryError("The slice view has no finite orientation; reset the view.")
    across, up = matrix[:3, 0], matrix[:3, 1]
    normal = np.cross(across, up)
    length = np.linalg.norm(normal)
    if length < 1e-9:
        raise GeometryError("The slice view has no orientation; reset the view.")
    normal = normal / length
    if normal @ matrix[:3, 2] < 0:
        normal = -normal
    if geometry.isLinear:
        found = _parallelLayer(geometry, normal, matrix[:3, 3])
        if found is not None:
            return _layerGrid(geometry, *found)
    return _obliqueGrid(geometry, normal, matrix[:3, 3])


def gridThrough(geometry: VolumeGeometry, plane: str, ras: Sequence[float]) -> SliceGrid:
    """The pixels of the layer ("axial", "coronal" or "sagittal") of the volume's own voxels through
    a point in RAS mm; under a non-linear transform, of the anatomical plane through it.

    Raises GeometryError when that misses the volume.
    """
    matrix = np.eye(4)
    if geometry.isLinear:
        directions, _ = _directions(geometry)
        across, up = (a for a in range(3) if a != layerAxis(geometry, plane))
        matrix[:3, 0], matrix[:3, 1] = directions[:, across], directions[:, up]
    else:
        normal = DISPLAY[plane][0]
        matrix[:3, :2] = np.delete(np.eye(3), normal, axis=1)
    matrix[:3, 2] = np.cross(matrix[:3, 0], matrix[:3, 1])
    matrix[:3, 3] = ras
    return gridForView(geometry, matrix)


def _directions(geometry: VolumeGeometry) -> tuple[np.ndarray, np.ndarray]:
    """(unit directions of I, J, K as columns, spacing in mm), world RAS."""
    columns = geometry.ijkToWorld[:3, :3]
    spacing = np.linalg.norm(columns, axis=0)
    return columns / spacing, spacing


def _anatomicalAxes(directions: np.ndarray) -> list[tuple[int, int]]:
    """For R, A, S: (volume axis closest to it, sign); every volume axis is used once."""
    best = max(
        permutations(range(3)), key=lambda p: sum(abs(directions[w, p[w]]) for w in range(3))
    )
    return [(axis, 1 if directions[world, axis] >= 0 else -1) for world, axis in enumerate(best)]


def layerAxis(geometry: VolumeGeometry, plane: str) -> int:
    """The volume's axis (0 = I, 1 = J, 2 = K) across the layers of "axial", "coronal" or
    "sagittal", as the engine numbers them."""
    return _anatomicalAxes(_directions(geometry)[0])[DISPLAY[plane][0]][0]


def _middle(geometry: VolumeGeometry) -> np.ndarray:
    return (np.array(geometry.shapeIjk) - 1) / 2


def _parallelLayer(
    geometry: VolumeGeometry, normal: np.ndarray, origin: np.ndarray
) -> tuple[str, int] | None:
    """(plane name, layer index) when the plane runs along a voxel layer, else None."""
    matrix = geometry.ijkToWorld
    directions, _ = _directions(geometry)
    shape = np.array(geometry.shapeIjk)
    axes = _anatomicalAxes(directions)
    for name, (normalWorld, _, _) in DISPLAY.items():
        axis = axes[normalWorld][0]
        perVoxel = normal @ matrix[:3, :3]
        inPlane = [a for a in range(3) if a != axis]
        thickness = abs(perVoxel[axis])
        # How far the plane drifts from the layer between the middle and the farthest corner.
        drift = sum(abs(perVoxel[a]) * (shape[a] - 1) / 2 for a in inPlane)
        if thickness < 1e-9 or drift > PARALLEL_TOLERANCE * thickness:
            continue
        middle = _middle(geometry)
        centre = matrix[:3, :3] @ middle + matrix[:3, 3]
        where = middle[axis] + normal @ (origin - centre) / perVoxel[axis]
        count = shape[axis]
        if not -0.5 - 1e-6 <= where <= count - 0.5 + 1e-6:
            raise GeometryError("The slice lies outside the volume; scroll back into the image.")
        return name, int(np.clip(np.floor(where + 0.5), 0, count - 1))
    return None


def _layerGrid(geometry: VolumeGeometry, plane: str, index: int) -> SliceGrid:
    normalWorld, (xWorld, xSign), (upWorld, upSign) = DISPLAY[plane]
    matrix = geometry.ijkToWorld
    directions, spacing = _directions(geometry)
    axes = _anatomicalAxes(directions)
    normalAxis, normalSign = axes[normalWorld]
    xAxis, yAxis = axes[xWorld][0], axes[upWorld][0]
    xStep, yStep = axes[xWorld][1] * xSign, -axes[upWorld][1] * upSign
    shape = geometry.shapeIjk
    rows, columns, pitch = _squareGrid(shape[yAxis], shape[xAxis], spacing[yAxis], spacing[xAxis])
    first = np.zeros(3)
    first[normalAxis] = index
    first[xAxis] = columns[0] if xStep > 0 else shape[xAxis] - 1 - columns[0]
    first[yAxis] = rows[0] if yStep > 0 else shape[yAxis] - 1 - rows[0]
    normal = _unit(np.cross(directions[:, xAxis], directions[:, yAxis]))
    if normal @ directions[:, normalAxis] * normalSign < 0:
        normal = -normal
    pixelToRas = np.eye(4)
    pixelToRas[:3, 0] = directions[:, xAxis] * xStep * pitch
    pixelToRas[:3, 1] = directions[:, yAxis] * yStep * pitch
    pixelToRas[:3, 2] = normal
    pixelToRas[:3, 3] = matrix[:3, :3] @ first + matrix[:3, 3]
    layer = VoxelLayer(normalAxis, index, xAxis, xStep, yAxis, yStep, rows, columns)
    thickness = float(abs(normal @ matrix[:3, normalAxis]))
    return SliceGrid(pixelToRas + 0.0, len(rows), len(columns), plane, thickness, layer)


def _pictureGrid(geometry: VolumeGeometry) -> SliceGrid:
    """The one layer of a picture as it is stored, whatever the view."""
    matrix = geometry.ijkToWorld
    directions, spacing = _directions(geometry)
    width, height = geometry.shapeIjk[:2]
    rows, columns, pitch = _squareGrid(height, width, spacing[1], spacing[0])
    pixelToRas = np.eye(4)
    pixelToRas[:3, :2] = directions[:, :2] * pitch
    pixelToRas[:3, 2] = _unit(np.cross(directions[:, 0], directions[:, 1]))
    pixelToRas[:3, 3] = matrix[:3, :3] @ [columns[0], rows[0], 0.0] + matrix[:3, 3]
    layer = VoxelLayer(2, 0, 0, 1, 1, 1, rows, columns)
    return SliceGrid(pixelToRas + 0.0, len(rows), len(columns), None, float(spacing[2]), layer)


def canonicalDirections(normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(to the image's right, up) of radiological display on a plane with this unit normal: the
    display of the nearest anatomical plane, its up direction laid into the plane."""
    preference = np.array([0.0, 1e-9, 2e-9])  # of two equally near planes axial, then coronal
    nearest = int(np.argmax(np.abs(normal) + preference))
    _, (xWorld, xSign), (upWorld, upSign) = next(d for d in DISPLAY.values() if d[0] == nearest)
    up = np.eye(3)[upWorld] * upSign
    up = _unit(up - normal * (normal @ up))
    right = np.cross(up, normal)
    if right[xWorld] * xSign < 0:
        right = -right
    return right, up


def _obliqueGrid(geometry: VolumeGeometry, normal: np.ndarray, origin: np.ndarray) -> SliceGrid:
    right, up = canonicalDirections(normal)
    down = -up
    level = float(normal @ origin)
    outline = _cutOutline(geometry, normal, level)
    if len(outline) < 3:
        raise GeometryError("The slice misses the volume; scroll back into the image.")
    matrix = geometry.ijkToWorld
    inverse = np.linalg.inv(matrix)[:3, :3]
    across, along = outline @ right, outline @ down
    margin = 0.0 if geometry.isLinear else _bend(geometry)
    extent = np.array([np.ptp(across), np.ptp(along)]) + 2 * margin
    pitch = 1.0 / max(float(np.linalg.norm(inverse @ d)) for d in (right, down))
    pitch = max(pitch, float(np.sqrt(extent.prod() / MAXIMUM_PIXELS)) * 1.001)
    width, height = (int(n) for n in np.maximum(np.rint(extent / pitch), 1))
    first = (
        right * (across.min() - margin + (extent[0] - (width - 1) * pitch) / 2)
        + down * (along.min() - margin + (extent[1] - (height - 1) * pitch) / 2)
        + normal * level
    )
    pixelToRas = np.eye(4)
    pixelToRas[:3] = np.stack([right * pitch, down * pitch, normal, first], axis=1)
    thickness = float(np.abs(normal @ matrix[:3, :3]).max())
    return SliceGrid(pixelToRas + 0.0, height, width, plane_of(normal), thickness)


def _bend(geometry: VolumeGeometry) -> float:
    """Greatest distance in mm between the bent volume and its linear stand-in, over its box."""
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 5)] * 3, indexing="ij"), axis=-1)
    ijk = grid.reshape(-1, 3) * np.array(geometry.shapeIjk) - 0.5
    matrix = geometry.ijkToWorld
    straight = ijk @ matrix[:3, :3].T + matrix[:3, 3]
    return float(np.linalg.norm(geometry.toWorld(ijk) - straight, axis=1).max())


def _cutOutline(geometry: VolumeGeometry, normal: np.ndarray, level: float) -> np.ndarray:
    """N x 3 points (RAS) where the plane crosses the edges of the volume's box."""
    matrix = geometry.ijkToWorld
    units = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    ras = (units * np.array(geometry.shapeIjk) - 0.5) @ matrix[:3, :3].T + matrix[:3, 3]
    height = ras @ normal - level
    points: list[np.ndarray] = []
    for a in range(8):
        for b in range(a + 1, 8):
            isEdge = np.count_nonzero(units[a] != units[b]) == 1
            if not isEdge or height[a] * height[b] > 0:
                continue
            if abs(height[a] - height[b]) < 1e-9:
                points += [ras[a], ras[b]]
            else:
                t = height[a] / (height[a] - height[b])
                points.append(ras[a] + t * (ras[b] - ras[a]))
    return np.array(points).reshape(-1, 3)


def _squareGrid(
    height: int, width: int, rowSpacing: float, columnSpacing: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Voxel positions of the rows and columns of square pixels over a layer, and their side in mm:
    the finer of the two spacings, centred, so square voxels are sampled at their centres."""
    pitch = min(rowSpacing, columnSpacing)
    area = height * rowSpacing * width * columnSpacing
    pitch = max(pitch, float(np.sqrt(area / MAXIMUM_PIXELS)) * 1.001)
    return _centred(height, pitch / rowSpacing), _centred(width, pitch / columnSpacing), pitch


def _centred(count: int, step: float) -> np.ndarray:
    if abs(step - 1.0) * count < 0.01:
        return np.arange(count, dtype=np.float64)
    samples = max(1, round(count / step))
    return (np.arange(samples) - (samples - 1) / 2) * step + (count - 1) / 2


def _unit(vector: Sequence[float] | np.ndarray) -> np.ndarray:
    return np.asarray(vector, dtype=float) / np.linalg.norm(vector)
