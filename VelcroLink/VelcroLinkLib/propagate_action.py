"""Propagate: carry the linked region of a slice through the volume and make it a segment.

One button below Accept, which reads Cancel while it works, and one line that says how far it is.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from velcro_engine.errors import InputError, VelcroError

from .link_session import LinkSession
from .mask_voxels import VoxelMask
from .results_table import addResult
from .review_request import copyVoxels, volumeFields, voxelBytes
from .segmentation_result import addEntrySegment
from .slice_request import PlacedRequest
from .volume_geometry import volumeFingerprint

PLANES = ("axial", "coronal", "sagittal")
STEP_SECONDS = 0.02  # of copying voxels before Slicer has its turn again
STEP_LAYERS = 8  # so that a step's bits begin and end with a whole byte


class PropagateAction:
    """The button `propagateButton` and the label `propagateLabel`, put below `layout`'s widgets."""

    def __init__(self, parent: Any, layout: Any, session: LinkSession) -> None:
        self._session = session
        self._client = session.client
        self._volumeNode: Any = None  # of the propagation that runs
        self._fingerprint = ""
        self._placed: PlacedRequest | None = None
        self._steps: Iterator[Any] | None = None
        self._questionId: int | None = None
        self._progress = ""
        self.button = qt.QPushButton(_("&Propagate"), parent)
        self.button.setObjectName("propagateButton")
        self.label = qt.QLabel(parent)
        self.label.setObjectName("propagateLabel")
        self.label.wordWrap = True
        self.label.textFormat = qt.Qt.PlainText
        layout.addWidget(self.button)
        layout.addWidget(self.label)
        self._timer = qt.QTimer()
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._step)
        self.button.connect("clicked(bool)", self._onClicked)
        session.changed.connect(self.render)
        self._client.progressed.connect(self._onProgress)
        self.render()

    def close(self) -> None:
        self._stop(tellWorker=True)
        self._session.changed.disconnect(self.render)
        self._client.progressed.disconnect(self._onProgress)

    @property
    def isRunning(self) -> bool:
        return self._volumeNode is not None

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
        if self.isRunning and self._session.volumeNode is not self._volumeNode:
            self._stop(tellWorker=True)  # closed, removed, or another one was chosen
        reason = "" if self.isRunning else self.whyNot()
        self.button.text = _("Cancel &propagation") if self.isRunning else _("&Propagate")
        self.button.enabled = not reason
        self.button.toolTip = reason or (
            _("Stop it; nothing is changed.")
            if self.isRunning
            else _("Carry this region through the volume, slice by slice, and make it a segment.")
        )
        self.label.text = self._progress
        self.label.setVisible(bool(self._progress))

    def _onProgress(self, fraction: float, message: str, remaining: float | None) -> None:
        if self._questionId is None:
            return
        self._progress = f"{message[:1].upper()}{message[1:]} ({100 * fraction:.0f} %)"
        if remaining is not None and remaining >= 1:
            self._progress += _(", {seconds:.0f} s left").format(seconds=remaining)
        self.render()

    # --- what the user does -----------------------------------------------------------------------
    def _onClicked(self, _checked: bool) -> None:
        if self.isRunning:
            self._stop(tellWorker=True)
            self._session.notify("information", _("Propagation cancelled."))
            return
        if self.whyNot():
            return
        self._placed = self._session.placed
        self._volumeNode = self._session.volumeNode
        self._fingerprint = volumeFingerprint(self._volumeNode)
        self._steps = self._questionSteps()
        self._progress = _("Reading the volume")
        self._session.notify("", "")
        self._timer.start()

    # --- asking -----------------------------------------------------------------------------------
    def _step(self) -> None:
        """Go on with reading the volume, or with unpacking the answer, for a moment."""
        end = perf_counter() + STEP_SECONDS
        try:
            while self._steps is not None and perf_counter() < end:
                if volumeFingerprint(self._volumeNode) != self._fingerprint:
                    raise InputError("The volume changed meanwhile; press Propagate again.")
                if next(self._steps, self) is self:
                    self._timer.stop()
                    return
        except VelcroError as error:
            self._fail("warning", error.message)

    def _questionSteps(self) -> Iterator[None]:
        assert self._placed is not None
        volume = volumeFields(self._volumeNode)
        payload = np.empty(voxelBytes(volume), dtype=np.uint8)
        yield from copyVoxels(self._volumeNode, volume, payload)
        fields = {"volume": volume, **promptFields(self._placed)}
        self._progress = _("Waiting for the engine")
        asked = self._client.ask(
            "propagate",
            fields,
            memoryview(payload),
            onAnswer=self._onAnswer,
            onError=self._onError,
        )
        if self.isRunning:  # asking may fail at once
            self._questionId = asked
        self.render()

    def _onAnswer(self, header: dict[str, Any], payload: bytes) -> None:
        self._questionId = None
        try:
            result = dict(header["result"])
            shape = tuple(int(n) for n in result["shape"])
            if 8 * len(payload) < int(np.prod(shape)):
                raise ValueError("too few voxels")
        except (KeyError, TypeError, ValueError):
            self._fail("error", "The engine's answer is damaged; try again.")
            return
        self._progress = _("Making the segment")
        self._steps = self._answerSteps(result, payload, shape)
        self._timer.start()
        self.render()

    def _answerSteps(
        self, result: dict[str, Any], payload: bytes, shape: tuple[int, ...]
    ) -> Iterator[None]:
        parts, first = [], 0
        area = shape[1] * shape[2]
        bits = np.frombuffer(payload, dtype=np.uint8)
        for k in range(0, shape[0], STEP_LAYERS):
            count = min(STEP_LAYERS, shape[0] - k) * area
            start = k * area // 8
            slab = np.unpackbits(bits[start : start + -(-count // 8)], count=count)
            slab = slab.reshape(-1, shape[1], shape[2]).astype(bool)
            if slab.any():
                first = first if parts else k
                # a gap between two parts stays empty layers
                while parts and first + sum(len(part) for part in parts) < k:
                    parts.append(np.zeros((STEP_LAYERS, *shape[1:]), dtype=bool))
                parts.append(slab)
            yield
        voxels = boxed(parts, first)
        asked = self._client.ask(
            "entry",
            {"entry_id": str(result.get("entry_id", ""))},
            onAnswer=lambda header, _payload: self._make(header, result, voxels),
            onError=self._onError,
        )
        if self.isRunning:
            self._questionId = asked

    def _make(self, header: dict[str, Any], result: dict[str, Any], voxels: VoxelMask) -> None:
        entry = dict(header["entry"])
        self._questionId = None
        volumeNode, placed = self._volumeNode, self._placed
        if volumeNode is None or placed is None:
            return  # cancelled while the entry was asked for
        side = result.get("side")
        try:
            terminologies = slicer.util.getModuleLogic("Terminologies")
            segmentId = addEntrySegment(volumeNode, entry, side, voxels, terminologies)
            row = resultRow(volumeNode, segmentId, entry, side, placed, result)
            addResult(volumeNode.GetScene(), row)
        except VelcroError as error:
            self._fail("error", error.message)
            return
        self._stop(tellWorker=False)
        self._session.notify("information", madeText(row["segment"], result))

    def _onError(self, kind: str, message: str, detail: str) -> None:
        if not self.isRunning:
            return
        if detail:
            logging.info("VelcroLink: %s: %s (%s)", kind, message, detail)
        self._questionId = None
        if kind == "cancelled":
            self._fail("information", _("Propagation cancelled."))
        else:
            self._fail("error", message)

    def _fail(self, kind: str, message: str) -> None:
        self._stop(tellWorker=False)
        self._session.notify(kind, message)

    def _stop(self, tellWorker: bool) -> None:
        self._timer.stop()
        questionId, self._questionId = self._questionId, None
        self._steps = self._volumeNode = self._placed = None
        self._progress = ""
        if questionId is not None:
            self._client.forget(questionId)
            if tellWorker:
                self._client.cancel()


def promptFields(placed: PlacedRequest) -> dict[str, Any]:
    """plane, at_ras and the region in RAS mm, as `review_handlers.propagate` reads them."""
    request, toRas = placed.request, placed.grid.pixelToRas
    if request.box is not None:
        x0, y0, x1, y1 = request.box
        pixels = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    else:
        pixels = [(x, y) for x, y, _label in request.points]
    ras = np.array([[x, y, 0.0] for x, y in pixels]) @ toRas[:3, :3].T + toRas[:3, 3]
    fields: dict[str, Any] = {"plane": placed.grid.plane, "at_ras": ras.mean(axis=0).tolist()}
    if request.box is not None:
        fields["corners_ras"] = ras.tolist()
    else:
        labels = [label for _x, _y, label in request.points]
        fields["points_ras"] = [
            [*place, label] for place, label in zip(ras.tolist(), labels, strict=True)
        ]
    return fields


def boxed(parts: list[np.ndarray], first: int) -> VoxelMask:
    """The layers from `first` on, cut down to what is set."""
    if not parts:
        return VoxelMask(np.zeros((0, 0, 0), dtype=bool), (0, 0, 0))
    whole = np.concatenate(parts)
    filled = [np.flatnonzero(whole.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    low, high = [int(f[0]) for f in filled], [int(f[-1]) + 1 for f in filled]
    box = whole[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    return VoxelMask(box, (low[2], low[1], low[0] + first))


def resultRow(
    volumeNode: Any,
    segmentId: str,
    entry: dict[str, Any],
    side: str | None,
    placed: PlacedRequest,
    result: dict[str, Any],
) -> dict[str, Any]:
    """The row of the results table."""
    from .segmentation_result import segmentationForVolume

    segmentation = segmentationForVolume(volumeNode).GetSegmentation()
    measured = ("volume_ml", "longest_diameter_mm", "perpendicular_mm")
    centre = promptFields(placed)["at_ras"]
    return {
        "volume": volumeNode.GetName(),
        "segment": segmentation.GetSegment(segmentId).GetName(),
        "segment_id": segmentId,
        "entry_id": entry["id"],
        "name": entry["name"],
        "side": side,
        "confidence": result.get("confidence"),
        "plane": placed.grid.plane,
        "centre_r": centre[0],
        "centre_a": centre[1],
        "centre_s": centre[2],
        "attributes": {key: result[key] for key in measured if result.get(key) is not None},
        "status": "propagated",
        "linked_as": result.get("entry_id"),
    }


def madeText(name: str, result: dict[str, Any]) -> str:
    """ "Propagated: Right thalamus, 6.20 ml, 31.0 x 20.1 mm."""
    parts = [name]
    if result.get("volume_ml") is not None:
        parts.append(f"{result['volume_ml']:.2f} ml")
    longest, across = result.get("longest_diameter_mm"), result.get("perpendicular_mm")
    if longest is not None and across is not None:
        parts.append(f"{longest:.1f} x {across:.1f} mm")
    return _("Propagated: {what}.").format(what=", ".join(parts))
