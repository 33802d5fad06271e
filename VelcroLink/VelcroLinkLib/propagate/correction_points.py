"""The points of the segment that is being corrected: placing them, taking them back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.util import VTKObservationMixin

from ..scene.placement import enterPlaceMode, leavePlaceMode
from .correction_nodes import Point, corrects, labelOf, newNode, ownNodes, pointsIn

EVENTS = (
    slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent,
    slicer.vtkMRMLMarkupsNode.PointRemovedEvent,
    slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent,
)


class CorrectionPoints(VTKObservationMixin):
    """The points of one segment at a time, and placing them.

    changed(): there is something new to show. refused(): a point was clicked outside the volume
    and taken away again. isInVolume(ras): whether a position can be a point.
    """

    def __init__(
        self,
        changed: Callable[[], None],
        refused: Callable[[], None],
        isInVolume: Callable[[tuple[float, float, float]], bool],
    ) -> None:
        VTKObservationMixin.__init__(self)
        self._changed = changed
        self._refused = refused
        self._isInVolume = isInVolume
        self._segmentationNode: Any = None
        self._segmentId = ""
        self._nodes: dict[int, Any] = {}
        self._placing: int | None = None
        # A point may not be taken away while the view is still busy with placing it.
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._settle)

    def close(self) -> None:
        """Let go of the scene; the points stay in it."""
        self.stopPlacing()
        self._timer.stop()
        self.removeObservers()
        self._nodes.clear()
        self._segmentationNode, self._segmentId = None, ""

    @property
    def placing(self) -> int | None:
        """INSIDE or OUTSIDE while the user places such points, else None."""
        return self._placing

    # --- which segment ----------------------------------------------------------------------------
    def follow(self, segmentationNode: Any | None, segmentId: str) -> None:
        """Show the points of this segment, and those of no other."""
        if segmentationNode is self._segmentationNode and segmentId == self._segmentId:
            return
        self.close()
        self._segmentationNode, self._segmentId = segmentationNode, segmentId
        for node in ownNodes():
            isOurs = segmentationNode is not None and corrects(node, segmentationNode, segmentId)
            node.SetDisplayVisibility(isOurs)
            if isOurs:
                self._adopt(node)
        self._timer.start()

    def forgetRemoved(self) -> None:
        """A node was removed from the scene: it is no longer ours."""
        for label, node in tuple(self._nodes.items()):
            if slicer.mrmlScene.IsNodePresent(node):
                continue
            if self._placing == label:
                self.stopPlacing()
            for event in EVENTS:
                self.removeObserver(node, event, self._onPointsChanged)
            del self._nodes[label]
            self._changed()

    def points(self) -> list[Point]:
        """All of this segment, in the order they were clicked."""
        found = [point for node in self._nodes.values() for point in pointsIn(node)]
        return sorted(found, key=lambda point: (point.number, point.label, point.index))

    def takeBack(self) -> None:
        """Remove the point that was clicked last."""
        points = self.points()
        if points:
            points[-1].node.RemoveNthControlPoint(points[-1].index)

    def clear(self) -> None:
        """Remove all points of this segment."""
        for node in self._nodes.values():
            node.RemoveAllControlPoints()

    # --- placing ----------------------------------------------------------------------------------
    def place(self, label: int) -> None:
        """Every click in a slice view is a point now, until Esc or `stopPlacing`."""
        if self._segmentationNode is None:
            return
        self.stopPlacing()
        if label not in self._nodes:
            self._adopt(newNode(self._segmentationNode, self._segmentId, label))
        node = self._nodes[label]
        node.SetDisplayVisibility(True)
        interactionNode = enterPlaceMode(node, keep=True)
        selectionNode = slicer.app.applicationLogic().GetSelectionNode()
        self._placing = label
        self.addObserver(
            interactionNode,
            slicer.vtkMRMLInteractionNode.InteractionModeChangedEvent,
            self._onPlacingChanged,
        )
        self.addObserver(
            selectionNode,
            slicer.vtkMRMLSelectionNode.ActivePlaceNodeIDChangedEvent,
            self._onPlacingChanged,
        )
        self._changed()

    def stopPlacing(self) -> None:
        """Leave the place mode, if it is ours. The points placed so far stay."""
        if self._placing is None:
            return
        stillOurs = self._isPlacing()
        self._forgetPlacing()
        if stillOurs:
            leavePlaceMode()

    def _isPlacing(self) -> bool:
        node = self._nodes.get(self._placing) if self._placing is not None else None
        applicationLogic = slicer.app.applicationLogic()
        mode = applicationLogic.GetInteractionNode().GetCurrentInteractionMode()
        return (
            node is not None
            and mode == slicer.vtkMRMLInteractionNode.Place
            and applicationLogic.GetSelectionNode().GetActivePlaceNodeID() == node.GetID()
        )

    def _forgetPlacing(self) -> None:
        self._placing = None
        applicationLogic = slicer.app.applicationLogic()
        for node, event in (
            (
                applicationLogic.GetInteractionNode(),
                slicer.vtkMRMLInteractionNode.InteractionModeChangedEvent,
            ),
            (
                applicationLogic.GetSelectionNode(),
                slicer.vtkMRMLSelectionNode.ActivePlaceNodeIDChangedEvent,
            ),
        ):
            if self.hasObserver(node, event, self._onPlacingChanged):
                self.removeObserver(node, event, self._onPlacingChanged)

    def _onPlacingChanged(self, _caller: Any, _event: Any) -> None:
        """Esc, another tool, something else is being placed, or the list was deleted."""
        if self._placing is None or self._isPlacing():
            return
        wasRemoved = not slicer.mrmlScene.IsNodePresent(self._nodes[self._placing])
        self._forgetPlacing()
        interactionNode = slicer.app.applicationLogic().GetInteractionNode()
        left = interactionNode.GetCurrentInteractionMode() != interactionNode.Place
        if wasRemoved or left:  # with the list gone, a click would make one that nobody wants
            leavePlaceMode()
        self._changed()

    # --- nodes ------------------------------------------------------------------------------------
    def _adopt(self, node: Any) -> None:
        label = labelOf(node)
        if label in self._nodes:
            return  # a scene was loaded into this one twice; the first list counts
        self._nodes[label] = node
        for event in EVENTS:
            self.addObserver(node, event, self._onPointsChanged)

    def _onPointsChanged(self, _caller: Any, _event: Any) -> None:
        self._timer.start()

    def _settle(self) -> None:
        """Number the new points; take away those that lie outside the volume."""
        refused = False
        last = max((point.number for point in self.points()), default=0)
        for point in reversed(self.points()):
            if point.number == 0 and not self._isInVolume(point.ras):
                point.node.RemoveNthControlPoint(point.index)
                refused = True
        for point in self.points():
            if point.number == 0:
                last += 1
                point.node.SetNthControlPointDescription(point.index, str(last))
        self._timer.stop()  # what was done here is no news
        self._changed()
        if refused:
            self._refused()
