"""Talks to the engine's worker: asks, cancels, delivers answers; the door to its process.

Pure Python: the widget calls `poll()` from a qt.QTimer (every 20 ms). All signals are emitted from
there or from the calling method, always on the main thread; nothing here blocks.

Newest wins: one link is with the worker at a time, and of those asked for meanwhile only the last
is kept, so that dragging a handle shows every result that can be shown and never queues up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from velcro_engine.errors import ProtocolError

from ..scene.slice_request import PlacedRequest
from .observable import Signal
from .open_questions import OpenQuestions, Question, callSafely
from .state import EngineState
from .worker_life import WorkerLife

CANCEL_SECONDS = 0.7  # a worker that has not answered a cancel by then is killed
ANSWER_TYPES = {"load": "ready", "link": "linked", "search": "found"}  # others repeat their type


class EngineClient:
    """One worker process and what is asked of it.

    commandLine: list of the worker's arguments (never one string: paths hold spaces).
    environment: whole environment of the worker (None: inherit).
    loadOptions: {"model", "knowledge_bases", "data"} of the protocol's load message.
    isInstalled: asked at start; False leads to NOT_INSTALLED instead of a process.
    isCurrent: whether a result for this PlacedRequest may still be shown (its volume exists and has
        the same fingerprint); a stale one is dropped (`dropped`).
    """

    def __init__(
        self,
        commandLine: Sequence[str],
        environment: Mapping[str, str] | None = None,
        loadOptions: Mapping[str, Any] | None = None,
        isInstalled: Callable[[], bool] | None = None,
        isCurrent: Callable[[PlacedRequest], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._questions = OpenQuestions()
        self._life = WorkerLife(
            commandLine,
            environment,
            loadOptions,
            isInstalled or (lambda: True),
            clock,
            self._questions,
            answered=self._onAnswer,
            lost=self._onLost,
            failed=self._onFailed,
        )
        self.stateChanged = self._life.stateChanged  # (EngineState, message: str)
        self.loaded = Signal("loaded")  # (header of the "ready" answer: dict)
        self.linked = Signal("linked")  # (LinkResult, PlacedRequest)
        self.linkFailed = Signal("linkFailed")  # (kind: str, message: str, detail: str)
        self.progressed = Signal("progressed")  # (fraction, message, remainingSeconds | None)
        self.dropped = Signal("dropped")  # (PlacedRequest): the volume changed meanwhile
        self._isCurrent = isCurrent or (lambda placed: True)
        self._waiting: list[tuple[int, dict[str, Any], bytes]] = []  # until the worker is loaded
        self._inFlight: int | None = None  # id of the link that is with the worker
        self._newest: tuple[int, PlacedRequest] | None = None  # the link that goes next

    @property
    def state(self) -> EngineState:
        return self._life.state

    @property
    def message(self) -> str:
        """One line about the state, for the state line of the panel."""
        return self._life.message

    @property
    def log(self) -> str:
        """What the worker wrote to stderr (last 400 lines), for the log and for bug reports."""
        return "\n".join(self._life.log)

    @property
    def processId(self) -> int | None:
        return None if self._life.process is None else self._life.process.pid

    @property
    def isBusy(self) -> bool:
        """True while an answer is awaited or the worker is being started."""
        return bool(self._questions) or self._newest is not None or self._life.isAwaited

    def start(self) -> None:
        """Start the worker unless it runs already. Returns at once."""
        self._life.start()

    def stop(self, graceSeconds: float = 0.5) -> None:
        """End the worker and its whole process tree; 0 kills at once (application quits).

        Nothing asked before is answered; returns at once.
        """
        self._questions.closeAll()
        self._waiting, self._inFlight, self._newest = [], None, None
        self._life.stop(graceSeconds)

    def restart(self) -> None:
        """Kill the worker and start it anew (the user's button); the newest link is asked again."""
        self._life.restart()

    def load(self, loadOptions: Mapping[str, Any]) -> None:
        """Use another model or other knowledge bases. Links wait until they are loaded."""
        self._life.load(loadOptions)

    def link(self, placed: PlacedRequest) -> int:
        """Ask for a link; the newest wins. Starts the worker if needed. Returns the request id."""
        requestId = self._questions.takeId()
        self._newest = (requestId, placed)
        running = self._questions.get(self._inFlight)
        if running is not None and running.isOnOtherSlice(placed) and not running.unwanted:
            # Its slice is no longer looked at: let the worker stop encoding it if it can.
            running.unwanted = True
            self._sendCancel(self._inFlight)
        self._life.startIfNeeded()
        if self.state is EngineState.FAILED:
            # Not started anew for every movement of the mouse: the user decides. The newest region
            # is kept and linked as soon as the engine runs again.
            self.linkFailed.emit("error", self.message, "")
        self._sendNewest()
        return requestId

    def ask(
        self,
        messageType: str,
        fields: Mapping[str, Any] | None = None,
        payload: bytes = b"",
        onAnswer: Callable[[dict[str, Any], bytes], None] | None = None,
        onError: Callable[[str, str, str], None] | None = None,
    ) -> int:
        """Any other message of the protocol (entry, search, ground, cases, ...).

        onAnswer(header, payload); onError(kind, message, detail). Starts the worker if needed and
        waits for it. A worker that ends before the answer gives onError("error", ...).
        """
        requestId = self._questions.takeId()
        header = {**dict(fields or {}), "type": messageType, "id": requestId}
        self._life.startIfNeeded()
        if not self._life.isRunning or self.state is EngineState.FAILED:
            if onError is not None:
                onError("error", self.message, "")
            return requestId
        self._questions.add(requestId, Question(messageType, onAnswer, onError))
        if self._life.isLoaded:
            self._life.send(header, payload)
        else:
            self._waiting.append((requestId, header, payload))
        return requestId

    def forget(self, requestId: int) -> None:
        """Do not call back for this request any more (its page of the panel is gone)."""
        asked = self._questions.get(requestId)
        if asked is not None:
            asked.unwanted = True
            asked.onAnswer = asked.onError = None

    def cancel(self) -> None:
        """Cancel what is running: done in under one second, the worker is killed if it does not
        answer within 0.7 s. Cancelling the start ends the worker."""
        if not self._life.isRunning or self.state is EngineState.CANCELLED:
            return
        self._newest = None
        if not self._life.isLoaded:
            self._failAll("cancelled", "Cancelled.")
            self.stop(0.0)
            self._life.enter(EngineState.CANCELLED)
            return
        if not self._questions:
            return
        for requestId in self._questions.markUnwanted():
            self._sendCancel(requestId)
        self._life.cancelSent(CANCEL_SECONDS)

    def poll(self) -> None:
        """Deliver what the worker said; call from a timer on the main thread."""
        self._life.poll()

    def _onAnswer(self, header: dict[str, Any], payload: bytes) -> None:
        kind = header["type"]
        asked = self._questions.get(header.get("id"))
        if asked is None:
            return  # answer to something cancelled or forgotten
        if kind == "progress":
            if not asked.unwanted:
                fraction = float(header.get("fraction") or 0.0)
                remaining = header.get("remaining_s")
                self.progressed.emit(fraction, str(header.get("message", "")), remaining)
            return
        self._questions.close(header["id"])
        if header["id"] == self._inFlight:
            self._inFlight = None
        if kind == "error":
            self._onError(asked, header)
        elif kind != ANSWER_TYPES.get(asked.messageType, asked.messageType):
            self._onError(asked, {"kind": "protocol", "message": f"Unexpected answer '{kind}'."})
        elif asked.messageType == "load":
            self._onReady(header)
        elif asked.messageType == "link":
            self._onLinked(asked, header, payload)
        else:
            asked.answer(header, payload)
        self._afterAnswer()

    def _afterAnswer(self) -> None:
        """Send the next link, or come to rest."""
        if not self._life.isRunning or not self._life.isLoaded:
            return
        if self.state is EngineState.CANCELLED:
            if self._questions:
                return
            self._life.leftOff()
            if self._newest is None:
                self._life.enter(EngineState.READY, "Cancelled")
        self._sendNewest()
        if self._inFlight is None and self.state is EngineState.LINKING:
            self._life.enter(EngineState.READY)

    def _onReady(self, header: dict[str, Any]) -> None:
        self._life.loadAnswered()
        waiting, self._waiting = self._waiting, []
        for requestId, message, payload in waiting:
            if self._questions.get(requestId) is not None:
                self._life.send(message, payload)
        self.loaded.emit(header)
        self._life.enterReady()

    def _onLinked(self, asked: Question, header: dict[str, Any], payload: bytes) -> None:
        if asked.unwanted:
            return
        try:
            result = asked.linkResult(header, payload)
        except ProtocolError as error:
            self.linkFailed.emit(error.kind, error.message, error.detail)
            return
        self._life.mayRestart = True  # it works: the next crash may be mended again
        if not callSafely(self._isCurrent, asked.placed):
            self.dropped.emit(asked.placed)
            return
        self.linked.emit(result, asked.placed)

    def _onError(self, asked: Question, header: dict[str, Any]) -> None:
        kind = str(header.get("kind", "error"))
        message, detail = str(header.get("message", "")), str(header.get("detail", ""))
        if asked.messageType == "load":
            self._life.fail(message, detail, stopWorker=False)
        elif kind == "cancelled" or asked.unwanted:
            asked.fail("cancelled", "Cancelled.", detail)
        elif asked.messageType == "link":
            self.linkFailed.emit(kind, message, detail)
        else:
            asked.fail(kind, message, detail)

    def _onLost(self) -> None:
        """A link under way that is still wanted is asked again of the next worker."""
        running = self._questions.close(self._inFlight)
        wanted = running.placed if running is not None and not running.unwanted else None
        if self._newest is None and wanted is not None:
            self._newest = (self._questions.takeId(), wanted)
        self._inFlight = None
        self._failAll("error", "The engine was restarted; repeat the action.")

    def _onFailed(self, message: str) -> None:
        self._newest = self._inFlight = None
        self._failAll("error", message)

    def _failAll(self, kind: str, message: str) -> None:
        self._waiting.clear()
        for question in self._questions.closeAll():
            question.fail(kind, message)

    def _sendNewest(self) -> None:
        if self._newest is None or self._inFlight is not None or not self._life.isLoaded:
            return
        if self.state is EngineState.CANCELLED and self._questions:
            return  # first the cancelled ones must end
        (requestId, placed), self._newest = self._newest, None
        header, payload = placed.request.to_message()
        self._questions.add(requestId, Question("link", placed=placed))
        self._inFlight = requestId
        self._life.send({"type": "link", "id": requestId, "request": header}, payload)
        self._life.enter(EngineState.LINKING)

    def _sendCancel(self, requestId: int | None) -> None:
        header = {"type": "cancel", "id": self._questions.takeId(), "cancel_id": requestId}
        self._life.send(header)
