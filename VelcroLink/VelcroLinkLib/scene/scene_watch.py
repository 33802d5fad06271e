"""Watches the volume, the RoI or point, and the scene, and says what a link has to know of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
import vtk
from slicer.util import VTKObservationMixin

from .placement import ROI_CLASS, controlPointRas


class SceneWatch(VTKObservationMixin):
    """promptMoved(): the RoI or point has another place or size. volumeChanged(): other voxels or
    another place. removed(volumeIsGone, promptIsGone): a node was deleted by someone."""

    def __init__(
        self,
        promptMoved: Callable[[], None],
        volumeChanged: Callable[[], None],
        removed: Callable[[bool, bool], None],
        volumeAdded: Callable[[], None],
    ) -> None:
        VTKObservationMixin.__init__(self)
        self._promptMoved = promptMoved
        self._volumeChanged = volumeChanged
        self._removed = removed
        self._volumeAdded = volumeAdded
        self._volumeNode: Any = None
        self._promptNode: Any = None
        self._geometry: Any = None

    def start(self) -> None:
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.NodeRemovedEvent, self._onNodeRemoved)
        self.addObserver(scene, scene.NodeAddedEvent, self._onNodeAdded)

    def stop(self) -> None:
        self.removeObservers()
        self._volumeNode = self._promptNode = self._geometry = None

    def followVolume(self, volumeNode: Any) -> None:
        """Watch this volume instead of the one before; None for none."""
        self._exchange(self._volumeNode, volumeNode, _volumeEvents(), self._onVolumeModified)
        self._volumeNode = volumeNode

    def followPrompt(self, promptNode: Any) -> None:
        """Watch this RoI or point instead of the one before; None for none."""
        self._exchange(self._promptNode, promptNode, _promptEvents(), self._onPromptModified)
        self._promptNode = promptNode
        self.takeNote()

    def takeNote(self) -> None:
        """The prompt as it is now has been dealt with; only another geometry counts as a move."""
        self._geometry = _geometryOf(self._promptNode) if self._promptNode is not None else None

    def _exchange(self, before: Any, after: Any, events: tuple, method: Callable) -> None:
        if before is not None:
            for event in events:
                self.removeObserver(before, event, method)
        if after is not None:
            for event in events:
                self.addObserver(after, event, method)

    def _onPromptModified(self, _caller: Any, _event: Any) -> None:
        # A markup also says that it is modified when only its colour or selection changes.
        if self._promptNode is not None and _geometryOf(self._promptNode) != self._geometry:
            self._promptMoved()

    def _onVolumeModified(self, _caller: Any, _event: Any) -> None:
        self._volumeChanged()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAdded(self, _caller: Any, _event: Any, node: Any) -> None:
        if node is not None and node.IsA("vtkMRMLVolumeNode"):
            self._volumeAdded()

    def _onNodeRemoved(self, _caller: Any, _event: Any) -> None:
        scene = slicer.mrmlScene
        if scene.IsClosing():
            return  # the module detaches at the start of closing
        volumeIsGone = self._volumeNode is not None and not scene.IsNodePresent(self._volumeNode)
        promptIsGone = self._promptNode is not None and not scene.IsNodePresent(self._promptNode)
        if volumeIsGone or promptIsGone:
            self._removed(volumeIsGone, promptIsGone)


def _volumeEvents() -> tuple[int, ...]:
    return (
        slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent,
        slicer.vtkMRMLTransformableNode.TransformModifiedEvent,
    )


def _promptEvents() -> tuple[int, ...]:
    return (
        slicer.vtkMRMLMarkupsNode.PointModifiedEvent,
        slicer.vtkMRMLMarkupsNode.PointEndInteractionEvent,
        slicer.vtkMRMLTransformableNode.TransformModifiedEvent,
        vtk.vtkCommand.ModifiedEvent,
    )


def _geometryOf(promptNode: Any) -> tuple[float, ...] | None:
    """Comparable place and size of a RoI or a point (world RAS, mm)."""
    if promptNode.GetClassName() != ROI_CLASS:
        if promptNode.GetNumberOfDefinedControlPoints() < 1:
            return None
        return controlPointRas(promptNode)
    matrix = promptNode.GetObjectToWorldMatrix()
    elements = tuple(round(matrix.GetElement(i, j), 4) for i in range(3) for j in range(4))
    return elements + tuple(round(size, 4) for size in promptNode.GetSize())
