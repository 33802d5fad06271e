"""Reviewing a segmentation in the scene: what is chosen, what runs, what came out.

Knows MRML and the engine client, but no widget. It follows the link session: while that one is
attached to a parameter node, this one is too, and it lets go when the scene closes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from enum import Enum
from pathlib import Path
from time import perf_counter
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _
from slicer.util import VTKObservationMixin

from velcro_engine.errors import VelcroError

from ..engine.observable import Signal
from ..frame.link_outcome import Notice
from ..frame.link_session import LinkSession
from ..scene.segmentation_voxels import (
    labelmapMissing,
    reviewedSegmentIds,
    segmentationFingerprint,
)
from .request import ReviewQuestion, buildQuestion
from .table import (
    ReviewRow,
    SavedReview,
    reviewFromAnswer,
    reviewTable,
    saveDecision,
    savedReview,
    saveReview,
    writeCsv,
)

CHOSEN_ROLE = "VelcroLink.segmentationToReview"
STEP_SECONDS = 0.02  # of reading voxels before Slicer has its turn again


class ReviewState(Enum):
    IDLE = "idle"
    READING = "reading"
    ASKED = "asked"


class ReviewSession(VTKObservationMixin):
    """`changed` is emitted when there is something new to show; `rowChanged(row)` when only a flag
    or a note is new. progress: (fraction, message, remaining seconds or None)."""

    def __init__(self, link: LinkSession) -> None:
        VTKObservationMixin.__init__(self)
        self.changed = Signal("review changed")
        self.rowChanged = Signal("review row changed")
        self.state = ReviewState.IDLE
        self.notice: Notice | None = None
        self.review: SavedReview | None = None
        self.progress: tuple[float, str, float | None] = (0.0, "", None)
        self.segmentationNode: Any = None
        self._volumeNode: Any = None  # of the review that runs
        self._fingerprint = self._fingerprintAsked = ""
        self._noticesAsked: tuple[str, ...] = ()
        self._link = link
        self._client = link.client
        self._parameters: Any = None
        self._steps: Iterator[ReviewQuestion | None] | None = None
        self._questionId: int | None = None
        self._timer = qt.QTimer()
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._step)
        link.changed.connect(self._follow)
        self._client.progressed.connect(self._onProgress)
        self._follow()

    def close(self) -> None:
        self._link.changed.disconnect(self._follow)
        self._client.progressed.disconnect(self._onProgress)
        self._detach()
        self.changed.disconnectAll()
        self.rowChanged.disconnectAll()

    # --- what the panel asks about --------------------------------------------------------------
    @property
    def isRunning(self) -> bool:
        return self.state is not ReviewState.IDLE

    @property
    def isAttached(self) -> bool:
        return self._parameters is not None

    @property
    def volumeNode(self) -> Any:
        """The image that the segmentation is reviewed on: the panel's volume."""
        return self._link.volumeNode

    def whyNot(self) -> str:
        """Why a review cannot start now, "" when it can."""
        if self.isRunning:
            return _("A review is under way.")
        if self.volumeNode is None:
            return _("Choose the volume that was segmented, above.")
        if self.segmentationNode is None:
            return _("Choose a segmentation.")
        if not reviewedSegmentIds(self.segmentationNode):
            return _("The segmentation holds no segment.")
        if labelmapMissing(self.segmentationNode):
            return _(
                "The segmentation holds surfaces only. Make its binary labelmap in the "
                "Segmentations module, under Representations."
            )
        return ""

    @property
    def isOutdated(self) -> bool:
        """The segmentation was edited since it was reviewed (known for this session only)."""
        return (
            self.review is not None
            and bool(self._fingerprint)
            and self.segmentationNode is not None
            and segmentationFingerprint(self.segmentationNode) != self._fingerprint
        )

    # --- what the user does -----------------------------------------------------------------------
    def choose(self, segmentationNode: Any) -> None:
        """Show the kept review of this segmentation, if there is one."""
        before = self.segmentationNode
        if segmentationNode is before:
            return
        self.cancel()
        if self._parameters is not None:
            identifier = segmentationNode.GetID() if segmentationNode is not None else None
            self._parameters.parameterNode.SetNodeReferenceID(CHOSEN_ROLE, identifier)
        self._show(segmentationNode)
        if before is not None and not slicer.mrmlScene.IsNodePresent(before):
            self._notify("information", _("The segmentation was removed."))

    def start(self) -> None:
        reason = self.whyNot()
        if reason:
            self._notify("warning", reason)
            return
        self._volumeNode = self.volumeNode
        self._steps = buildQuestion(self.volumeNode, self.segmentationNode)
        self.state, self.notice = ReviewState.READING, None
        self.progress = (0.0, _("Reading the segmentation"), None)
        self._client.start()  # the model loads meanwhile
        self._timer.start()
        self.changed.emit()

    def cancel(self) -> None:
        """Stop the review; the one before stays as it is."""
        if self.state is ReviewState.IDLE:
            return
        wasAsked = self.state is ReviewState.ASKED
        self._stop()
        if wasAsked:
            self._client.cancel()
        self._notify("information", _("Review cancelled."))

    def decide(self, segmentId: str, flag: bool | None = None, note: str | None = None) -> None:
        """Set the flag, the note, or both, of one row, and keep them with the scene."""
        if self.review is None:
            return
        old = next((row for row in self.review.rows if row.segment_id == segmentId), None)
        if old is None:
            return
        new = replace(
            old, flag=old.flag if flag is None else flag, note=old.note if note is None else note
        )
        if new == old:
            return
        rows = tuple(new if row is old else row for row in self.review.rows)
        self.review = replace(self.review, rows=rows)
        node = self._table(create=False)
        if node is None or not saveDecision(node, new):
            self._save()  # the user has deleted the table node: nothing that was noted is lost
        self.rowChanged.emit(new)

    def jump(self, row: ReviewRow) -> None:
        """Bring the segment's centre into all slice views."""
        if row.centre is None:
            self._notify("information", _("This segment is empty; there is no place to go to."))
            return
        if self.notice is not None:
            self.notice = None
            self.changed.emit()
        for sliceNode in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
            sliceNode.JumpSlice(*row.centre)

    def exportCsv(self, path: Path) -> None:
        if self.review is None:
            return
        try:
            writeCsv(path, self.review.rows)
        except OSError as error:
            logging.info("VelcroLink: %r", error)
            self._notify("error", _("'{path}' cannot be written.").format(path=path))
            return
        self._notify("information", _("Saved as {path}.").format(path=path.name))

    # --- scene ----------------------------------------------------------------------------------
    def _follow(self) -> None:
        """The link session was attached, detached, or has another volume."""
        parameters = self._link.parameters
        if parameters is self._parameters:
            self.changed.emit()
            return
        self._detach()
        self._parameters = parameters
        if parameters is not None:
            scene = slicer.mrmlScene
            self.addObserver(scene, scene.NodeRemovedEvent, self._onNodeRemoved)
            self._show(parameters.parameterNode.GetNodeReference(CHOSEN_ROLE))

    def _detach(self) -> None:
        wasAsked = self.state is ReviewState.ASKED
        self._stop()
        if wasAsked:
            self._client.cancel()
        self.removeObservers()
        self._parameters = None
        self._show(None)

    def _show(self, segmentationNode: Any) -> None:
        self._watchSegments(segmentationNode)
        self.review, self.notice, self._fingerprint = None, None, ""
        node = self._table(create=False)
        if node is not None:
            self.review = savedReview(node)
            if self.review is None:
                self.notice = Notice("warning", _("The kept review cannot be read; review again."))
        self.changed.emit()

    def _watchSegments(self, segmentationNode: Any) -> None:
        events = ("SegmentAdded", "SegmentRemoved", "RepresentationModified")
        for node, add in ((self.segmentationNode, False), (segmentationNode, True)):
            if node is None:
                continue
            segmentation = node.GetSegmentation()
            for event in events:
                identifier = getattr(slicer.vtkSegmentation, event)
                if add:
                    self.addObserver(segmentation, identifier, self._onSegmentsChanged)
                elif self.hasObserver(segmentation, identifier, self._onSegmentsChanged):
                    self.removeObserver(segmentation, identifier, self._onSegmentsChanged)
        self.segmentationNode = segmentationNode

    def _onSegmentsChanged(self, _caller: Any, _event: Any) -> None:
        self.changed.emit()

    def _onNodeRemoved(self, _caller: Any, _event: Any) -> None:
        scene = slicer.mrmlScene
        if scene.IsClosing():
            return
        if self._volumeNode is not None and not scene.IsNodePresent(self._volumeNode):
            self.cancel()
            self._notify("information", _("The volume was removed; the review was stopped."))
        if self.segmentationNode is not None and not scene.IsNodePresent(self.segmentationNode):
            self.cancel()
            self._show(None)
            self._notify("information", _("The segmentation was removed."))

    # --- asking -----------------------------------------------------------------------------------
    def _step(self) -> None:
        """Read on for a moment; ask when all is read."""
        end = perf_counter() + STEP_SECONDS
        try:
            while self._steps is not None and perf_counter() < end:
                question = next(self._steps)
                if question is not None:
                    self._ask(question)
                    return
        except VelcroError as error:
            self._stop()
            self._notify("warning", error.message)

    def _ask(self, question: ReviewQuestion) -> None:
        self._timer.stop()
        self._steps = None
        self.state = ReviewState.ASKED
        self.progress = (0.0, _("Waiting for the engine"), None)
        self._fingerprintAsked = segmentationFingerprint(self.segmentationNode)
        self._noticesAsked = question.notices
        asked = self._client.ask(
            "review",
            question.fields,
            question.payload,
            onAnswer=self._onAnswer,
            onError=self._onError,
        )
        if self.state is ReviewState.ASKED:  # asking may fail at once
            self._questionId = asked
        self.changed.emit()

    def _onAnswer(self, header: dict[str, Any], _payload: bytes) -> None:
        if self.state is not ReviewState.ASKED:
            return
        volumeNode = self._volumeNode
        self._stop()
        try:
            review = reviewFromAnswer(header["result"])
        except VelcroError as error:
            self._notify("error", error.message)
            return
        review = replace(review, notices=self._noticesAsked + review.notices)
        self.review = review.withDecisionsOf(self.review)
        self._fingerprint = self._fingerprintAsked
        self._save(volumeNode)
        self.changed.emit()

    def _onError(self, kind: str, message: str, detail: str) -> None:
        if self.state is not ReviewState.ASKED:
            return
        if detail:
            logging.info("VelcroLink: %s: %s (%s)", kind, message, detail)
        self._stop()
        if kind == "cancelled":
            self._notify("information", _("Review cancelled."))
        else:
            self._notify("error", message)

    def _onProgress(self, fraction: float, message: str, remaining: float | None) -> None:
        if self.state is ReviewState.ASKED:
            self.progress = (fraction, message, remaining)
            self.changed.emit()

    def _stop(self) -> None:
        self._timer.stop()
        if self._questionId is not None:
            self._client.forget(self._questionId)
        self._steps = self._questionId = self._volumeNode = None
        self.state = ReviewState.IDLE
        self.progress = (0.0, "", None)

    # --- keeping ----------------------------------------------------------------------------------
    def _table(self, create: bool) -> Any:
        if self.segmentationNode is None or self._parameters is None:
            return None
        return reviewTable(slicer.mrmlScene, self.segmentationNode, create)

    def _save(self, volumeNode: Any = None) -> None:
        node = self._table(create=True)
        if node is not None and self.review is not None:
            saveReview(node, self.review, volumeNode or self.volumeNode)

    def _notify(self, kind: str, text: str) -> None:
        self.notice = Notice(kind, text)
        self.changed.emit()
