"""The voxels of each segment and what is measured of them, without any model.

Lengths in mm, volumes in ml, positions RAS in mm. Every mask is kept as its bounding box only, so
that a hundred segments of a large volume stay cheap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import SimpleITK as sitk

from ..imaging.diameters import convex_hull, diameters
from ..imaging.slices import anatomical_axes
from ..imaging.volume import Volume
from .stored import Segmentation

PLANE_OF_WORLD = ("sagittal", "coronal", "axial")
LONGEST_GAP = 3  # layers; a wider hole between two pieces is more likely to be anatomy
GAP_AGREEMENT = 0.55  # share of the smaller side that the two sides of a gap have in common
GAP_CONTACT = 0.35  # the gap's sides are at least this share of the segment's largest layer nearby


@dataclass(frozen=True)
class Piece:
    """A connected component. centre: RAS mm. away_mm: distance of its nearest voxel to the largest
    component's box, 0 when inside it."""

    voxels: int
    centre: np.ndarray
    away_mm: float


@dataclass(frozen=True)
class Gap:
    """Empty layers between filled ones. plane: of the layers; first, last: along the volume's
    axis of that plane; at_mm: RAS coordinate along the normal."""

    plane: str
    first: int
    last: int
    at_mm: float


@dataclass
class Shape:
    """One segment's voxels and measures. mask: bool, the bounding box only; start: index (k, j, i)
    of its first voxel. centre: RAS mm. Empty segments have no mask."""

    mask: np.ndarray
    start: tuple[int, int, int]
    voxels: int = 0
    centre: np.ndarray | None = None
    longest_mm: float | None = None
    perpendicular_mm: float | None = None
    axial_index: int | None = None
    pieces: list[Piece] = field(default_factory=list)
    holes: int = 0
    gaps: list[Gap] = field(default_factory=list)
    overlaps: dict[int, int] = field(default_factory=dict)

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """Where the mask lies in a K x J x I array."""
        k, j, i = (
            slice(first, first + n) for first, n in zip(self.start, self.mask.shape, strict=True)
        )
        return k, j, i

    def positions(self, ijk_to_ras: np.ndarray, most: int = 800) -> np.ndarray:
        """RAS mm of its voxels (N x 3), evenly thinned to at most `most`."""
        kji = np.argwhere(self.mask) + np.array(self.start)
        kji = kji[:: max(1, -(-len(kji) // most))]
        return kji[:, ::-1] @ ijk_to_ras[:3, :3].T + ijk_to_ras[:3, 3]


EMPTY = np.zeros((0, 0, 0), dtype=bool)


def cut_out(segmentation: Segmentation) -> list[Shape]:
    """The voxels of every segment, in their order."""
    boxes = [_boxes(layer) for layer in segmentation.layers]
    shapes = []
    for segment in segmentation.segments:
        box = boxes[segment.layer].get(segment.value)
        if box is None:
            shapes.append(Shape(EMPTY, (0, 0, 0)))
            continue
        mask = segmentation.layers[segment.layer][box] == segment.value
        start = (box[0].start, box[1].start, box[2].start)
        shapes.append(Shape(mask, start, int(np.count_nonzero(mask))))
    return shapes


def _boxes(layer: np.ndarray) -> dict[int, tuple[slice, slice, slice]]:
    labels = layer.astype(np.uint8 if layer.dtype == bool else layer.dtype, copy=False)
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.ComputePerimeterOff()
    statistics.ComputeFeretDiameterOff()
    statistics.ComputeOrientedBoundingBoxOff()
    statistics.Execute(sitk.GetImageFromArray(labels))
    found = {}
    for label in statistics.GetLabels():
        i, j, k, ni, nj, nk = statistics.GetBoundingBox(label)
        found[int(label)] = (slice(k, k + nk), slice(j, j + nj), slice(i, i + ni))
    return found


def measure_shape(shape: Shape, volume: Volume) -> None:
    """Fill in centre, diameters, pieces, holes and gaps."""
    if not shape.voxels:
        return
    kji = np.argwhere(shape.mask)
    centre = (kji.mean(axis=0) + np.array(shape.start))[::-1]
    shape.centre = volume.ijk_to_ras[:3, :3] @ centre + volume.ijk_to_ras[:3, 3]
    axes = anatomical_axes(volume)
    _measure_diameters(shape, volume, axes)
    shape.pieces = _pieces(shape, volume)
    shape.holes = count_holes(shape.mask)
    if not volume.is_picture:
        shape.gaps = list(_gaps(shape, volume, axes))


def _measure_diameters(shape: Shape, volume: Volume, axes) -> None:
    """Longest diameter over the axial layers, and the longest perpendicular to it there."""
    normal = 2 if volume.is_picture else axes[2][0]
    layers = np.moveaxis(shape.mask, 2 - normal, 0)
    # in numpy order the two remaining axes are the higher one, then the lower one
    rows_axis, columns_axis = (a for a in (2, 1, 0) if a != normal)
    pitch = volume.spacing[[rows_axis, columns_axis]]
    filled = np.flatnonzero(layers.any(axis=(1, 2)))
    bounds = []
    for n in filled:
        extent = [np.ptp(np.flatnonzero(layers[n].any(axis=a))) + 1 for a in (1, 0)]
        bounds.append(float(np.linalg.norm(np.array(extent) * pitch)))
    best = (0.0, 0.0)
    for number in np.argsort(bounds)[::-1]:
        if bounds[number] <= best[0]:
            break
        found = layer_diameters(layers[filled[number]], pitch)
        if found[0] > best[0]:
            best = found
            shape.axial_index = int(filled[number]) + shape.start[2 - normal]
    if volume.has_position:
        shape.longest_mm, shape.perpendicular_mm = best


def layer_diameters(mask: np.ndarray, pitch: np.ndarray) -> tuple[float, float]:
    """(longest, perpendicular) in mm of a layer's mask; pitch: mm between its rows and columns."""
    side = float(pitch.min())
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    mask = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    for axis in (0, 1):
        count = mask.shape[axis]
        wanted = max(1, round(count * pitch[axis] / side))
        if wanted != count:
            mask = np.take(mask, (np.arange(wanted) * count) // wanted, axis)
    longest, perpendicular = diameters(mask)
    return longest * side, perpendicular * side


def _pieces(shape: Shape, volume: Volume) -> list[Piece]:
    labelled = sitk.ConnectedComponent(sitk.GetImageFromArray(shape.mask.astype(np.uint8)), True)
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.ComputePerimeterOff()
    statistics.Execute(labelled)
    rows = sorted(statistics.GetLabels(), key=statistics.GetNumberOfPixels, reverse=True)
    first = np.array(statistics.GetBoundingBox(rows[0]))
    low, high = first[:3], first[:3] + first[3:] - 1
    pieces = []
    for label in rows:
        box = np.array(statistics.GetBoundingBox(label))
        apart = np.maximum(0, np.maximum(box[:3] - high, low - (box[:3] + box[3:] - 1)))
        centre = np.array(statistics.GetCentroid(label)) + np.array(shape.start[::-1])
        pieces.append(
            Piece(
                statistics.GetNumberOfPixels(label),
                volume.ijk_to_ras[:3, :3] @ centre + volume.ijk_to_ras[:3, 3],
                float(np.linalg.norm(apart * volume.spacing)),
            )
        )
    return pieces


def count_holes(mask: np.ndarray) -> int:
    """Cavities: background components (face neighbours) that do not reach the outside."""
    padded = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    labelled = sitk.ConnectedComponent(sitk.GetImageFromArray(padded), False)
    statistics = sitk.MinimumMaximumImageFilter()
    statistics.Execute(labelled)
    return int(statistics.GetMaximum()) - 1


def _gaps(shape: Shape, volume: Volume, axes) -> Iterator[Gap]:
    """Empty layers whose two sides fit together, as a slice emptied by mistake leaves them."""
    for world, (axis, _) in enumerate(axes):
        layers = np.moveaxis(shape.mask, 2 - axis, 0)
        area = np.count_nonzero(layers, axis=(1, 2))
        filled = np.flatnonzero(area)
        for before, after in zip(filled[:-1], filled[1:], strict=True):
            if not 2 <= after - before <= LONGEST_GAP + 1:
                continue
            both = np.count_nonzero(layers[before] & layers[after])
            small = min(area[before], area[after])
            near = area[max(0, before - 5) : after + 6].max()
            if both >= GAP_AGREEMENT * small and small >= GAP_CONTACT * near and small >= 4:
                middle = np.zeros(3)
                middle[axis] = (before + after) / 2 + shape.start[2 - axis]
                others = [a for a in range(3) if a != axis]
                for a in others:
                    middle[a] = shape.start[2 - a] + shape.mask.shape[2 - a] / 2
                ras = volume.ijk_to_ras[:3, :3] @ middle + volume.ijk_to_ras[:3, 3]
                first = int(before) + 1 + shape.start[2 - axis]
                last = int(after) - 1 + shape.start[2 - axis]
                yield Gap(PLANE_OF_WORLD[world], first, last, round(float(ras[world]), 2))


def measure_overlaps(segmentation: Segmentation, shapes: list[Shape]) -> None:
    """Fill in `overlaps`: number of another segment -> voxels both have. Segments of one layer
    cannot overlap."""
    number_of = {(s.layer, s.value): n for n, s in enumerate(segmentation.segments)}
    for segment, shape in zip(segmentation.segments, shapes, strict=True):
        for layer, array in enumerate(segmentation.layers):
            if layer == segment.layer or not shape.voxels:
                continue
            values, counts = np.unique(array[shape.box][shape.mask], return_counts=True)
            for value, count in zip(values.tolist(), counts.tolist(), strict=True):
                other = number_of.get((layer, value))
                if value and other is not None:
                    shape.overlaps[other] = shape.overlaps.get(other, 0) + count


__all__ = ["Gap", "Piece", "Shape", "convex_hull", "cut_out", "measure_overlaps", "measure_shape"]
