"""One propagation at a time: the volume goes to the worker, the voxels of a segment come back.

Knows no segment and no widget: who starts it says what to do with the voxels. All of it runs on the
main thread in short steps, so that Slicer never waits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import numpy as np
import qt
from slicer.i18n import tr as _

from velcro_engine.errors import InputError, VelcroError

from ..engine.client import EngineClient
from ..engine.observable import Signal
from ..scene.mask_voxels import VoxelMask
from ..scene.volume_geometry import volumeFingerprint
from ..scene.volume_message import copyVoxels, volumeFields, voxelBytes

STEP_SECONDS = 0.02  # of copying voxels before Slicer has its turn again
STEP_LAYERS = 8  # so that a step's bits begin and end with a whole byte

OnVoxels = Callable[[dict[str, Any], VoxelMask], None]
OnFailed = Callable[[str, str], None]


class PropagationRun:
    """`changed` is emitted when it starts, gets further or ends. progress: one line, "" when idle.

    volumeNode: of the propagation that runs, None when none does.
    """

    def __init__(self, client: EngineClient) -> None:
        self.changed = Signal("propagation changed")
        self.volumeNode: Any = None
        self.progress = ""
        self._client = client
        self._fingerprint = ""
        self._fields: dict[str, Any] = {}
        self._onVoxels: OnVoxels | None = None
        self._onFailed: OnFailed | None = None
        self._steps: Iterator[Any] | None = None
        self._questionId: int | None = None
        self._timer = qt.QTimer()
        self._timer.setInterval(0)
        self._timer.connect("timeout()", self._step)
        client.progressed.connect(self._onProgress)

    def close(self) -> None:
        self.stop(tellWorker=True)
        self._client.progressed.disconnect(self._onProgress)
        self.changed.disconnectAll()

    @property
    def isRunning(self) -> bool:
        return self.volumeNode is not None

    def start(
        self,
        volumeNode: Any,
        fields: dict[str, Any],
        onVoxels: OnVoxels,
        onFailed: OnFailed,
        sentBefore: bool = False,
    ) -> None:
        """Begin. fields: plane, region and corrections as `review_handlers.propagate` reads them.

        onVoxels(result, voxels): it counts as running until `stop` is called there. onFailed(kind,
        message): it has ended; kind as in `LinkSession.notify`. sentBefore: the worker probably has
        this volume still. It then keeps the layers that no new correction touches; when it does not
        have it, the voxels are sent after all.
        """
        self.stop(tellWorker=True)
        self.volumeNode = volumeNode
        self._fingerprint = volumeFingerprint(volumeNode)
        self._fields, self._onVoxels, self._onFailed = fields, onVoxels, onFailed
        if sentBefore:
            self._askForVoxels({"id": self._fingerprint}, b"", self._onErrorWithoutVoxels)
        else:
            self._sendVoxels()

    def ask(self, messageType: str, fields: dict[str, Any], onAnswer: Callable) -> None:
        """Ask the worker something more that belongs to the run: it ends with it when it fails."""
        self._ask(messageType, fields, b"", onAnswer, self._onError)

    def stop(self, tellWorker: bool) -> None:
        """End it, finished or not; its callbacks are not called any more."""
        wasRunning = self.isRunning
        self._timer.stop()
        questionId, self._questionId = self._questionId, None
        self._steps = self.volumeNode = self._onVoxels = self._onFailed = None
        self.progress = ""
        if questionId is not None:
            self._client.forget(questionId)
            if tellWorker:
                self._client.cancel()
        if wasRunning:
            self.changed.emit()

    def _fail(self, kind: str, message: str) -> None:
        onFailed = self._onFailed
        self.stop(tellWorker=False)
        if onFailed is not None:
            onFailed(kind, message)

    def _onProgress(self, fraction: float, message: str, remaining: float | None) -> None:
        if self._questionId is None:
            return
        self.progress = f"{message[:1].upper()}{message[1:]} ({100 * fraction:.0f} %)"
        if remaining is not None and remaining >= 1:
            self.progress += _(", {seconds:.0f} s left").format(seconds=remaining)
        self.changed.emit()

    def _step(self) -> None:
        """Go on with reading the volume, or with unpacking the answer, for a moment."""
        end = perf_counter() + STEP_SECONDS
        try:
            while self._steps is not None and perf_counter() < end:
                if volumeFingerprint(self.volumeNode) != self._fingerprint:
                    raise InputError("The volume changed meanwhile; press Propagate again.")
                if next(self._steps, self) is self:
                    self._timer.stop()
                    return
        except VelcroError as error:
            self._fail("warning", error.message)

    # --- asking -----------------------------------------------------------------------------------
    def _sendVoxels(self) -> None:
        self._steps = self._questionSteps()
        self.progress = _("Reading the volume")
        self._timer.start()
        self.changed.emit()

    def _questionSteps(self) -> Iterator[None]:
        volume = volumeFields(self.volumeNode)
        payload = np.empty(voxelBytes(volume), dtype=np.uint8)
        yield from copyVoxels(self.volumeNode, volume, payload)
        self._askForVoxels(volume, memoryview(payload), self._onError)

    def _askForVoxels(self, volume: dict[str, Any], payload: Any, onError: Callable) -> None:
        self.progress = _("Waiting for the engine")
        fields = {"volume": volume, **self._fields}
        self._ask("propagate", fields, payload, self._onAnswer, onError)
        self.changed.emit()

    def _ask(
        self,
        messageType: str,
        fields: dict[str, Any],
        payload: Any,
        onAnswer: Callable,
        onError: Callable,
    ) -> None:
        self._questionId = None
        asked = self._client.ask(messageType, fields, payload, onAnswer=onAnswer, onError=onError)
        if self.isRunning:  # asking may fail at once
            self._questionId = asked

    def _onErrorWithoutVoxels(self, kind: str, message: str, detail: str) -> None:
        """The worker was restarted or has seen another volume since: it needs the voxels again. Any
        other fault of the question comes back with the answer to the second one."""
        if kind == "input" and self.isRunning:
            self._questionId = None
            self._sendVoxels()
        else:
            self._onError(kind, message, detail)

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

    def _onAnswer(self, header: dict[str, Any], payload: bytes) -> None:
        self._questionId = None
        try:
            result = dict(header["result"])
            shape = tuple(int(n) for n in result["shape"])
            if 8 * len(payload) < int(np.prod(shape)):
                raise ValueError("too few voxels")
        except (KeyError, TypeError, ValueError):
            self._fail("error", _("The engine's answer is damaged; try again."))
            return
        self.progress = _("Making the segment")
        self._steps = self._answerSteps(result, payload, shape)
        self._timer.start()
        self.changed.emit()

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
        if self._onVoxels is not None:
            self._onVoxels(result, boxed(parts, first))


def boxed(parts: list[np.ndarray], first: int) -> VoxelMask:
    """The layers from `first` on, cut down to what is set."""
    if not parts:
        return VoxelMask(np.zeros((0, 0, 0), dtype=bool), (0, 0, 0))
    whole = np.concatenate(parts)
    filled = [np.flatnonzero(whole.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    low, high = [int(f[0]) for f in filled], [int(f[-1]) + 1 for f in filled]
    box = whole[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    return VoxelMask(box, (low[2], low[1], low[0] + first))
