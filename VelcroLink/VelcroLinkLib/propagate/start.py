"""What a propagated segment was made from: the region, its place, and the corrections in it.

Kept in a tag of the segment, so that it goes where the segment goes: it is saved with the scene, and
deleting the segment deletes it. Positions are world RAS in mm.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import vtk

from ..scene.slice_request import PlacedRequest
from ..scene.volume_geometry import volumeGeometry

TAG = "VelcroLink.propagation"
SAME_PLACE_MM = 1e-3
Mark = tuple[float, float, float, int]  # R, A, S and 1 for inside, 0 for outside


@dataclass(frozen=True)
class PropagationStart:
    """fields: plane, at_ras and region as `review_handlers.propagate` reads them. entryId, name,
    side: the entry that the segment was named after. volume: the volume's name in the segment's row
    of the results table. ijkToRas: 4 x 4, of the volume, to world. corrections: the marks that the
    segment's voxels were made with."""

    fields: dict[str, Any]
    entryId: str
    name: str
    side: str | None
    volume: str
    ijkToRas: list[list[float]]
    corrections: tuple[Mark, ...] = ()

    @classmethod
    def of(
        cls, volumeNode: Any, placed: PlacedRequest, entry: dict[str, Any], side: str | None
    ) -> PropagationStart:
        matrix = volumeGeometry(volumeNode).ijkToWorld.tolist()
        named = (str(entry["id"]), str(entry["name"]), side, volumeNode.GetName() or "")
        return cls(promptFields(placed), *named, matrix)

    @property
    def plane(self) -> str:
        return str(self.fields["plane"])

    def withCorrections(self, marks: tuple[Mark, ...]) -> PropagationStart:
        return replace(self, corrections=marks)

    def isAt(self, ijkToRas: np.ndarray) -> bool:
        """Whether the volume lies where it lay: otherwise the region is somewhere else in it."""
        return bool(np.abs(np.array(self.ijkToRas) - ijkToRas).max() < SAME_PLACE_MM)


def promptFields(placed: PlacedRequest) -> dict[str, Any]:
    """plane, at_ras and the region in RAS mm, as `review_handlers.propagate` reads them."""
    request, toRas = placed.request, placed.grid.pixelToRas
    if request.box is not None:
        x0, y0, x1, y1 = request.box
        pixels = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    else:
        pixels = [(x, y) for x, y, _label in request.points]
    ras = np.array([[x, y, 0.0] for x, y in pixels]) @ toRas[:3, :3].T + toRas[:3, 3]
    fields: dict[str, Any] = {"plane": placed.grid.plane, "at_ras": ras.mean(axis=0).tolist()}
    if request.box is not None:
        fields["corners_ras"] = ras.tolist()
    else:
        labels = [label for _x, _y, label in request.points]
        fields["points_ras"] = [
            [*place, label] for place, label in zip(ras.tolist(), labels, strict=True)
        ]
    return fields


def saveStart(segment: Any, start: PropagationStart) -> None:
    """Keep it with a vtkSegment."""
    segment.SetTag(TAG, json.dumps(asdict(start), separators=(",", ":")))


def savedStart(segment: Any) -> PropagationStart | None:
    """What was kept with a vtkSegment; None for one that was not propagated, or when it is
    damaged."""
    text = _tag(segment)
    if not text:
        return None
    try:
        start = PropagationStart(**json.loads(text))
        marks = tuple((float(r), float(a), float(s), int(k)) for r, a, s, k in start.corrections)
        if np.shape(start.ijkToRas) != (4, 4) or not {"plane", "at_ras"} <= set(start.fields):
            raise ValueError("fields are missing")
        return start.withCorrections(marks)
    except (TypeError, ValueError) as error:
        logging.warning("VelcroLink: the start of a propagation cannot be read: %r", error)
        return None


def propagatedSegments(segmentationNode: Any | None) -> dict[str, str]:
    """{segment id: name} of the segments that can be corrected, in their order."""
    if segmentationNode is None:
        return {}
    segmentation = segmentationNode.GetSegmentation()
    ids = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
    segments = {identifier: segmentation.GetSegment(identifier) for identifier in ids}
    return {
        identifier: segment.GetName() for identifier, segment in segments.items() if _tag(segment)
    }


def isPropagated(segmentationNode: Any | None, segmentId: str) -> bool:
    """Whether such a segment is in the scene, with the volume it was propagated in."""
    if segmentationNode is None or segmentationNode.GetScene() is None:
        return False
    role = segmentationNode.GetReferenceImageGeometryReferenceRole()
    return segmentationNode.GetNodeReference(role) is not None and segmentId in propagatedSegments(
        segmentationNode
    )


def _tag(segment: Any | None) -> str:
    text = vtk.reference("")
    return str(text) if segment is not None and segment.GetTag(TAG, text) else ""
