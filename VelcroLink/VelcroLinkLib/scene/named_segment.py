"""Segments as VelcroLink makes them: voxels written, named and coloured after a knowledge-base entry.

Several segments may share one labelmap in Slicer; a raw write would erase the neighbours. All
writing goes through SetBinaryLabelmapToSegment, which moves a segment into its own layer as soon as
it overlaps another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import slicer
import vtk

from velcro_engine.errors import InputError

from .mask_voxels import VoxelMask
from .own_terminology import registerOwnType
from .roi_geometry import matrixToVtk
from .terminology import entryColour, segmentName, terminologyTag
from .volume_geometry import volumeGeometry

FILL_OPACITY = 0.3


def addNamedSegment(
    node: Any,
    volumeNode: Any,
    entry: Mapping[str, Any],
    side: str | None,
    voxels: VoxelMask,
    terminologiesLogic: Any | None = None,
    status: int | None = None,
) -> str:
    """A new segment of these voxels with the entry's name, colour, terminology and tag. Returns its
    id.

    entry: the whole knowledge-base entry. terminologiesLogic: Slicer's own unless given. status: a
    vtkSlicerSegmentationsModuleLogic.SegmentStatus, InProgress unless given (one slice of a
    structure is rarely all of it)."""
    segmentation = node.GetSegmentation()
    terminologiesLogic = terminologiesLogic or slicersTerminologies()
    registerOwnType(entry, terminologiesLogic)
    name = uniqueName(segmentation, segmentName(entry, side))
    segmentId = segmentation.GenerateUniqueSegmentID(f"{entry['id']}_{side or 'x'}")
    addSegment(node, segmentId, name, entryColour(entry, side, terminologiesLogic))
    writeMask(node, segmentId, voxels, volumeNode)
    segment = segmentation.GetSegment(segmentId)
    segment.SetTerminology(terminologyTag(entry, side, terminologiesLogic))
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    logic.SetSegmentStatus(segment, logic.InProgress if status is None else status)
    segment.SetTag("VelcroLink.entry", str(entry["id"]))
    return segmentId


def slicersTerminologies() -> Any | None:
    """The logic that holds Slicer's loaded terminology lists; None outside the application."""
    module = getattr(getattr(slicer, "modules", None), "terminologies", None)
    return module.logic() if module is not None else None


def addSegment(node: Any, segmentId: str, name: str, colour: tuple[float, float, float]) -> None:
    segmentation = node.GetSegmentation()
    segmentation.AddEmptySegment(segmentId, name, colour)
    display = node.GetDisplayNode()
    if display is not None:
        display.SetSegmentOpacity2DFill(segmentId, FILL_OPACITY)
        display.SetSegmentVisibility2DFill(segmentId, True)
        display.SetSegmentVisibility2DOutline(segmentId, True)


def writeMask(node: Any, segmentId: str, voxels: VoxelMask, volumeNode: Any) -> None:
    """Put voxels of the volume into a segment in place of what it held; other segments keep theirs.

    Raises InputError when Slicer refuses."""
    labelmap = _labelmap(voxels, volumeNode)
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    if not logic.SetBinaryLabelmapToSegment(labelmap, node, segmentId, logic.MODE_REPLACE):
        raise InputError(
            "The mask could not be written into the segmentation; show its binary labelmap first.",
            f"segment {segmentId} of {node.GetID()}",
        )


def _labelmap(voxels: VoxelMask, volumeNode: Any) -> Any:
    from vtk.util.numpy_support import numpy_to_vtk

    image = slicer.vtkOrientedImageData()
    image.SetExtent(*voxels.extent)
    scalars = numpy_to_vtk(
        np.ascontiguousarray(voxels.array, dtype=np.uint8).ravel(),
        deep=True,
        array_type=vtk.VTK_UNSIGNED_CHAR,
    )
    image.GetPointData().SetScalars(scalars)
    # The segmentation node is under the volume's parent transform, so the volume's own matrix.
    image.SetImageToWorldMatrix(matrixToVtk(volumeGeometry(volumeNode).ijkToLocal))
    return image


def uniqueName(segmentation: Any, name: str) -> str:
    names = {
        segmentation.GetNthSegment(n).GetName() for n in range(segmentation.GetNumberOfSegments())
    }
    number, unique = 1, name
    while unique in names:
        number += 1
        unique = f"{name} ({number})"
    return unique


@contextmanager
def oneChange(node: Any):
    """One Modified event for several changes, also when one of them fails."""
    wasModifying = node.StartModify()
    try:
        yield
    finally:
        node.EndModify(wasModifying)
