"""What was found for a phrase, drawn over the slice views: outlined regions and the heat map.

Both are nodes of their own that are not saved with the scene: a segmentation with one segment a
region, and a one-layer volume that lies in the foreground of the views while it is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import slicer

from ..scene.mask_voxels import maskToVoxels
from ..scene.named_segment import writeMask
from ..scene.roi_geometry import matrixToVtk
from ..scene.segmentation_result import OUTLINE_PIXELS
from ..scene.slice_grid import SliceGrid
from ..scene.slice_request import PlacedRequest
from ..scene.slice_views import compositeNodeOf, viewsShowing
from ..scene.volume_geometry import volumeGeometry
from .regions import FoundRegions

COLOURS = ((0.25, 0.85, 1.0), (1.0, 0.55, 0.2), (0.55, 0.9, 0.35), (0.95, 0.45, 0.85))
FILL, FILL_CHOSEN = 0.12, 0.45
HEAT_OPACITY = 0.5
HEAT_COLOURS = "vtkMRMLColorTableNodeWarm1"
# The colours end at the warmest place, but not below this: a cold slice must not look hot.
LEAST_RANGE = 0.25
TRANSPARENT_BELOW = 0.15  # of the range
SEGMENT = "VelcroLinkFound{}"


class FoundOverlay:
    """The nodes for one answer at a time. Every method is safe when the user has deleted them."""

    def __init__(self) -> None:
        self._segmentation: Any = None
        self._heat: Any = None
        self._before: list[tuple[Any, str | None, float]] = []  # composite node, foreground

    def show(
        self, volumeNode: Any, placed: PlacedRequest, found: FoundRegions, titles: Sequence[str]
    ) -> None:
        """Outline the regions (titles: one name for each). Raises InputError when that fails."""
        self.clear()
        if not found.regions:
            return
        node = _temporaryNode("vtkMRMLSegmentationNode", f"{found.phrase} (found)")
        self._segmentation = slicer.mrmlScene.AddNode(node)
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetSaveWithScene(False)
        node.GetDisplayNode().SetSliceIntersectionThickness(OUTLINE_PIXELS)
        node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
        node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
        geometry = volumeGeometry(volumeNode)
        wasModifying = node.StartModify()
        try:
            for number, (region, title) in enumerate(zip(found.regions, titles, strict=True)):
                segmentId = SEGMENT.format(number)
                colour = COLOURS[number % len(COLOURS)]
                node.GetSegmentation().AddEmptySegment(segmentId, title, colour)
                voxels = maskToVoxels(region.mask, placed.grid, geometry)
                if not voxels.isEmpty:
                    writeMask(node, segmentId, voxels, volumeNode)
        finally:
            node.EndModify(wasModifying)
        self.choose(0)

    def choose(self, number: int) -> None:
        """Fill this region more than the others."""
        if not _isPresent(self._segmentation):
            return
        display = self._segmentation.GetDisplayNode()
        segmentation = self._segmentation.GetSegmentation()
        for n in range(segmentation.GetNumberOfSegments()):
            fill = FILL_CHOSEN if n == number else FILL
            display.SetSegmentOpacity2DFill(segmentation.GetNthSegmentID(n), fill)

    def showHeat(self, volumeNode: Any, grid: SliceGrid, heat: np.ndarray) -> None:
        """Lay the heat map (uint8 H x W, 255 = certain) over the views that show the volume."""
        self.hideHeat()
        values = heat.astype(np.float32) / 255
        node = _temporaryNode("vtkMRMLScalarVolumeNode", "Heat map")
        node.SetHideFromEditors(True)  # nobody wants to link in it
        self._heat = slicer.mrmlScene.AddNode(node)
        slicer.util.updateVolumeFromArray(node, values[None])
        node.SetIJKToRASMatrix(matrixToVtk(_layerMatrix(grid)))
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetSaveWithScene(False)
        if slicer.mrmlScene.GetNodeByID(HEAT_COLOURS) is not None:
            display.SetAndObserveColorNodeID(HEAT_COLOURS)
        top = max(float(values.max()), LEAST_RANGE)
        display.AutoWindowLevelOff()
        display.SetWindowLevel(top, top / 2)
        display.SetThreshold(TRANSPARENT_BELOW * top, 1.0)
        display.ApplyThresholdOn()
        for sliceNode in viewsShowing(volumeNode):
            composite: Any = compositeNodeOf(sliceNode)  # there is one: it shows the volume
            before = composite.GetForegroundVolumeID()
            self._before.append((composite, before, composite.GetForegroundOpacity()))
            composite.SetForegroundVolumeID(node.GetID())
            composite.SetForegroundOpacity(HEAT_OPACITY)

    def hideHeat(self) -> None:
        """Take the heat map away; what lay in the foreground before comes back."""
        heat, self._heat = self._heat, None
        before, self._before = self._before, []
        if heat is None or slicer.mrmlScene.IsClosing():
            return
        for composite, volumeId, opacity in before:
            if _isPresent(composite) and composite.GetForegroundVolumeID() in (heat.GetID(), None):
                there = volumeId and slicer.mrmlScene.GetNodeByID(volumeId) is not None
                composite.SetForegroundVolumeID(volumeId if there else None)
                composite.SetForegroundOpacity(opacity)
        _remove(heat)

    def clear(self) -> None:
        """Take everything away."""
        self.hideHeat()
        segmentation, self._segmentation = self._segmentation, None
        if not slicer.mrmlScene.IsClosing():
            _remove(segmentation)


def _temporaryNode(className: str, name: str) -> Any:
    """A node that is in no scene yet and will not be saved."""
    node = slicer.mrmlScene.CreateNodeByClass(className)
    node.UnRegister(None)
    node.SetName(slicer.mrmlScene.GenerateUniqueName(name))
    node.SetSaveWithScene(False)
    return node


def _layerMatrix(grid: SliceGrid) -> np.ndarray:
    """IJK -> RAS of a volume of one layer as thick as the slice."""
    matrix = grid.pixelToRas.copy()
    matrix[:3, 2] *= max(grid.thickness, 1e-3)
    return matrix


def _isPresent(node: Any) -> bool:
    return node is not None and bool(slicer.mrmlScene.IsNodePresent(node))


def _remove(node: Any) -> None:
    if not _isPresent(node):
        return
    display = node.GetDisplayNode()
    slicer.mrmlScene.RemoveNode(node)
    if _isPresent(display):
        slicer.mrmlScene.RemoveNode(display)
