"""What there is to link in the scene: a volume, and a RoI or point in it.

Both are chosen in the module's parameter node, drawn, or suggested; they are moved, changed and
removed by anybody. This follows all of that and asks nothing of the engine. It knows no widget.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
import vtk
from slicer.util import VTKObservationMixin

from ..scene.placement import ROI_CLASS, Placement, isOwnPrompt
from ..scene.roi_geometry import clampRoiDepth
from ..scene.scene_watch import SceneWatch
from ..scene.slice_request import PlacedRequest
from ..scene.slice_views import PromptView, sliceSpacing, suggestedVolume, volumeShownIn
from ..scene.volume_geometry import volumeFingerprint

LINK_DELAY_MS = 15  # gathers the many events of one mouse move into one request


class ChosenRegion(VTKObservationMixin):
    """parameters, volumeNode, promptNode: None while there is none.

    due(): link the region, it is another one or has moved. changed(): there is something new to
    show. volumeLeaving(): another volume is about to be taken, or none. volumeTaken(): it was.
    volumeChanged(): other voxels or another place. volumeRemoved(): deleted by someone.
    promptGone(): there is no RoI or point any more.
    """

    def __init__(
        self,
        due: Callable[[], None],
        changed: Callable[[], None],
        volumeLeaving: Callable[[], None],
        volumeTaken: Callable[[], None],
        volumeChanged: Callable[[], None],
        volumeRemoved: Callable[[], None],
        promptGone: Callable[[], None],
    ) -> None:
        VTKObservationMixin.__init__(self)
        self.parameters: Any = None
        self.volumeNode: Any = None
        self.promptNode: Any = None
        self._changed = changed
        self._volumeLeaving = volumeLeaving
        self._volumeTaken = volumeTaken
        self._volumeRemoved = volumeRemoved
        self._promptGone = promptGone
        self._watch = SceneWatch(
            promptMoved=self._dueSoon,
            volumeChanged=volumeChanged,
            removed=self._onNodesRemoved,
            volumeAdded=self._suggestSoon,
        )
        self._view = PromptView(entered=lambda node: self._placement.alignWith(node))
        self._placement = Placement(
            placed=self._onPlaced,
            abandoned=changed,
            currentView=lambda: self._view.active.sliceNode,
        )
        self._timer = _singleShotTimer(LINK_DELAY_MS, due)
        # A volume that is being added has no voxels yet, and no view shows it yet.
        self._suggestTimer = _singleShotTimer(0, self.suggestVolume)

    # --- life ---------------------------------------------------------------------------------
    def start(self, parameters: Any, isAnswered: Callable[[], bool]) -> None:
        """Follow this parameter node and the scene. isAnswered(): whether what the volume shows is
        known already, so that its RoI or point is not due; asked once the volume is taken."""
        self.parameters = parameters
        self._view.start()
        self._watch.start()
        self.suggestVolume()
        self._followVolume()
        self._followPrompt(linkIt=not isAnswered())
        self.addObserver(parameters, vtk.vtkCommand.ModifiedEvent, self._onParametersModified)

    def stop(self) -> None:
        """Follow nothing any more; the nodes are there until `forget`."""
        self._timer.stop()
        self._suggestTimer.stop()
        self._placement.stop()
        self._view.stop()
        self._watch.stop()
        self.removeObservers()

    def forget(self) -> None:
        self.parameters = self.volumeNode = self.promptNode = None

    # --- what the session asks for --------------------------------------------------------------
    @property
    def placing(self) -> str:
        """Class name of the markup being placed, "" when none is."""
        return self._placement.nodeClass

    def place(self, nodeClass: str) -> None:
        """Let the user draw a RoI or point, which takes the place of the one before."""
        self._placement.start(nodeClass)

    def stopPlacing(self) -> None:
        self._placement.stop()

    def stopWaiting(self) -> None:
        """What has moved up to now is not due any more."""
        self._timer.stop()

    def takeNote(self) -> None:
        """The region as it is now is being linked."""
        self._watch.takeNote()

    def sliceNode(self) -> Any | None:
        """The view in whose plane it is linked, None without any slice view."""
        return self._view.sliceNode(self.volumeNode, self.promptNode)

    def isStill(self, placed: PlacedRequest) -> bool:
        """Whether the volume is the one that was asked about, unchanged, and something is chosen in
        it."""
        return (
            self.volumeNode is not None
            and self.promptNode is not None
            and self.volumeNode.GetID() == placed.volumeId
            and volumeFingerprint(self.volumeNode) == placed.fingerprint
        )

    def suggestVolume(self) -> None:
        """Preselect the volume of the active slice view while none is chosen."""
        if self.parameters is not None and self.parameters.volume is None:
            self.parameters.volume = suggestedVolume(self._view.active.sliceNode)
            self._changed()

    # --- parameter node and scene ---------------------------------------------------------------
    def _onParametersModified(self, _caller: Any, _event: Any) -> None:
        if self.parameters is None:
            return
        self._followVolume()
        self._followPrompt()
        self._changed()

    def _followVolume(self) -> None:
        volumeNode = self.parameters.volume
        if volumeNode is self.volumeNode:
            return
        self._volumeLeaving()
        self.volumeNode = volumeNode
        self._watch.followVolume(volumeNode)
        if volumeNode is not None and self.promptNode is not None:
            self._dueSoon()
        self._volumeTaken()

    def _followPrompt(self, linkIt: bool = True) -> None:
        promptNode = self.parameters.roi or self.parameters.point
        if promptNode is self.promptNode:
            return
        self.promptNode = promptNode
        self._watch.followPrompt(promptNode)
        if promptNode is None:
            self._promptGone()
        elif linkIt:
            if not isOwnPrompt(promptNode) and promptNode.GetClassName() == ROI_CLASS:
                self._view.bringIntoView(promptNode)
            self._dueSoon()

    def _onNodesRemoved(self, volumeIsGone: bool, promptIsGone: bool) -> None:
        if volumeIsGone:
            self.volumeNode = None
            self._watch.followVolume(None)
            self._volumeRemoved()
        if promptIsGone:
            self.promptNode = None
            self._watch.followPrompt(None)
            self._promptGone()
        self._changed()

    def _onPlaced(self, node: Any) -> None:
        sliceNode = self._view.takeActive()
        isRoi = node.GetClassName() == ROI_CLASS
        if isRoi and sliceNode is not None:
            clampRoiDepth(node, sliceNode, max(sliceSpacing(sliceNode), 1.0))
        shown = suggestedVolume(sliceNode)
        with slicer.util.NodeModify(self.parameters):
            if shown is not None and volumeShownIn(sliceNode) is shown:
                self.parameters.volume = shown  # the user drew on what is seen there
            self.parameters.roi = node if isRoi else None
            self.parameters.point = None if isRoi else node

    def _suggestSoon(self) -> None:
        self._suggestTimer.start()

    def _dueSoon(self) -> None:
        if not self._timer.isActive():
            self._timer.start()


def _singleShotTimer(milliseconds: int, slot: Any) -> Any:
    timer = qt.QTimer()
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    timer.connect("timeout()", slot)
    return timer
