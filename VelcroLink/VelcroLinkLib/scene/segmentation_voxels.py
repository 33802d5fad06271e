"""The labels of a segmentation node, read in steps so that Slicer never waits for them.

Segments may share a labelmap, have one each, cover other parts of space, or lie under another
transform than the image. What comes out are as few label layers on one grid as they fit in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import slicer
import vtk

from velcro_engine.errors import GeometryError, InputError
from velcro_engine.messages.request import MAXIMUM_VOXELS

from .roi_geometry import matrixFromVtk, transformToWorld
from .segmentation_result import PREVIEW_SEGMENT_ID

STEP_VOXELS = 1 << 20  # about 10 ms of work
SAME_GRID = 1e-4  # mm, of the matrix elements
LAYERS_TRIED = 8  # layers a labelmap is fitted into before it gets its own


@dataclass(frozen=True)
class SegmentLabel:
    """A segment and where its voxels are: layer index and value; its name and terminology tag."""

    identifier: str
    name: str
    layer: int
    value: int
    terminology: str
    colour: tuple[float, float, float]


@dataclass
class SegmentationVoxels:
    """layers: K x J x I label arrays on one grid. ijkToRas: 4 x 4 to world RAS. notices: one line
    for what had to be changed."""

    layers: list[np.ndarray] = field(default_factory=list)
    ijkToRas: np.ndarray = field(default_factory=lambda: np.eye(4))
    segments: list[SegmentLabel] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


@dataclass
class _Source:
    """One labelmap of the node with the segments in it: (number, label value)."""

    image: Any
    matrix: np.ndarray
    members: list[tuple[int, int]] = field(default_factory=list)

    @property
    def extent(self) -> tuple[int, ...]:
        return tuple(self.image.GetExtent())


def reviewedSegmentIds(segmentationNode: Any) -> list[str]:
    """Ids of the segments that can be reviewed: all but VelcroLink's preview."""
    segmentation = segmentationNode.GetSegmentation()
    ids = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
    return [one for one in ids if one != PREVIEW_SEGMENT_ID]


def segmentationFingerprint(segmentationNode: Any) -> str:
    """Changes when segments are added, removed or painted, or when the node is moved."""
    segmentation = segmentationNode.GetSegmentation()
    parent = segmentationNode.GetParentTransformNode()
    parts = [segmentationNode.GetID(), str(parent.GetTransformToWorldMTime() if parent else 0)]
    for identifier in reviewedSegmentIds(segmentationNode):
        image = _labelmap(segmentation.GetSegment(identifier))
        parts.append(f"{identifier}:{image.GetMTime() if image is not None else 0}")
    return "|".join(parts)


def labelmapMissing(segmentationNode: Any) -> bool:
    """True when the segmentation is kept as surfaces only."""
    return not segmentationNode.GetSegmentation().ContainsRepresentation(_representation())


def readSegmentation(
    segmentationNode: Any, imageIjkToRas: np.ndarray, imageShapeIjk: tuple[int, int, int]
) -> Iterator[SegmentationVoxels | None]:
    """Yields None after every step of about 10 ms, and the voxels at the end.

    Slicer keeps labelmaps cut down to what is painted. Where the labels lie on the image's own
    voxels (4 x 4 to world RAS, number of voxels), the layers get the image's grid.
    Raises InputError without segments or labelmaps, GeometryError under a transform that is not
    linear.
    """
    ids = reviewedSegmentIds(segmentationNode)
    if not ids:
        raise InputError("The segmentation holds no segment; add one or choose another.")
    if labelmapMissing(segmentationNode):
        raise InputError(
            "The segmentation holds surfaces only; make its binary labelmap in the Segmentations "
            "module first."
        )
    toWorld = transformToWorld(segmentationNode)
    if not isinstance(toWorld, np.ndarray):
        raise GeometryError("The segmentation is under a bent transform; harden it first.")
    out = SegmentationVoxels()
    sources = _sources(segmentationNode, ids)
    if sources:
        grid = sources[0].matrix
        for source in sources[1:]:
            if np.abs(source.matrix - grid).max() > SAME_GRID:
                _resample(source, sources[0])
                out.notices = ["Segments on other grids were resampled to that of the first one."]
                yield None
        low, high = _union(sources)
        offset = _offset(toWorld @ grid, imageIjkToRas)
        if offset is not None:
            last = offset + np.array(imageShapeIjk) - 1
            if (low >= offset).all() and (high <= last).all():
                low, high = offset, last
        shift = np.eye(4)
        shift[:3, 3] = low
        out.ijkToRas = toWorld @ grid @ shift
        dtype = np.uint8 if len(ids) < 256 else np.uint16
        shape = tuple(int(n) for n in (high - low + 1)[::-1])
        if float(np.prod(np.array(shape, dtype=float))) > MAXIMUM_VOXELS:
            raise InputError(
                "The segments lie too far apart to be read as one image; export those of this "
                "volume into a segmentation of their own."
            )
        layerOf: dict[int, int] = {}
        for source in sources:
            chosen = 0
            for step in _place(source, low, shape, dtype, out.layers):
                chosen = step
                yield None
            layerOf |= {number: chosen for number, _value in source.members}
    else:
        out.layers, layerOf = [np.zeros((1, 1, 1), np.uint8)], {}
    segmentation = segmentationNode.GetSegmentation()
    for number, identifier in enumerate(ids):
        segment = segmentation.GetSegment(identifier)
        out.segments.append(_described(segment, identifier, layerOf.get(number, 0), number + 1))
    yield out


def _representation() -> str:
    return slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()


def _labelmap(segment: Any) -> Any | None:
    return segment.GetRepresentation(_representation()) if segment is not None else None


def _sources(segmentationNode: Any, ids: list[str]) -> list[_Source]:
    segmentation = segmentationNode.GetSegmentation()
    found: dict[str, _Source] = {}
    for number, identifier in enumerate(ids):
        segment = segmentation.GetSegment(identifier)
        image = _labelmap(segment)
        if image is None or image.GetPointData().GetScalars() is None:
            continue
        extent = image.GetExtent()
        if extent[0] > extent[1] or extent[2] > extent[3] or extent[4] > extent[5]:
            continue
        key = image.GetAddressAsString("")
        if key not in found:
            matrix = vtk.vtkMatrix4x4()
            image.GetImageToWorldMatrix(matrix)
            found[key] = _Source(image, matrixFromVtk(matrix))
        found[key].members.append((number, int(segment.GetLabelValue())))
    return list(found.values())


def _resample(source: _Source, reference: _Source) -> None:
    moved = slicer.vtkOrientedImageData()
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
        source.image, reference.image, moved, False, True
    )
    source.image, source.matrix = moved, reference.matrix


def _union(sources: list[_Source]) -> tuple[np.ndarray, np.ndarray]:
    extents = np.array([source.extent for source in sources])
    return extents[:, 0::2].min(axis=0), extents[:, 1::2].max(axis=0)


def _offset(labelToRas: np.ndarray, imageToRas: np.ndarray) -> np.ndarray | None:
    """Index of the image's first voxel on the labels' grid; None when the voxels do not coincide."""
    step = np.linalg.inv(labelToRas) @ imageToRas
    offset = np.rint(step[:3, 3])
    same = np.abs(step[:3, :3] - np.eye(3)).max() < SAME_GRID
    return offset.astype(int) if same and np.abs(step[:3, 3] - offset).max() < 0.01 else None


def _array(source: _Source) -> np.ndarray:
    from vtk.util.numpy_support import vtk_to_numpy

    i0, i1, j0, j1, k0, k1 = source.extent
    values = vtk_to_numpy(source.image.GetPointData().GetScalars())
    return values.reshape(k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1)


def _place(
    source: _Source,
    low: np.ndarray,
    shape: tuple[int, ...],
    dtype: type,
    layers: list[np.ndarray],
) -> Iterator[int]:
    """Writes the source's segments as number + 1 into the first layer that is free there; yields
    that layer's index (the last one yielded counts), after every step."""
    array = _array(source)
    table = np.zeros(max(value for _n, value in source.members) + 2, dtype=dtype)
    for number, value in source.members:
        table[value] = number + 1
    i0, _i1, j0, _j1, k0, _k1 = source.extent
    start = np.array([k0, j0, i0]) - low[::-1]
    box = tuple(slice(s, s + n) for s, n in zip(start, array.shape, strict=True))
    mapped = np.zeros(array.shape, dtype=dtype)
    for slab in slabs(array.shape):
        if array[slab].any():
            mapped[slab] = table[np.clip(array[slab], 0, len(table) - 1)]
        yield len(layers)
    chosen = len(layers)
    for index in range(len(layers) - 1, max(-1, len(layers) - 1 - LAYERS_TRIED), -1):
        target, free = layers[index][box], True
        for slab in slabs(array.shape):
            free = not (mapped[slab].astype(bool) & target[slab].astype(bool)).any()
            yield index
            if not free:
                break
        if free:
            chosen = index
            break
    if chosen == len(layers):
        layers.append(np.zeros(shape, dtype=dtype))
    target = layers[chosen][box]
    for slab in slabs(array.shape):
        np.maximum(target[slab], mapped[slab], out=target[slab])
        yield chosen


def slabs(shape: tuple[int, ...]) -> list[slice]:
    """Slices along the first axis of about STEP_VOXELS each."""
    thick = max(1, STEP_VOXELS // max(int(np.prod(shape[1:])), 1))
    return [slice(first, first + thick) for first in range(0, shape[0], thick)]


def _described(segment: Any, identifier: str, layer: int, value: int) -> SegmentLabel:
    terminology = segment.GetTerminology() if hasattr(segment, "GetTerminology") else _tag(segment)
    colour = tuple(float(part) for part in segment.GetColor())
    return SegmentLabel(
        identifier, segment.GetName() or "", layer, value, terminology or "", colour
    )


def _tag(segment: Any) -> str:
    """Slicer before 5.10 keeps the terminology as a tag."""
    text = vtk.reference("")
    return str(text) if segment.GetTag(segment.GetTerminologyEntryTagName(), text) else ""
