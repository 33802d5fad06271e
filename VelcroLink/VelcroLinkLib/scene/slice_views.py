"""Which slice view the user is working in, and which volume it shows. MRML only: works without a
layout manager, and with as many slice views as a layout has."""

from __future__ import annotations

from typing import Any

import slicer

VOLUME_CLASS = "vtkMRMLScalarVolumeNode"


def compositeNodeOf(sliceNode: Any) -> Any | None:
    """The composite node (background, foreground, label) of a slice view, None if there is none."""
    for compositeNode in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        if compositeNode.GetLayoutName() == sliceNode.GetLayoutName():
            return compositeNode
    return None


def volumeShownIn(sliceNode: Any | None) -> Any | None:
    """Background volume of a slice view."""
    compositeNode = compositeNodeOf(sliceNode) if sliceNode else None
    volumeID = compositeNode.GetBackgroundVolumeID() if compositeNode else None
    return slicer.mrmlScene.GetNodeByID(volumeID) if volumeID else None


def viewsShowing(volumeNode: Any) -> list[Any]:
    """Slice nodes of the views that show a volume in their background."""
    return [
        sliceNode
        for sliceNode in slicer.util.getNodesByClass("vtkMRMLSliceNode")
        if volumeShownIn(sliceNode) is volumeNode
    ]


def suggestedVolume(sliceNode: Any | None) -> Any | None:
    """The volume to link in: the one the view shows, else the first of the scene."""
    shown = volumeShownIn(sliceNode)
    if shown is not None and _isImage(shown):
        return shown
    return next((n for n in slicer.util.getNodesByClass(VOLUME_CLASS) if _isImage(n)), None)


def _isImage(node: Any) -> bool:
    return (
        node.IsA(VOLUME_CLASS)
        and not node.IsA("vtkMRMLLabelMapVolumeNode")
        and not node.GetHideFromEditors()
    )


def sliceSpacing(sliceNode: Any) -> float:
    """Distance (mm) between neighbouring slices of a view."""
    return float(sliceNode.GetFieldOfView()[2]) / max(sliceNode.GetDimensions()[2], 1)


def isBeingDragged(markupsNode: Any) -> bool:
    """True while the mouse is on a handle of the markup in some view."""
    displayNode = markupsNode.GetDisplayNode()
    nothing = slicer.vtkMRMLMarkupsDisplayNode.ComponentNone
    return displayNode is not None and displayNode.GetActiveComponentType() != nothing


class ActiveSliceView:
    """Remembers the slice view that the mouse was in last.

    Slicer has no notion of an active slice view; its crosshair node knows the view under the mouse
    but forgets it when the mouse leaves, for instance to press a button of the panel.
    `entered(sliceNode)` is called when the mouse comes into another view.
    """

    def __init__(self, entered: Any = None) -> None:
        self._entered = entered
        self._sliceNodeID = ""
        self._crosshairNode: Any = None
        self._tag = 0

    def start(self) -> None:
        """Follow the mouse in the current scene; again after the scene was closed."""
        crosshairNode = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
        if crosshairNode is self._crosshairNode:
            return
        self.stop()
        self._crosshairNode = crosshairNode
        if crosshairNode is not None:
            event = slicer.vtkMRMLCrosshairNode.CursorPositionModifiedEvent
            self._tag = crosshairNode.AddObserver(event, self._onCursorMoved)

    def stop(self) -> None:
        if self._crosshairNode is not None:
            self._crosshairNode.RemoveObserver(self._tag)
        self._crosshairNode = None

    @property
    def sliceNode(self) -> Any | None:
        """The slice node last entered, else the first one that shows a volume, else the first."""
        node = slicer.mrmlScene.GetNodeByID(self._sliceNodeID) if self._sliceNodeID else None
        if node is not None:
            return node
        sliceNodes = slicer.util.getNodesByClass("vtkMRMLSliceNode")
        return next((n for n in sliceNodes if volumeShownIn(n)), next(iter(sliceNodes), None))

    def _onCursorMoved(self, crosshairNode: Any, _event: Any) -> None:
        sliceNode = crosshairNode.GetCursorPositionXYZ([0.0, 0.0, 0.0])
        if sliceNode is None or sliceNode.GetID() == self._sliceNodeID:
            return
        self._sliceNodeID = sliceNode.GetID()
        if self._entered is not None:
            self._entered(sliceNode)


class PromptView:
    """The slice view in whose plane a RoI or point is linked: the one it was drawn in, or is being
    dragged in; for an existing RoI that was picked, the active one."""

    def __init__(self, entered: Any) -> None:
        self.active = ActiveSliceView(entered=entered)
        self._sliceNodeID = ""

    def start(self) -> None:
        self.active.start()

    def stop(self) -> None:
        self.active.stop()
        self._sliceNodeID = ""

    def takeActive(self) -> Any | None:
        """The active view is the one from now on."""
        sliceNode = self.active.sliceNode
        self._sliceNodeID = sliceNode.GetID() if sliceNode is not None else ""
        return sliceNode

    def bringIntoView(self, roiNode: Any) -> None:
        """Go to the RoI's centre in the active view."""
        sliceNode = self.takeActive()
        if sliceNode is not None:
            centre = [0.0, 0.0, 0.0]
            roiNode.GetCenterWorld(centre)
            sliceNode.JumpSlice(*centre)

    def sliceNode(self, volumeNode: Any, promptNode: Any) -> Any | None:
        """The view to cut the volume in; one that shows the volume, if there is any."""
        kept = slicer.mrmlScene.GetNodeByID(self._sliceNodeID) if self._sliceNodeID else None
        if kept is None or isBeingDragged(promptNode):
            kept = self.takeActive()
        showing = viewsShowing(volumeNode)
        if kept not in showing and showing:
            kept = showing[0]
            self._sliceNodeID = kept.GetID()
        return kept
