"""The segment of a propagation: made, corrected, and its row in the results table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from velcro_engine.errors import GeometryError, InputError

from ..scene.mask_voxels import VoxelMask
from ..scene.named_segment import addNamedSegment, oneChange, writeMask
from ..scene.results_table import addResult, updateResult
from ..scene.segmentation_result import saveForUndo, segmentationForVolume
from .start import PropagationStart, saveStart

MEASURED = ("volume_ml", "longest_diameter_mm", "perpendicular_mm")


def addEntrySegment(
    volumeNode: Any,
    entry: Mapping[str, Any],
    side: str | None,
    voxels: VoxelMask,
    terminologiesLogic: Any | None = None,
) -> str:
    """A new segment of these voxels, named and coloured after a knowledge-base entry, as one undo
    step. Returns its id; its status is InProgress. Raises GeometryError for an empty mask."""
    if voxels.isEmpty:
        raise GeometryError("The mask covers no voxel of the volume; enlarge the region.")
    node = segmentationForVolume(volumeNode)
    saveForUndo(volumeNode.GetScene(), node)
    with oneChange(node):
        return addNamedSegment(node, volumeNode, entry, side, voxels, terminologiesLogic)


def replaceVoxels(volumeNode: Any, segmentId: str, voxels: VoxelMask) -> Any:
    """Give a segment other voxels, as one undo step; it keeps its name, colour, terminology, tags.
    Returns the vtkSegment.

    Raises InputError when it is not there any more, GeometryError for an empty mask; the segment is
    then as it was.
    """
    node = segmentationForVolume(volumeNode, create=False)
    segment = node.GetSegmentation().GetSegment(segmentId) if node is not None else None
    if segment is None:
        raise InputError("The segment was removed; propagate again.")
    if voxels.isEmpty:
        raise GeometryError("Nothing would be left of the segment; take a point back.")
    saveForUndo(volumeNode.GetScene(), node)
    with oneChange(node):
        writeMask(node, segmentId, voxels, volumeNode)
    return segment


def recordResult(
    volumeNode: Any, segmentId: str, start: PropagationStart, result: Mapping[str, Any]
) -> str:
    """Keep the start with the segment and write its row of the results table: the one it has, or a
    new one. Returns the segment's name."""
    node = segmentationForVolume(volumeNode)
    segment = node.GetSegmentation().GetSegment(segmentId)
    attributes = {key: result[key] for key in MEASURED if result.get(key) is not None}
    if start.corrections:
        attributes["corrections"] = len(start.corrections)
    volume, scene = volumeNode.GetName() or "", volumeNode.GetScene()
    saveStart(segment, replace(start, volume=volume))
    changes = {
        "volume": volume,
        "segment": segment.GetName(),
        "confidence": result.get("confidence"),
        "attributes": attributes,
        "linked_as": result.get("entry_id"),
    }
    if not updateResult(scene, start.volume, segmentId, changes):
        centre = start.fields["at_ras"]
        row = {
            "segment_id": segmentId,
            "entry_id": start.entryId,
            "name": start.name,
            "side": start.side,
            "plane": start.plane,
            "centre_r": centre[0],
            "centre_a": centre[1],
            "centre_s": centre[2],
            "status": "propagated",
        }
        addResult(scene, row | changes)
    return segment.GetName()


def measuredText(name: str, result: Mapping[str, Any]) -> str:
    """ "Right thalamus, 6.20 ml, 31.0 x 20.1 mm"."""
    parts = [name]
    if result.get("volume_ml") is not None:
        parts.append(f"{result['volume_ml']:.2f} ml")
    longest, across = result.get("longest_diameter_mm"), result.get("perpendicular_mm")
    if longest is not None and across is not None:
        parts.append(f"{longest:.1f} x {across:.1f} mm")
    return ", ".join(parts)
