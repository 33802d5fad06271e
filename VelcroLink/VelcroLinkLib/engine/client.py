"""Talks to the engine's worker process: starts, feeds, cancels, restarts and ends it.

Pure Python: the widget calls `poll()` from a qt.QTimer (every 20 ms). All signals are emitted from
there or from the calling method, always on the main thread; nothing here blocks.

Newest wins: one link is with the worker at a time, and of those asked for meanwhile only the last
is kept, so that dragging a handle shows every result that can be shown and never queues up.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from velcro_engine.errors import ProtocolError
from velcro_engine.messages.protocol import PROTOCOL_VERSION

from ..scene.slice_request import PlacedRequest
from .observable import Signal
from .open_questions import OpenQuestions, Question, callSafely
from .state import STATE_MESSAGES, EngineState
from .worker_process import STDERR_LINES, WorkerEvent, WorkerProcess

CANCEL_SECONDS = 0.7  # a worker that has not answered a cancel by then is killed
START_SECONDS = 120.0  # the first start of PythonSlicer on a cold network drive takes long
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
        self.stateChanged = Signal("stateChanged")  # (EngineState, message: str)
        self.loaded = Signal("loaded")  # (header of the "ready" answer: dict)
        self.linked = Signal("linked")  # (LinkResult, PlacedRequest)
        self.linkFailed = Signal("linkFailed")  # (kind: str, message: str, detail: str)
        self.progressed = Signal("progressed")  # (fraction, message, remainingSeconds | None)
        self.dropped = Signal("dropped")  # (PlacedRequest): the volume changed meanwhile
        self._commandLine = list(commandLine)
        self._environment = environment
        self._loadOptions = dict(loadOptions or {})
        self._isInstalled = isInstalled or (lambda: True)
        self._isCurrent = isCurrent or (lambda placed: True)
        self._clock = clock
        self._log: deque[str] = deque(maxlen=STDERR_LINES)
        self._process: WorkerProcess | None = None
        self._state = EngineState.STOPPED
        self._message = STATE_MESSAGES[EngineState.STOPPED]
        self._loaded = False
        self._questions = OpenQuestions()
        self._waiting: list[tuple[int, dict[str, Any], bytes]] = []  # until the worker is loaded
        self._inFlight: int | None = None  # id of the link that is with the worker
        self._newest: tuple[int, PlacedRequest] | None = None  # the link that goes next
        self._deadline: float | None = None  # of the start or of a cancel
        self._mayRestart = True

    @property
    def state(self) -> EngineState:
        return self._state

    @property
    def message(self) -> str:
        """One line about the state, for the state line of the panel."""
        return self._message

    @property
    def log(self) -> str:
        """What the worker wrote to stderr (last 400 lines), for the log and for bug reports."""
        return "\n".join(self._log)

    @property
    def processId(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def isBusy(self) -> bool:
        """True while an answer is awaited or the worker is being started."""
        return bool(self._questions) or self._newest is not None or self._deadline is not None

    def start(self) -> None:
        """Start the worker unless it runs already. Returns at once."""
        if self._process is not None:
            return
        if not self._isInstalled():
            self._enter(EngineState.NOT_INSTALLED)
            return
        self._mayRestart = True
        self._launch(EngineState.STARTING)

    def stop(self, graceSeconds: float = 0.5) -> None:
        """End the worker and its whole process tree; 0 kills at once (application quits).

        Nothing asked before is answered; returns at once.
        """
        process, self._process = self._process, None
        self._loaded, self._deadline = False, None
        self._questions.closeAll()
        self._waiting, self._inFlight, self._newest = [], None, None
        if process is not None:
            process.dismiss(graceSeconds)
        self._enter(EngineState.STOPPED)

    def restart(self) -> None:
        """Kill the worker and start it anew (the user's button); the newest link is asked again."""
        if self._process is None and not self._isInstalled():
            self._enter(EngineState.NOT_INSTALLED)
            return
        self._mayRestart = True
        self._startAnew()

    def load(self, loadOptions: Mapping[str, Any]) -> None:
        """Use another model or other knowledge bases. Links wait until they are loaded."""
        self._loadOptions = dict(loadOptions)
        if self._process is not None:
            self._loaded = False
            self._enter(EngineState.STARTING, "Loading the model and the knowledge base")
            self._deadline = self._clock() + START_SECONDS
            self._sendLoad()

    def link(self, placed: PlacedRequest) -> int:
        """Ask for a link; the newest wins. Starts the worker if needed. Returns the request id."""
        requestId = self._questions.takeId()
        self._newest = (requestId, placed)
        running = self._questions.get(self._inFlight)
        if running is not None and running.isOnOtherSlice(placed) and not running.unwanted:
            # Its slice is no longer looked at: let the worker stop encoding it if it can.
            running.unwanted = True
            self._sendCancel(self._inFlight)
        if self._process is None and self._state is not EngineState.FAILED:
            self.start()
        if self._state is EngineState.FAILED:
            # Not started anew for every movement of the mouse: the user decides. The newest region
            # is kept and linked as soon as the engine runs again.
            self.linkFailed.emit("error", self._message, "")
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
        if self._process is None and self._state is not EngineState.FAILED:
            self.start()
        if self._process is None or self._state is EngineState.FAILED:
            if onError is not None:
                onError("error", self._message, "")
            return requestId
        self._questions.add(requestId, Question(messageType, onAnswer, onError))
        if self._loaded:
            self._send(header, payload)
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
        if self._process is None or self._state is EngineState.CANCELLED:
            return
        self._newest = None
        if not self._loaded:
            self._failAll("cancelled", "Cancelled.")
            self.stop(0.0)
            self._enter(EngineState.CANCELLED)
            return
        if not self._questions:
            return
        for requestId in self._questions.markUnwanted():
            self._sendCancel(requestId)
        self._deadline = self._clock() + CANCEL_SECONDS
        self._enter(EngineState.CANCELLED)

    def poll(self) -> None:
        """Deliver what the worker said; call from a timer on the main thread."""
        process = self._process
        if process is None:
            return
        # Slicer's main thread keeps Python's lock between its own calls into Python; without this
        # short sleep the reader thread would get no turn.
        time.sleep(0.001)
        while self._process is process:
            try:
                event = process.events.get_nowait()
            except queue.Empty:
                break
            if event.kind == "ended":
                self._onEnded(event)
            else:
                self._onFrame(event.header, event.payload)
        if self._deadline is not None and self._clock() >= self._deadline:
            self._onDeadline()

    def _onFrame(self, header: dict[str, Any], payload: bytes) -> None:
        kind = header["type"]
        if not self._loaded and self._deadline is not None:
            # Whoever speaks is alive: reading a large model may take longer than a start may.
            self._deadline = self._clock() + START_SECONDS
        if kind == "hello":
            self._onHello(header)
            return
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
        if self._process is None or not self._loaded:
            return
        if self._state is EngineState.CANCELLED:
            if self._questions:
                return
            self._deadline = None
            if self._newest is None:
                self._enter(EngineState.READY, "Cancelled")
        self._sendNewest()
        if self._inFlight is None and self._state is EngineState.LINKING:
            self._enter(EngineState.READY)

    def _onHello(self, header: dict[str, Any]) -> None:
        if header.get("protocol") != PROTOCOL_VERSION:
            self._fail(
                "The engine is of another version; install VelcroLink again.", repr(header), True
            )
            return
        self._sendLoad()

    def _onReady(self, header: dict[str, Any]) -> None:
        self._loaded, self._deadline = True, None
        waiting, self._waiting = self._waiting, []
        for requestId, message, payload in waiting:
            if self._questions.get(requestId) is not None:
                self._send(message, payload)
        self.loaded.emit(header)
        wasRestarted = self._state is EngineState.RESTARTING
        self._enter(EngineState.READY, "Ready; the engine was restarted" if wasRestarted else None)

    def _onLinked(self, asked: Question, header: dict[str, Any], payload: bytes) -> None:
        if asked.unwanted:
            return
        try:
            result = asked.linkResult(header, payload)
        except ProtocolError as error:
            self.linkFailed.emit(error.kind, error.message, error.detail)
            return
        self._mayRestart = True  # it works: the next crash may be mended again
        if not callSafely(self._isCurrent, asked.placed):
            self.dropped.emit(asked.placed)
            return
        self.linked.emit(result, asked.placed)

    def _onError(self, asked: Question, header: dict[str, Any]) -> None:
        kind = str(header.get("kind", "error"))
        message, detail = str(header.get("message", "")), str(header.get("detail", ""))
        if asked.messageType == "load":
            self._fail(message, detail, stopWorker=False)
        elif kind == "cancelled" or asked.unwanted:
            asked.fail("cancelled", "Cancelled.", detail)
        elif asked.messageType == "link":
            self.linkFailed.emit(kind, message, detail)
        else:
            asked.fail(kind, message, detail)

    def _onEnded(self, event: WorkerEvent) -> None:
        """The worker is gone without being asked to leave."""
        wasCancelled = self._state is EngineState.CANCELLED
        if wasCancelled or self._mayRestart:
            self._mayRestart = wasCancelled
            self._startAnew()
            return
        self._fail(f"{event.message} Press Restart to try again.", event.detail, True)

    def _onDeadline(self) -> None:
        if self._state is EngineState.CANCELLED:
            self._startAnew()  # it did not listen
        else:
            self._fail("The engine did not answer while starting; press Restart.", "", True)

    def _launch(self, state: EngineState) -> None:
        self._loaded = False
        self._process = WorkerProcess(self._commandLine, self._environment, self._log)
        self._deadline = self._clock() + START_SECONDS
        self._process.start()
        self._enter(state)

    def _startAnew(self) -> None:
        """Replace the worker; a link under way that is still wanted is asked again."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
        running = self._questions.close(self._inFlight)
        wanted = running.placed if running is not None and not running.unwanted else None
        if self._newest is None and wanted is not None:
            self._newest = (self._questions.takeId(), wanted)
        self._inFlight = None
        self._failAll("error", "The engine was restarted; repeat the action.")
        self._launch(EngineState.RESTARTING)

    def _fail(self, message: str, detail: str, stopWorker: bool) -> None:
        """A state that only the user can leave: restart, other settings, installation."""
        self._deadline, self._loaded = None, False
        self._newest = self._inFlight = None
        if stopWorker and self._process is not None:
            process, self._process = self._process, None
            process.kill()
        if detail:
            self._log.append(f"VelcroLink: {detail}")
        self._failAll("error", message)
        self._enter(EngineState.FAILED, message)

    def _failAll(self, kind: str, message: str) -> None:
        self._waiting.clear()
        for question in self._questions.closeAll():
            question.fail(kind, message)

    def _sendLoad(self) -> None:
        self._questions.closeAll("load")  # an older load's answer no longer counts
        requestId = self._questions.add(self._questions.takeId(), Question("load"))
        self._send({**self._loadOptions, "type": "load", "id": requestId})

    def _sendNewest(self) -> None:
        if self._newest is None or self._inFlight is not None or not self._loaded:
            return
        if self._state is EngineState.CANCELLED and self._questions:
            return  # first the cancelled ones must end
        (requestId, placed), self._newest = self._newest, None
        header, payload = placed.request.to_message()
        self._questions.add(requestId, Question("link", placed=placed))
        self._inFlight = requestId
        self._send({"type": "link", "id": requestId, "request": header}, payload)
        self._enter(EngineState.LINKING)

    def _sendCancel(self, requestId: int | None) -> None:
        self._send({"type": "cancel", "id": self._questions.takeId(), "cancel_id": requestId})

    def _send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        if self._process is not None:
            self._process.send(header, payload)

    def _enter(self, state: EngineState, message: str | None = None) -> None:
        message = STATE_MESSAGES[state] if message is None else message
        if (state, message) == (self._state, self._message):
            return
        self._state, self._message = state, message
        self.stateChanged.emit(state, message)
