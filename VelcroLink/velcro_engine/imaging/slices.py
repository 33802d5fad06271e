"""Volume <-> two-dimensional slice: the only place of the engine with image geometry.

A slice is square pixels on a plane, in radiological display: the patient's right at the image's
left, anterior (axial) or superior (coronal, sagittal) up, anterior at the left of a sagittal one.
Pixel (x, y) is (column, row), (0, 0) the centre of the first pixel; world is RAS in mm.

The three anatomical planes follow the volume's own voxel layers: the volume axis closest to the
anatomical axis is the normal, so nothing is interpolated across slices and a mask returns to exactly
the voxels it was drawn on. Any other plane is given by a matrix and interpolated linearly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

from ..errors import GeometryError, InputError
from ..messages.request import MAXIMUM_PIXELS, Foreground, SliceRequest, plane_of
from .slice_sampling import (
    cut_outline,
    interpolate,
    resample,
    square_grid,
)
from .volume import Volume

# The world axis (0 = R, 1 = A, 2 = S) along the normal, the image's x and the image's upward
# direction, with the sign in which it is shown; the same as 3D Slicer's red, green, yellow views.
_DISPLAY = {
    "axial": (2, (0, -1), (1, 1)),
    "coronal": (1, (0, -1), (2, 1)),
    "sagittal": (0, (1, -1), (2, 1)),
}


@dataclass(frozen=True)
class Slice:
    """One slice of a volume.

    pixels: uint8, H x W, as shown. values: float32, H x W, as stored (Hounsfield units in CT).
    pixel_to_ras: 4 x 4, (x, y, 0, 1) -> RAS in mm; its third column is the unit normal.
    plane: "axial", "coronal", "sagittal", "oblique", or None for a picture without position.
    thickness: mm along the normal that belong to this slice: one voxel layer.
    has_position, foreground, modality: of the volume. slice_id: see `SliceRequest`.
    """

    pixels: np.ndarray
    values: np.ndarray
    pixel_to_ras: np.ndarray
    plane: str | None
    thickness: float
    has_position: bool
    foreground: Foreground | None
    modality: str | None
    slice_id: str = ""

    @property
    def spacing(self) -> float:
        """Side of the square pixel in mm (meaningless when `has_position` is False)."""
        return float(np.linalg.norm(self.pixel_to_ras[:3, 0]))

    def to_pixels(self, ras: np.ndarray) -> np.ndarray:
        """N x 3 points, RAS in mm -> N x 2 (x, y), projected onto the plane along its normal."""
        points = np.atleast_2d(np.asarray(ras, dtype=np.float64))
        inverse = np.linalg.inv(self.pixel_to_ras)
        return (points @ inverse[:3, :3].T + inverse[:3, 3])[:, :2]

    def to_ras(self, xy: np.ndarray) -> np.ndarray:
        """N x 2 pixel positions (x, y) -> N x 3 points, RAS in mm."""
        points = np.atleast_2d(np.asarray(xy, dtype=np.float64))
        return points @ self.pixel_to_ras[:3, :2].T + self.pixel_to_ras[:3, 3]

    def box_around(self, ras: np.ndarray) -> tuple[float, float, float, float]:
        """XYXY pixel box around N x 3 points (RAS in mm, e.g. the eight corners of a RoI)."""
        xy = self.to_pixels(ras)
        (x0, y0), (x1, y1) = xy.min(axis=0), xy.max(axis=0)
        return float(x0), float(y0), float(x1), float(y1)

    def request(
        self,
        box: Sequence[float] | None = None,
        points: Sequence[Sequence[float]] = (),
        corners_ras: np.ndarray | None = None,
        points_ras: np.ndarray | None = None,
        top_k: int = 10,
    ) -> SliceRequest:
        """The question about a region of this slice.

        box: XYXY in pixels; points: (x, y, label) in pixels. Or in RAS mm: corners_ras, N x 3, the
        corners of a box; points_ras, N x 3, all inside the structure.
        Raises GeometryError when the region misses the image or is thinner than a pixel.
        """
        if corners_ras is not None:
            box = self.box_around(corners_ras)
        prompts = [(float(x), float(y), int(label)) for x, y, label in points]
        if points_ras is not None:
            prompts += [(float(x), float(y), 1) for x, y in self.to_pixels(points_ras)]
        return SliceRequest(
            pixels=self.pixels,
            pixel_to_ras=self.pixel_to_ras if self.has_position else None,
            foreground=self.foreground if self.has_position else None,
            box=None if box is None else (box[0], box[1], box[2], box[3]),
            points=tuple(prompts),
            plane=self.plane,
            modality=self.modality,
            top_k=top_k,
            slice_id=self.slice_id,
        )


def anatomical_axes(volume: Volume) -> tuple[tuple[int, int], ...]:
    """For R, A, S: (volume axis 0 = I, 1 = J, 2 = K that lies closest to it, sign +1 or -1).

    Every volume axis is used once, also in volumes turned by 45 degrees.
    """
    directions = volume.ijk_to_ras[:3, :3] / volume.spacing
    best = max(
        permutations(range(3)), key=lambda p: sum(abs(directions[w, p[w]]) for w in range(3))
    )
    return tuple((a, 1 if directions[w, a] >= 0 else -1) for w, a in enumerate(best))


def cut_picture(volume: Volume) -> Slice:
    """The one slice of a two-dimensional picture, as it is stored, without position."""
    height, width = volume.array.shape[1:]
    sx, sy = volume.spacing[:2]
    rows, columns, pitch = square_grid(height, width, sy, sx)
    values = resample(resample(volume.array[0], rows, 0), columns, 1)
    matrix = np.eye(4)
    in_plane = volume.ijk_to_ras[:3, :2] / volume.spacing[:2]
    matrix[:3, :2] = in_plane * pitch
    matrix[:3, 2] = np.cross(in_plane[:, 0], in_plane[:, 1])
    first = np.array([columns[0], rows[0], 0.0])
    matrix[:3, 3] = volume.ijk_to_ras[:3, :3] @ first + volume.ijk_to_ras[:3, 3]
    return _slice(volume, values, matrix, None, float(volume.spacing[2]))


def cut_plane(
    volume: Volume,
    plane: str,
    at_mm: float | None = None,
    through_ras: Sequence[float] | None = None,
    index: int | None = None,
) -> Slice:
    """The voxel layer of an anatomical plane ("axial", "coronal", "sagittal").

    through_ras: a point (RAS, mm) in the layer; the volume's middle unless given. at_mm: the
    coordinate along S, A or R that replaces the point's. index: number of the layer along the
    volume's own axis, instead of both.
    Raises GeometryError when the layer lies outside the volume, InputError for another name.
    """
    if plane not in _DISPLAY:
        raise InputError(f"Unknown plane '{plane}'; use axial, coronal or sagittal.")
    normal_world, (x_world, x_sign), (up_world, up_sign) = _DISPLAY[plane]
    axes = anatomical_axes(volume)
    normal_axis, normal_sign = axes[normal_world]
    x_axis, y_axis = axes[x_world][0], axes[up_world][0]
    x_step, y_step = axes[x_world][1] * x_sign, -axes[up_world][1] * up_sign
    if index is None:
        point = volume.centre_ras if through_ras is None else np.array(through_ras, dtype=float)
        if at_mm is not None:
            point = point.copy()
            point[normal_world] = at_mm
        index = _layer_through(volume, plane, normal_axis, point)
    elif not 0 <= index < volume.shape_ijk[normal_axis]:
        raise GeometryError(f"The volume has no {plane} slice number {index}.")
    layer = np.moveaxis(volume.array, (2 - normal_axis, 2 - y_axis, 2 - x_axis), (0, 1, 2))[
        index, ::y_step, ::x_step
    ]

    spacing = volume.spacing
    height, width = layer.shape
    rows, columns, pitch = square_grid(height, width, spacing[y_axis], spacing[x_axis])
    values = resample(resample(layer, rows, 0), columns, 1)
    first = np.zeros(3)
    first[normal_axis] = index
    first[x_axis] = columns[0] if x_step > 0 else width - 1 - columns[0]
    first[y_axis] = rows[0] if y_step > 0 else height - 1 - rows[0]
    directions = volume.ijk_to_ras[:3, :3] / spacing
    matrix = np.eye(4)
    matrix[:3, 0] = directions[:, x_axis] * x_step * pitch
    matrix[:3, 1] = directions[:, y_axis] * y_step * pitch
    matrix[:3, 2] = _normal(directions[:, x_axis], directions[:, y_axis])
    if matrix[:3, 2] @ directions[:, normal_axis] * normal_sign < 0:
        matrix[:3, 2] *= -1
    matrix[:3, 3] = volume.ijk_to_ras[:3, :3] @ first + volume.ijk_to_ras[:3, 3]
    thickness = abs(float(matrix[:3, 2] @ volume.ijk_to_ras[:3, normal_axis]))
    return _slice(volume, values, matrix, plane, thickness)


def _layer_through(volume: Volume, plane: str, axis: int, point: np.ndarray) -> int:
    if point.shape != (3,) or not np.isfinite(point).all():
        raise GeometryError("The slice's position is not a finite point; give R,A,S in mm.")
    where = float((volume.ras_to_ijk[:3, :3] @ point + volume.ras_to_ijk[:3, 3])[axis])
    count = int(volume.shape_ijk[axis])
    if not -0.5 - 1e-6 <= where <= count - 0.5 + 1e-6:
        ends = volume.centre_ras[:, None] + volume.ijk_to_ras[:3, [axis]] * np.array(
            [-(count - 1) / 2, (count - 1) / 2]
        )
        world = _DISPLAY[plane][0]
        low, high = sorted(ends[world])
        reach = f"reaches from {low:.1f} to {high:.1f} mm" if count > 1 else f"lies at {low:.1f} mm"
        raise GeometryError(
            f"The {plane} plane at {_millimetres(point[world])} mm misses the volume, which {reach}; "
            "move the region or give --at."
        )
    return int(np.clip(np.floor(where + 0.5), 0, count - 1))


def _millimetres(value: float) -> str:
    return f"{value:.1f}" if abs(value) < 1e6 else f"{value:.2g}"


def cut_matrix(volume: Volume, slice_to_ras: np.ndarray) -> Slice:
    """The slice on any plane, linearly interpolated.

    slice_to_ras: 4 x 4 as a slice node of 3D Slicer gives it: columns are the direction to the
    right, the direction *up* and the normal (lengths are ignored), and any point of the plane in
    RAS mm. The slice covers what the plane cuts out of the volume; the pixel is the finest step
    between voxels along the two directions.
    Raises GeometryError for a bad matrix or when the plane misses the volume.
    """
    matrix = np.array(slice_to_ras, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise GeometryError("The slice matrix is not a finite 4 x 4 matrix.")
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if not np.isfinite(lengths).all():
        raise GeometryError("The numbers of the slice matrix are too large to be directions.")
    if lengths[:2].min() < 1e-9:
        raise GeometryError("The slice matrix is singular; give two directions of the plane.")
    right, up = matrix[:3, 0] / lengths[0], matrix[:3, 1] / lengths[1]
    if abs(right @ up) > 1e-3:
        raise GeometryError("The slice matrix is sheared; its directions must be perpendicular.")
    up = up - right * (right @ up)
    up /= np.linalg.norm(up)
    normal = np.cross(right, up)
    if normal @ matrix[:3, 2] < 0:
        normal = -normal
    down, inverse = -up, volume.ras_to_ijk
    outline = cut_outline(volume, normal, float(normal @ matrix[:3, 3]))
    if len(outline) < 3:
        raise GeometryError("The plane misses the volume; move it into the image.")
    across, along = outline @ right, outline @ down
    pitch = 1.0 / max(float(np.linalg.norm(inverse[:3, :3] @ d)) for d in (right, down))
    extent = np.array([np.ptp(across), np.ptp(along)])
    pitch = max(pitch, float(np.sqrt(extent.prod() / MAXIMUM_PIXELS)) * 1.001)
    width, height = np.maximum(np.rint(extent / pitch), 1).astype(int)
    first = (
        right * (across.min() + (extent[0] - (width - 1) * pitch) / 2)
        + down * (along.min() + (extent[1] - (height - 1) * pitch) / 2)
        + normal * (normal @ matrix[:3, 3])
    )
    pixel_to_ras = np.eye(4)
    pixel_to_ras[:3] = np.stack([right * pitch, down * pitch, normal, first], axis=1)
    values = interpolate(volume, pixel_to_ras, int(height), int(width))
    thickness = float(np.abs(normal @ volume.ijk_to_ras[:3, :3]).max())
    return _slice(volume, values, pixel_to_ras, plane_of(normal), thickness)


def cut_slice(
    volume: Volume,
    plane: str | np.ndarray | None = None,
    at_mm: float | None = None,
    through_ras: Sequence[float] | None = None,
) -> Slice:
    """A slice by plane name (see `cut_plane`), by 4 x 4 matrix (see `cut_matrix`) or, for a picture,
    the picture itself whatever `plane` says."""
    if volume.is_picture:
        return cut_picture(volume)
    if plane is None:
        raise GeometryError("Say which plane: axial, coronal, sagittal or a slice matrix.")
    if isinstance(plane, str):
        return cut_plane(volume, plane, at_mm, through_ras)
    return cut_matrix(volume, plane)


def anatomical_slices(volume: Volume, step_mm: float = 4.0) -> Iterator[tuple[str | None, Slice]]:
    """(plane, slice) every `step_mm` over the whole volume in all three directions.

    A layer thicker than the step is taken once; a direction in which the volume is only one voxel
    wide in the plane is left out; a picture gives itself with plane None.
    """
    if volume.is_picture:
        yield None, cut_picture(volume)
        return
    axes = anatomical_axes(volume)
    for plane, (normal_world, _, _) in _DISPLAY.items():
        axis = axes[normal_world][0]
        if np.delete(volume.shape_ijk, axis).min() < 2:
            continue
        extent = volume.shape_ijk[axis] * volume.spacing[axis]
        middles = np.arange(step_mm / 2, extent, step_mm) if extent > step_mm else [extent / 2]
        for index in np.unique((np.asarray(middles) / volume.spacing[axis]).astype(int)):
            yield plane, cut_plane(volume, plane, index=int(index))


def _slice(
    volume: Volume, values: np.ndarray, matrix: np.ndarray, plane: str | None, thickness: float
) -> Slice:
    values = np.ascontiguousarray(values, dtype=np.float32)
    pixels = volume.window.apply(values)
    matrix = matrix + 0.0  # no negative zeros, which would change the fingerprint
    cut = Slice(
        pixels,
        values,
        matrix,
        plane,
        thickness,
        volume.has_position,
        volume.foreground,
        volume.modality,
    )
    return replace(cut, slice_id=cut.request(points=[(0, 0, 1)]).slice_id)


def _normal(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    normal = np.cross(x, y)
    return normal / np.linalg.norm(normal)
