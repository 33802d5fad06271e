"""Linking in a scene: a volume and a RoI go in, a preview mask and candidates come out.

The session knows MRML and the engine client, but no widget: the panel shows it and calls it. It is
attached to the module's parameter node and detached when the scene closes; in between, every change
of the RoI (`chosen_region`) asks for a new link.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from velcro_engine.errors import VelcroError
from velcro_engine.messages.result import LinkResult

from ..engine.client import EngineClient, EngineState
from ..engine.head_frames import HeadFrames
from ..engine.observable import Signal
from ..scene.placement import POINT_CLASS, ROI_CLASS, controlPointRas
from ..scene.segmentation_result import clearPreview, showPreview
from ..scene.slice_request import PlacedRequest, SliceRequestBuilder
from .chosen_region import ChosenRegion
from .link_outcome import Notice, Outcome
from .state import savedFrom, savedLink, saveLink


class LinkSession:
    """See the module's docstring. `changed` is emitted whenever there is something new to show.

    outcome: what the last link gave. placed, result: the question and the answer behind it, None
    for an outcome that came with a loaded scene. notice: one line for the user.
    """

    def __init__(self, client: EngineClient) -> None:
        self.changed = Signal("changed")
        self.client = client
        self.notice: Notice | None = None
        self.outcome: Outcome | None = None
        self.placed: PlacedRequest | None = None
        self.result: LinkResult | None = None
        self._askedAt = 0.0
        self.heads = HeadFrames(client)
        self._builder = SliceRequestBuilder(self.heads)
        self._region = ChosenRegion(
            due=self.link,
            changed=self.changed.emit,
            volumeLeaving=self._onVolumeLeaving,
            volumeTaken=self._onVolumeTaken,
            volumeChanged=self._onVolumeChanged,
            volumeRemoved=self._onVolumeRemoved,
            promptGone=self._removePreview,
        )
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
        self._region.start(parameters, isAnswered=self._recall)
        self.changed.emit()

    def detach(self) -> None:
        """Let go of the scene: it is closing, the module is reloaded, or Slicer quits."""
        if self.parameters is None:
            return
        self._region.stop()
        if self.client.state is EngineState.LINKING:
            self.client.cancel()
        self._builder.forget()
        self.heads.forget()
        self._region.forget()
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
    def parameters(self) -> Any:
        """The parameter node, None while detached."""
        return self._region.parameters

    @property
    def volumeNode(self) -> Any:
        """The volume to link in, None when none is chosen."""
        return self._region.volumeNode

    @property
    def promptNode(self) -> Any:
        """The RoI or point to link, None when there is none."""
        return self._region.promptNode

    @property
    def isPlacing(self) -> str:
        """Class name of the markup being placed, "" when none is."""
        return self._region.placing

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
        return self._region.isStill(placed)

    # --- what the user does -------------------------------------------------------------------
    def placeRoi(self) -> None:
        self._startPlacing(ROI_CLASS)

    def placePoint(self) -> None:
        self._startPlacing(POINT_CLASS)

    def stopPlacing(self) -> None:
        self._region.stopPlacing()
        self.changed.emit()

    def cancel(self) -> None:
        """Stop placing, waiting and linking. What was shown before stays."""
        self._region.stopWaiting()
        self._region.stopPlacing()
        self.client.cancel()
        self.changed.emit()

    def link(self) -> None:
        """Ask what the current RoI or point shows. Anything wrong with it becomes a notice."""
        self._region.stopWaiting()
        if self.parameters is None or self.promptNode is None:
            return
        if self.volumeNode is None:
            self.notify("warning", _("Choose the volume to link in."))
            return
        self._region.takeNote()
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

    def _startPlacing(self, nodeClass: str) -> None:
        if self.parameters is None:
            return
        self._region.suggestVolume()
        if self.volumeNode is None:
            self.notify("warning", _("Load a volume first."))
            return
        self.notice = None
        self.client.start()  # the model loads while the user draws
        self._region.place(nodeClass)
        self.changed.emit()

    def _buildRequest(self) -> PlacedRequest:
        sliceNode = self._region.sliceNode()
        if self.promptNode.GetClassName() == ROI_CLASS:
            return self._builder.fromRoi(sliceNode, self.volumeNode, self.promptNode)
        return self._builder.fromPoint(sliceNode, self.volumeNode, controlPointRas(self.promptNode))

    # --- what the region does to the answers ------------------------------------------------------
    def _recall(self) -> bool:
        """Show the link that was saved with the scene; False when the volume has none."""
        saved = savedLink(self.parameters.parameterNode, self.volumeNode)
        if saved is not None:
            self.outcome = Outcome.fromSaved(saved)
        return saved is not None

    def _onVolumeLeaving(self) -> None:
        self._removePreview()
        self.notice = None

    def _onVolumeTaken(self) -> None:
        self.heads.stop()
        self._lookForHead()

    def _onVolumeChanged(self) -> None:
        if self.placed is None and self.outcome is None:
            return
        # The mask belongs to voxels that are no longer there (a sequence moved on, a filter ran).
        self._removePreview()
        self.notify(
            "information", _("The volume has changed. Press Link again to link the new image.")
        )

    def _onVolumeRemoved(self) -> None:
        self.heads.stop()
        self._clearOutcome()
        self.notice = Notice("information", _("The volume was removed. Choose another one."))

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
