"""LinkResult -> segments: one segmentation node for each volume, preview and accepted segments."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import slicer
import vtk

from velcro_engine.errors import GeometryError, InputError
from velcro_engine.messages.result import LinkResult

from .mask_voxels import VoxelMask, maskToVoxels
from .named_segment import addNamedSegment, addSegment, oneChange, writeMask
from .results_table import addResult, resultsTable
from .slice_request import PlacedRequest
from .volume_geometry import volumeFingerprint, volumeGeometry

PREVIEW_SEGMENT_ID = "VelcroLinkPreview"
PREVIEW_COLOUR = (1.0, 0.6, 0.0)
OUTLINE_PIXELS = 2  # one pixel is lost on a bright structure
ATTRIBUTE = "VelcroLink.segmentation"


def segmentationForVolume(volumeNode: Any, create: bool = True) -> Any:
    """The segmentation node VelcroLink keeps for this volume (found by reference, made on demand;
    None when there is none and create is False).

    It has the volume's reference geometry and parent transform and lies in its study.
    """
    scene = volumeNode.GetScene()
    node = findSegmentation(scene, volumeNode)
    if node is None and not create:
        return None
    if node is None:
        name = scene.GenerateUniqueName(f"{volumeNode.GetName()} VelcroLink")
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        node.SetAttribute(ATTRIBUTE, "1")
        node.CreateDefaultDisplayNodes()
        node.SetUndoEnabled(True)
        display = node.GetDisplayNode()
        display.SetVisibility2DFill(True)
        display.SetVisibility2DOutline(True)
        display.SetSliceIntersectionThickness(OUTLINE_PIXELS)
        _putIntoStudy(node, volumeNode)
        node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    elif _referenceGeometry(node) != _geometryText(volumeNode):
        node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    if node.GetSegmentation().GetSourceRepresentationName() != _labelmapName():
        node.CreateBinaryLabelmapRepresentation()  # the user had worked on surfaces
        node.SetSourceRepresentationToBinaryLabelmap()
    if node.GetTransformNodeID() != volumeNode.GetTransformNodeID():
        node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    return node


def findSegmentation(scene: Any, volumeNode: Any) -> Any | None:
    """Like `segmentationForVolume`, for a look: nothing is made and nothing is changed."""
    for n in range(scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")):
        node = scene.GetNthNodeByClass(n, "vtkMRMLSegmentationNode")
        role = node.GetReferenceImageGeometryReferenceRole()
        if node.GetAttribute(ATTRIBUTE) and node.GetNodeReference(role) is volumeNode:
            return node
    return None


def _labelmapName() -> str:
    return slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()


def _referenceGeometry(node: Any) -> str:
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    return node.GetSegmentation().GetConversionParameter(name)


def _geometryText(volumeNode: Any) -> str:
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    return slicer.vtkSegmentationConverter.SerializeImageGeometry(matrix, volumeNode.GetImageData())


def _putIntoStudy(node: Any, volumeNode: Any) -> None:
    """Same parent as the volume in the subject hierarchy (its study when it came from DICOM)."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(volumeNode.GetScene())
    volumeItem = hierarchy.GetItemByDataNode(volumeNode) if hierarchy is not None else 0
    if not volumeItem:
        return
    parent = hierarchy.GetItemParent(volumeItem)
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.SetItemParent(item, parent)
    else:
        hierarchy.CreateItem(parent, node)


def showPreview(volumeNode: Any, placed: PlacedRequest, result: LinkResult) -> str:
    """Write the mask into the preview segment (replaced, not added to) and show it with outline
    and fill. Returns the segment id, "" when the mask covers no voxel. Other segments are not
    touched."""
    voxels = _voxels(volumeNode, placed, result)
    if voxels.isEmpty:
        clearPreview(volumeNode)
        return ""
    node = segmentationForVolume(volumeNode)
    segmentation = node.GetSegmentation()
    with oneChange(node):
        if segmentation.GetSegment(PREVIEW_SEGMENT_ID) is None:
            addSegment(node, PREVIEW_SEGMENT_ID, "VelcroLink preview", PREVIEW_COLOUR)
        writeMask(node, PREVIEW_SEGMENT_ID, voxels, volumeNode)
    return PREVIEW_SEGMENT_ID


def clearPreview(volumeNode: Any) -> None:
    """Remove the preview segment, if there is one."""
    node = None
    if volumeNode is not None and volumeNode.GetScene() is not None:
        node = segmentationForVolume(volumeNode, create=False)
    if node is not None and node.GetSegmentation().GetSegment(PREVIEW_SEGMENT_ID) is not None:
        node.GetSegmentation().RemoveSegment(PREVIEW_SEGMENT_ID)


def acceptPreview(
    volumeNode: Any,
    entry: Mapping[str, Any],
    side: str | None,
    placed: PlacedRequest,
    result: LinkResult,
    terminologiesLogic: Any | None = None,
    status: int | None = None,
) -> str:
    """Turn the mask into a named segment with terminology, colour and status, add a row to the
    results table and remove the preview, as one undo step. Returns the new segment's id.

    entry: the whole knowledge-base entry. It need not be the best one: an entry the user chose
    instead is noted as "corrected". terminologiesLogic, status: as `addNamedSegment` takes them.

    Raises InputError when the volume has changed since the link, GeometryError for an empty mask.
    """
    if volumeFingerprint(volumeNode) != placed.fingerprint:
        raise InputError("The volume has changed since it was linked; link the region again.")
    voxels = _voxels(volumeNode, placed, result)
    if voxels.isEmpty:
        raise GeometryError("The mask covers no voxel of the volume; enlarge the region.")
    node = segmentationForVolume(volumeNode)
    saveForUndo(volumeNode.GetScene(), node)
    with oneChange(node):
        clearPreview(volumeNode)
        segmentId = addNamedSegment(
            node, volumeNode, entry, side, voxels, terminologiesLogic, status
        )
        segment = node.GetSegmentation().GetSegment(segmentId)
        segment.SetTag("VelcroLink.model", result.model)
        segment.SetTag("VelcroLink.knowledgeBase", result.knowledge_base)
    row = _row(volumeNode, segmentId, segment.GetName(), entry, side, placed, result)
    addResult(volumeNode.GetScene(), row)
    return segmentId


def undoAccept(scene: Any) -> bool:
    """Take the last accept back; False when there is nothing to undo."""
    if scene.GetNumberOfUndoLevels() == 0:
        return False
    with _undoOn(scene):
        scene.Undo()
    return True


def saveForUndo(scene: Any, node: Any) -> None:
    """Segmentation and table as one undo step."""
    nodes = vtk.vtkCollection()
    for one in (node, resultsTable(scene)):
        one.SetUndoEnabled(True)
        nodes.AddItem(one)
    with _undoOn(scene):
        scene.SaveStateForUndo(nodes)


@contextmanager
def _undoOn(scene: Any):
    """Slicer switches scene undo off by default, and off means that nothing is kept or restored. It
    is on only for as long as needed, so that other modules' undo is as the user has set it."""
    wasOn = scene.GetUndoFlag()
    scene.SetUndoFlag(True)
    try:
        yield
    finally:
        scene.SetUndoFlag(wasOn)


def _voxels(volumeNode: Any, placed: PlacedRequest, result: LinkResult) -> VoxelMask:
    return maskToVoxels(result.mask, placed.grid, volumeGeometry(volumeNode))


def _row(
    volumeNode: Any,
    segmentId: str,
    name: str,
    entry: Mapping[str, Any],
    side: str | None,
    placed: PlacedRequest,
    result: LinkResult,
) -> dict[str, Any]:
    best = result.entries[0] if result.entries else None
    chosen = next((e for e in result.entries if e.id == entry["id"]), None)
    isBest = best is not None and best.id == entry["id"] and best.side == side
    ys, xs = np.nonzero(result.mask)
    pixel = [xs.mean(), ys.mean(), 0.0]
    centre = placed.grid.pixelToRas[:3, :3] @ pixel + placed.grid.pixelToRas[:3, 3]
    return {
        "volume": volumeNode.GetName(),
        "segment": name,
        "segment_id": segmentId,
        "entry_id": entry["id"],
        "name": entry["name"],
        "side": side,
        "confidence": chosen.confidence if chosen is not None else 0.0,
        "plane": placed.grid.plane,
        "centre_r": centre[0],
        "centre_a": centre[1],
        "centre_s": centre[2],
        "attributes": result.attributes,
        "status": "accepted" if isBest else "corrected",
        "linked_as": best.id if best is not None else "",
    }
