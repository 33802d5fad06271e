"""Placing a region of interest (two clicks on opposite corners) or a point (one click)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
import vtk
from slicer.i18n import tr as _

from .roi_geometry import alignRoiWithSlice

ROI_CLASS = "vtkMRMLMarkupsROINode"
POINT_CLASS = "vtkMRMLMarkupsFiducialNode"
# Marks nodes that the panel made: placing again replaces these and never a node of the user's.
OWN_ATTRIBUTE = "VelcroLink.Prompt"
COLOUR = (0.4, 0.8, 1.0)  # far from the mask's, which it surrounds
HANDLE_SCALE = 2.0  # per cent of the view; Slicer's 3 covers small structures


class Placement:
    """Puts Slicer into its place mode for one markup and says how that ended.

    placed(node): the markup is complete. abandoned(): the user pressed Esc or chose another mode;
    the unfinished markup is gone by then. currentView(): the slice node the mouse is in.
    """

    def __init__(
        self,
        placed: Callable[[Any], None],
        abandoned: Callable[[], None],
        currentView: Callable[[], Any],
    ) -> None:
        self._placed = placed
        self._abandoned = abandoned
        self._currentView = currentView
        self._node: Any = None
        self._observed: list[tuple[Any, int]] = []

    @property
    def nodeClass(self) -> str:
        """Class of the markup being placed, "" when none is."""
        return self._node.GetClassName() if self._node is not None else ""

    def start(self, nodeClass: str) -> Any:
        """Begin placing; a placement under way ends first. Returns the new, empty markup node."""
        self.stop()
        name = slicer.mrmlScene.GenerateUniqueName(_nameFor(nodeClass))
        node = slicer.mrmlScene.AddNewNodeByClass(nodeClass, name)
        node.SetAttribute(OWN_ATTRIBUTE, "1")
        node.CreateDefaultDisplayNodes()
        _showQuietly(node)
        self._node = node
        self.alignWith(self._currentView())

        interactionNode = enterPlaceMode(node, keep=False)
        self._observe(node, slicer.vtkMRMLMarkupsNode.PointPositionDefinedEvent, self._onDefined)
        self._observe(
            interactionNode,
            slicer.vtkMRMLInteractionNode.InteractionModeChangedEvent,
            self._onModeChanged,
        )
        return node

    def stop(self) -> None:
        """End placing without a result (nothing happens if none is under way)."""
        if self._node is None:
            return
        node = self._forget()
        leavePlaceMode()
        removeMarkup(node)

    def alignWith(self, sliceNode: Any | None) -> None:
        """The mouse is in this view now: an unplaced RoI takes its orientation, so that it is
        drawn straight in the view in which the first corner is clicked."""
        node = self._node
        if node is None or sliceNode is None or node.GetClassName() != ROI_CLASS:
            return
        if node.GetNumberOfDefinedControlPoints() == 0:
            alignRoiWithSlice(node, sliceNode)

    def _observe(self, node: Any, event: int, callback: Callable[..., None]) -> None:
        self._observed.append((node, node.AddObserver(event, callback)))

    def _forget(self) -> Any:
        for node, tag in self._observed:
            node.RemoveObserver(tag)
        self._observed.clear()
        node, self._node = self._node, None
        return node

    def _isComplete(self) -> bool:
        node = self._node
        if node.GetNumberOfDefinedControlPoints() < 1:
            return False
        return node.GetClassName() != ROI_CLASS or max(node.GetSize()) > 0

    def _onDefined(self, _node: Any, _event: Any) -> None:
        if self._isComplete() and not _inPlaceMode():
            self._finish()

    def _onModeChanged(self, _node: Any, _event: Any) -> None:
        if _inPlaceMode() or self._node is None:
            return
        if self._isComplete():
            self._finish()
        else:
            self.stop()
            self._abandoned()

    def _finish(self) -> None:
        node = self._forget()
        _removeOwnPromptsExcept(node)
        name = _nameFor(node.GetClassName())
        if slicer.mrmlScene.GetFirstNodeByName(name) is None:
            node.SetName(name)  # it was numbered while the one before was there
        self._placed(node)


def _inPlaceMode() -> bool:
    interactionNode = slicer.app.applicationLogic().GetInteractionNode()
    return interactionNode.GetCurrentInteractionMode() == slicer.vtkMRMLInteractionNode.Place


def enterPlaceMode(node: Any, keep: bool) -> Any:
    """Clicks in the slice views are points of this markup now; keep: also after the first one that
    completes it. Returns the interaction node."""
    applicationLogic = slicer.app.applicationLogic()
    selectionNode = applicationLogic.GetSelectionNode()
    selectionNode.SetReferenceActivePlaceNodeClassName(node.GetClassName())
    selectionNode.SetActivePlaceNodeID(node.GetID())
    interactionNode = applicationLogic.GetInteractionNode()
    interactionNode.SetPlaceModePersistence(int(keep))
    interactionNode.SetCurrentInteractionMode(slicer.vtkMRMLInteractionNode.Place)
    return interactionNode


def leavePlaceMode() -> None:
    """Clicks are the views' again."""
    interactionNode = slicer.app.applicationLogic().GetInteractionNode()
    interactionNode.SetPlaceModePersistence(0)
    interactionNode.SetCurrentInteractionMode(slicer.vtkMRMLInteractionNode.ViewTransform)


def _removeOwnPromptsExcept(kept: Any) -> None:
    for nodeClass in (ROI_CLASS, POINT_CLASS):
        for node in slicer.util.getNodesByClass(nodeClass):
            if node is not kept and isOwnPrompt(node):
                removeMarkup(node)


def removeMarkup(node: Any) -> None:
    """Take a markup away with its display node, which would stay in the scene without it."""
    displayNode = node.GetDisplayNode()
    for one in (node, displayNode):
        if one is not None and slicer.mrmlScene.IsNodePresent(one):
            slicer.mrmlScene.RemoveNode(one)


def _nameFor(nodeClass: str) -> str:
    return _("RoI") if nodeClass == ROI_CLASS else _("RoI point")


def _showQuietly(node: Any) -> None:
    """Outline only: the mask under the RoI must stay visible, and names would cover the image."""
    displayNode = node.GetDisplayNode()
    displayNode.SetFillVisibility(False)
    displayNode.SetPointLabelsVisibility(False)
    displayNode.SetPropertiesLabelVisibility(False)
    displayNode.SetUseGlyphScale(True)
    displayNode.SetInteractionHandleScale(HANDLE_SCALE)
    displayNode.SetSelectedColor(*COLOUR)


def isOwnPrompt(node: Any) -> bool:
    """True for a markup that the panel made."""
    return node is not None and bool(node.GetAttribute(OWN_ATTRIBUTE))


def controlPointRas(pointNode: Any) -> tuple[float, float, float]:
    """World position (RAS, mm) of a one-point markup."""
    position = vtk.vtkVector3d()
    pointNode.GetNthControlPointPositionWorld(0, position)
    return position.GetX(), position.GetY(), position.GetZ()
