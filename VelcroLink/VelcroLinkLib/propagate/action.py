"""Propagate: carry the linked region of a slice through the volume and make it a segment.

One button below Accept, which reads Cancel while it works, and one line that says how far it is.
"""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from velcro_engine.errors import VelcroError

from ..engine.observable import Signal
from ..frame.link_session import LinkSession
from ..scene.mask_voxels import VoxelMask
from ..scene.slice_request import PlacedRequest
from .run import PropagationRun
from .segment import addEntrySegment, measuredText, recordResult
from .start import PropagationStart, promptFields

PLANES = ("axial", "coronal", "sagittal")


class PropagateAction:
    """The button `propagateButton` and the label `propagateLabel`, put below `layout`'s widgets.

    run: the propagation that runs, also one that corrects a segment; the button cancels both.
    made(segment id) is emitted for every new segment.
    """

    def __init__(self, parent: Any, layout: Any, session: LinkSession) -> None:
        self.made = Signal("segment propagated")
        self._session = session
        self.run = PropagationRun(session.client)
        self.button = qt.QPushButton(_("&Propagate"), parent)
        self.button.setObjectName("propagateButton")
        self.label = qt.QLabel(parent)
        self.label.setObjectName("propagateLabel")
        self.label.wordWrap = True
        self.label.textFormat = qt.Qt.PlainText
        layout.addWidget(self.button)
        layout.addWidget(self.label)
        self.button.connect("clicked(bool)", self._onClicked)
        session.changed.connect(self.render)
        self.run.changed.connect(self.render)
        self.render()

    def close(self) -> None:
        self._session.changed.disconnect(self.render)
        self.run.close()
        self.made.disconnectAll()

    def whyNot(self) -> str:
        """Why nothing can be propagated now, "" when it can."""
        session = self._session
        if session.placed is None or session.result is None or session.volumeNode is None:
            return _("Link a region first.")
        if session.placed.grid.plane not in PLANES:
            return _("Only regions on axial, coronal or sagittal slices can be propagated.")
        return ""

    # --- drawing --------------------------------------------------------------------------------
    def render(self) -> None:
        run = self.run
        if run.isRunning and self._session.volumeNode is not run.volumeNode:
            run.stop(tellWorker=True)  # closed, removed, or another one was chosen
        reason = "" if run.isRunning else self.whyNot()
        self.button.text = _("Cancel &propagation") if run.isRunning else _("&Propagate")
        self.button.enabled = not reason
        self.button.toolTip = reason or (
            _("Stop it; nothing is changed.")
            if run.isRunning
            else _("Carry this region through the volume, slice by slice, and make it a segment.")
        )
        self.label.text = run.progress
        self.label.setVisible(bool(run.progress))

    # --- what the user does -----------------------------------------------------------------------
    def _onClicked(self, _checked: bool) -> None:
        if self.run.isRunning:
            self.run.stop(tellWorker=True)
            self._session.notify("information", _("Propagation cancelled."))
            return
        if self.whyNot():
            return
        placed = self._session.placed
        self._session.notify("", "")
        self.run.start(
            self._session.volumeNode,
            promptFields(placed),
            onVoxels=lambda result, voxels: self._nameIt(placed, result, voxels),
            onFailed=self._session.notify,
        )

    # --- answers ------------------------------------------------------------------------------------
    def _nameIt(self, placed: PlacedRequest, result: dict[str, Any], voxels: VoxelMask) -> None:
        self.run.ask(
            "entry",
            {"entry_id": str(result.get("entry_id", ""))},
            lambda header, _payload: self._make(header, placed, result, voxels),
        )

    def _make(
        self,
        header: dict[str, Any],
        placed: PlacedRequest,
        result: dict[str, Any],
        voxels: VoxelMask,
    ) -> None:
        volumeNode, entry, side = self.run.volumeNode, dict(header["entry"]), result.get("side")
        self.run.stop(tellWorker=False)
        try:
            terminologies = slicer.util.getModuleLogic("Terminologies")
            segmentId = addEntrySegment(volumeNode, entry, side, voxels, terminologies)
            start = PropagationStart.of(volumeNode, placed, entry, side)
            name = recordResult(volumeNode, segmentId, start, result)
        except VelcroError as error:
            self._session.notify("error", error.message)
            return
        self.made.emit(segmentId)
        text = _("Propagated: {what}.").format(what=measuredText(name, result))
        self._session.notify("information", text)
