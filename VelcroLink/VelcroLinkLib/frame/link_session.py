"""Linking in a scene: a volume and a RoI go in, a preview mask and candidates come out.

The session knows MRML and the engine client, but no widget: the panel shows it and calls it. It is
attached to the module's parameter node and detached when the scene closes; in between, every change
of the RoI asks for a new link.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from velcro_engine.errors import VelcroError
from velcro_engine.messages.result import LinkResult

from ..engine.client import EngineClient, EngineState
from ..engine.head_frames import HeadFrames
from ..engine.observable import Signal
from ..scene.placement import POINT_CLASS, ROI_CLASS, Placement, controlPointRas, isOwnPrompt
from ..scene.roi_geometry import clampRoiDepth
from ..scene.scene_watch import SceneWatch
from ..scene.segmentation_result import clearPreview, showPreview
from ..scene.slice_request import PlacedRequest, SliceRequestBuilder
from ..scene.slice_views import PromptView, sliceSpacing, suggestedVolume, volumeShownIn
from ..scene.volume_geometry import volumeFingerprint
from .link_outcome import Notice, Outcome
from .state import savedFrom, savedLink, saveLink

LINK_DELAY_MS = 15  # gathers the many events of one mouse move into one request


class LinkSession(VTKObservationMixin):
    """See the module's docstring. `changed` is emitted whenever there is something new to show.

    outcome: what the last link gave. placed, result: the question and the answer behind it, None
    for an outcome that came with a loaded scene. notice: one line for the user.
    """

    def __init__(self, client: EngineClient) -> None:
        VTKObservationMixin.__init__(self)
        self.changed = Signal("changed")
        self.client = client
        self.parameters: Any = None
        self.notice: Notice | None = None
        self.outcome: Outcome | None = None
        self.placed: PlacedRequest | None = None
        self.result: LinkResult | None = None
        self.volumeNode: Any = None
        self.promptNode: Any = None
        self._askedAt = 0.0
        self.heads = HeadFrames(client)
        self._builder = SliceRequestBuilder(self.heads)
        self._watch = SceneWatch(
            promptMoved=self._linkSoon,
            volumeChanged=self._onVolumeChanged,
            removed=self._onNodesRemoved,
            volumeAdded=self._suggestSoon,
        )
        self._view = PromptView(entered=lambda node: self._placement.alignWith(node))
        self._placement = Placement(
            placed=self._onPlaced,
            abandoned=self.changed.emit,
            currentView=lambda: self._view.active.sliceNode,
        )
        self._timer = _singleShotTimer(LINK_DELAY_MS, self.link)
        # A volume that is being added has no voxels yet, and no view shows it yet.
        self._suggestTimer = _singleShotTimer(0, self._suggestVolume)
        self._subscriptions = (
            (client.linked, self._onLinked),
            (client.linkFailed, self._onLinkFailed),
            (client.dropped, self._onDropped),
            (client.stateChanged, self._onEngineState),
        )
        for signal, method in self._subscriptions:
            signal.connect(method)
        threading.Thread(target=_warmUp, name="VelcroLink warm-up", daemon=True).start()

    # --- life ---------------------------------------------------------------------------------
    def attach(self, parameters: Any) -> None:
        """Work with this parameter node (volume, roi, point, threshold) from now on."""
        self.detach()
        self.parameters = parameters
        self._view.start()
        self._watch.start()
        self._suggestVolume()
        self._followVolume()
        saved = savedLink(parameters.parameterNode, self.volumeNode) if self.volumeNode else None
        if saved is not None:
            self.outcome = Outcome.fromSaved(saved)
        self._followPrompt(linkIt=saved is None)
        self.addObserver(parameters, vtk.vtkCommand.ModifiedEvent, self._onParametersModified)
        self.changed.emit()

    def detach(self) -> None:
        """Let go of the scene: it is closing, the module is reloaded, or Slicer quits."""
        if self.parameters is None:
            return
        self._timer.stop()
        self._suggestTimer.stop()
        self._placement.stop()
        self._view.stop()
        self._watch.stop()
        self.removeObservers()
        if self.client.state is EngineState.LINKING:
            self.client.cancel()
        self._builder.forget()
        self.heads.forget()
        self.parameters = self.volumeNode = self.promptNode = None
        self._clearOutcome()
        self.notice = None
        self.changed.emit()

    def close(self) -> None:
        """Detach for good."""
        self.detach()
        self.heads.close()
        for signal, method in self._subscriptions:
            signal.disconnect(method)
        self.changed.disconnectAll()

    # --- what the panel asks about --------------------------------------------------------------
    @property
    def isPlacing(self) -> str:
        """Class name of the markup being placed, "" when none is."""
        return self._placement.nodeClass

    @property
    def isLinking(self) -> bool:
        """A question is under way (it may be waiting for the engine to start)."""
        waiting = self.client.state in (EngineState.STARTING, EngineState.RESTARTING)
        return self.client.state is EngineState.LINKING or (
            waiting and self.placed is not None and self.result is None
        )

    @property
    def shownOutcome(self) -> Outcome | None:
        """The outcome with the user's threshold applied."""
        if self.outcome is None or self.parameters is None:
            return self.outcome
        return self.outcome.withThreshold(self.parameters.threshold)

    def isCurrent(self, placed: PlacedRequest) -> bool:
        """Whether an answer to this question may still be shown: the volume is there, unchanged."""
        return (
            self.volumeNode is not None
            and self.promptNode is not None
            and self.volumeNode.GetID() == placed.volumeId
            and volumeFingerprint(self.volumeNode) == placed.fingerprint
        )

    # --- what the user does -------------------------------------------------------------------
    def placeRoi(self) -> None:
        self._startPlacing(ROI_CLASS)

    def placePoint(self) -> None:
        self._startPlacing(POINT_CLASS)

    def stopPlacing(self) -> None:
        self._placement.stop()
        self.changed.emit()

    def cancel(self) -> None:
        """Stop placing, waiting and linking. What was shown before stays."""
        self._timer.stop()
        self._placement.stop()
        self.client.cancel()
        self.changed.emit()

    def link(self) -> None:
        """Ask what the current RoI or point shows. Anything wrong with it becomes a notice."""
        self._timer.stop()
        if self.parameters is None or self.promptNode is None:
            return
        if self.volumeNode is None:
            self.notify("warning", _("Choose the volume to link in."))
            return
        self._watch.takeNote()
        try:
            self.placed = self._buildRequest()
        except VelcroError as error:
            self._fail(error)
            return
        self.result = None
        self.notice = None
        self._askedAt = time.monotonic()
        self.client.link(self.placed)
        self.changed.emit()

    def markAccepted(self, placed: PlacedRequest) -> None:
        """The link of this question has become a segment (unless a newer one is shown already)."""
        if self.placed is placed and self.outcome is not None:
            self.outcome = replace(self.outcome, accepted=True)

    def notify(self, kind: str, text: str) -> None:
        """Show one line: kind "information", "warning" or "error"; "" for text takes it away."""
        self.notice = Notice(kind, text) if text else None
        self.changed.emit()

    # --- parameter node and scene ---------------------------------------------------------------
    def _onParametersModified(self, _caller: Any, _event: Any) -> None:
        if self.parameters is None:
            return
        self._followVolume()
        self._followPrompt()
        self.changed.emit()

    def _followVolume(self) -> None:
        volumeNode = self.parameters.volume
        if volumeNode is self.volumeNode:
            return
        self._removePreview()
        self.notice = None
        self.volumeNode = volumeNode
        self._watch.followVolume(volumeNode)
        self.heads.stop()
        if volumeNode is not None and self.promptNode is not None:
            self._linkSoon()
        self._lookForHead()

    def _followPrompt(self, linkIt: bool = True) -> None:
        promptNode = self.parameters.roi or self.parameters.point
        if promptNode is self.promptNode:
            return
        self.promptNode = promptNode
        self._watch.followPrompt(promptNode)
        if promptNode is None:
            self._removePreview()
        elif linkIt:
            if not isOwnPrompt(promptNode) and promptNode.GetClassName() == ROI_CLASS:
                self._view.bringIntoView(promptNode)
            self._linkSoon()

    def _onVolumeChanged(self) -> None:
        if self.placed is None and self.outcome is None:
            return
        # The mask belongs to voxels that are no longer there (a sequence moved on, a filter ran).
        self._removePreview()
        self.notify(
            "information", _("The volume has changed. Press Link again to link the new image.")
        )

    def _onNodesRemoved(self, volumeIsGone: bool, promptIsGone: bool) -> None:
        if volumeIsGone:
            self.volumeNode = None
            self.heads.stop()
            self._watch.followVolume(None)
            self._clearOutcome()
            self.notice = Notice("information", _("The volume was removed. Choose another one."))
        if promptIsGone:
            self.promptNode = None
            self._watch.followPrompt(None)
            self._removePreview()
        self.changed.emit()

    # --- placing ------------------------------------------------------------------------------
    def _startPlacing(self, nodeClass: str) -> None:
        if self.parameters is None:
            return
        self._suggestVolume()
        if self.volumeNode is None:
            self.notify("warning", _("Load a volume first."))
            return
        self.notice = None
        self.client.start()  # the model loads while the user draws
        self._placement.start(nodeClass)
        self.changed.emit()

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

    # --- asking -------------------------------------------------------------------------------
    def _suggestSoon(self) -> None:
        self._suggestTimer.start()

    def _suggestVolume(self) -> None:
        """Preselect the volume of the active slice view while none is chosen."""
        if self.parameters is not None and self.parameters.volume is None:
            self.parameters.volume = suggestedVolume(self._view.active.sliceNode)
            self.changed.emit()

    def _linkSoon(self) -> None:
        if not self._timer.isActive():
            self._timer.start()

    def _buildRequest(self) -> PlacedRequest:
        sliceNode = self._view.sliceNode(self.volumeNode, self.promptNode)
        if self.promptNode.GetClassName() == ROI_CLASS:
            return self._builder.fromRoi(sliceNode, self.volumeNode, self.promptNode)
        return self._builder.fromPoint(sliceNode, self.volumeNode, controlPointRas(self.promptNode))

    # --- answers ------------------------------------------------------------------------------
    def _onLinked(self, result: LinkResult, placed: PlacedRequest) -> None:
        if self.parameters is None or self.volumeNode is None or self.promptNode is None:
            return
        self.placed, self.result = placed, result
        elapsed = 1000.0 * (time.monotonic() - self._askedAt)
        self.outcome = Outcome.fromResult(result, placed.request.plane, elapsed)
        self.notice = None
        try:
            showPreview(self.volumeNode, placed, result)
        except VelcroError as error:
            self._fail(error)
            return
        saved = savedFrom(placed, result)
        saveLink(self.parameters.parameterNode, self.volumeNode, saved)
        self.changed.emit()

    def _lookForHead(self) -> None:
        """Let the engine find out how the volume's head lies, once it runs and has nothing to link."""
        if self.parameters is not None and self.client.state is EngineState.READY:
            self._builder.lookForHead(self.volumeNode)

    def _onLinkFailed(self, kind: str, message: str, detail: str) -> None:
        if detail:
            logging.info("VelcroLink: %s: %s (%s)", kind, message, detail)
        if kind == "cancelled":
            self.changed.emit()
        else:
            self.notify("error", message)

    def _onDropped(self, _placed: PlacedRequest) -> None:
        if self.volumeNode is not None and self.promptNode is not None:
            self.notify(
                "information", _("The volume changed while linking. Press Link again to repeat.")
            )

    def _onEngineState(self, state: EngineState, _message: str) -> None:
        if state is EngineState.READY and self.placed is not None and self.result is None:
            self._askedAt = time.monotonic()  # only now does it work on the question that waited
        self.changed.emit()
        self._lookForHead()

    def _fail(self, error: VelcroError) -> None:
        if error.detail:
            logging.info("VelcroLink: %s (%s)", error.message, error.detail)
        self._removePreview()
        self.notify("warning", error.message)

    def _removePreview(self) -> None:
        self._clearOutcome()
        if self.volumeNode is None or not slicer.mrmlScene.IsNodePresent(self.volumeNode):
            return
        clearPreview(self.volumeNode)
        if self.parameters is not None:
            saveLink(self.parameters.parameterNode, self.volumeNode, None)

    def _clearOutcome(self) -> None:
        self.outcome = self.placed = self.result = None


def _warmUp() -> None:
    """numpy imports half of itself with the first percentile. That must not be on the main thread
    and in the middle of the first link. Touches neither MRML nor Qt."""
    np.percentile(np.zeros(4, dtype=np.float32), [1.0, 99.0])


def _singleShotTimer(milliseconds: int, slot: Any) -> Any:
    timer = qt.QTimer()
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    timer.connect("timeout()", slot)
    return timer
