"""The life of the worker: launch, load, deadlines, restart after a crash, end; and its state.

What is asked of the worker besides, and its answers, are the client's (`client.EngineClient`).
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from velcro_engine.messages.protocol import PROTOCOL_VERSION

from .observable import Signal
from .open_questions import OpenQuestions, Question
from .state import STATE_MESSAGES, EngineState
from .worker_process import STDERR_LINES, WorkerEvent, WorkerProcess

START_SECONDS = 120.0  # the first start of PythonSlicer on a cold network drive takes long


class WorkerLife:
    """One worker process at a time, and the state it is in.

    questions: the client's, among which the load is one. answered(header, payload): the worker said
    something else than hello. lost(): it is gone and the next one starts right after this call.
    failed(message): it will not come back by itself; the state is FAILED right after this call.

    isLoaded: the worker takes questions. mayRestart: the next crash is mended without the user.
    """

    def __init__(
        self,
        commandLine: Sequence[str],
        environment: Mapping[str, str] | None,
        loadOptions: Mapping[str, Any] | None,
        isInstalled: Callable[[], bool],
        clock: Callable[[], float],
        questions: OpenQuestions,
        answered: Callable[[dict[str, Any], bytes], None],
        lost: Callable[[], None],
        failed: Callable[[str], None],
    ) -> None:
        self.stateChanged = Signal("stateChanged")
        self.commandLine = list(commandLine)
        self.process: WorkerProcess | None = None
        self.state = EngineState.STOPPED
        self.message = STATE_MESSAGES[EngineState.STOPPED]
        self.log: deque[str] = deque(maxlen=STDERR_LINES)
        self.isLoaded = False
        self.mayRestart = True
        self._environment = environment
        self._loadOptions = dict(loadOptions or {})
        self._isInstalled = isInstalled
        self._clock = clock
        self._questions = questions
        self._answered = answered
        self._lost = lost
        self._failed = failed
        self._deadline: float | None = None  # of the start or of a cancel

    @property
    def isRunning(self) -> bool:
        """There is a process, perhaps one that is still being started."""
        return self.process is not None

    @property
    def isAwaited(self) -> bool:
        """It has to be ready, or to leave off, by some time."""
        return self._deadline is not None

    def start(self) -> None:
        """Start the worker unless it runs already. Returns at once."""
        if self.process is not None:
            return
        if not self._isInstalled():
            self.enter(EngineState.NOT_INSTALLED)
            return
        self.mayRestart = True
        self._launch(EngineState.STARTING)

    def startIfNeeded(self) -> None:
        """The same for a question that needs it; after a failure the user decides."""
        if self.state is not EngineState.FAILED:
            self.start()

    def stop(self, graceSeconds: float) -> None:
        """End the worker and its whole process tree; 0 kills at once. Returns at once."""
        process, self.process = self.process, None
        self.isLoaded, self._deadline = False, None
        if process is not None:
            process.dismiss(graceSeconds)
        self.enter(EngineState.STOPPED)

    def restart(self) -> None:
        """Kill the worker and start it anew."""
        if self.process is None and not self._isInstalled():
            self.enter(EngineState.NOT_INSTALLED)
            return
        self.mayRestart = True
        self._startAnew()

    def load(self, loadOptions: Mapping[str, Any]) -> None:
        """Load with these options from now on: at once if the worker runs."""
        self._loadOptions = dict(loadOptions)
        if self.process is not None:
            self.isLoaded = False
            self.enter(EngineState.STARTING, "Loading the model and the knowledge base")
            self._deadline = self._clock() + START_SECONDS
            self._sendLoad()

    def loadAnswered(self) -> None:
        """The worker takes questions now; the state stays as it is until `enterReady`."""
        self.isLoaded, self._deadline = True, None

    def enterReady(self) -> None:
        """After a load; the message tells when it was a restart that led there."""
        wasRestarted = self.state is EngineState.RESTARTING
        self.enter(EngineState.READY, "Ready; the engine was restarted" if wasRestarted else None)

    def cancelSent(self, seconds: float) -> None:
        """The worker has to leave off within so many seconds (`leftOff`), or it is replaced."""
        self._deadline = self._clock() + seconds
        self.enter(EngineState.CANCELLED)

    def leftOff(self) -> None:
        """Nothing is under way any more; the state stays CANCELLED until another is entered."""
        self._deadline = None

    def fail(self, message: str, detail: str, stopWorker: bool) -> None:
        """A state that only the user can leave: restart, other settings, installation."""
        self._deadline, self.isLoaded = None, False
        if stopWorker and self.process is not None:
            process, self.process = self.process, None
            process.kill()
        if detail:
            self.log.append(f"VelcroLink: {detail}")
        self._failed(message)
        self.enter(EngineState.FAILED, message)

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        """Send one frame; without a worker nothing happens."""
        if self.process is not None:
            self.process.send(header, payload)

    def enter(self, state: EngineState, message: str | None = None) -> None:
        """Change the state; None: with the message that goes with it. Tells only what is new."""
        message = STATE_MESSAGES[state] if message is None else message
        if (state, message) == (self.state, self.message):
            return
        self.state, self.message = state, message
        self.stateChanged.emit(state, message)

    def poll(self) -> None:
        """Deliver what the worker said; call from a timer on the main thread."""
        process = self.process
        if process is None:
            return
        # Slicer's main thread keeps Python's lock between its own calls into Python; without this
        # short sleep the reader thread would get no turn.
        time.sleep(0.001)
        while self.process is process:
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
        if not self.isLoaded and self._deadline is not None:
            # Whoever speaks is alive: reading a large model may take longer than a start may.
            self._deadline = self._clock() + START_SECONDS
        if header["type"] == "hello":
            self._onHello(header)
        else:
            self._answered(header, payload)

    def _onHello(self, header: dict[str, Any]) -> None:
        if header.get("protocol") != PROTOCOL_VERSION:
            self.fail(
                "The engine is of another version; install VelcroLink again.", repr(header), True
            )
            return
        self._sendLoad()

    def _sendLoad(self) -> None:
        self._questions.closeAll("load")  # an older load's answer no longer counts
        requestId = self._questions.add(self._questions.takeId(), Question("load"))
        self.send({**self._loadOptions, "type": "load", "id": requestId})

    def _onEnded(self, event: WorkerEvent) -> None:
        """The worker is gone without being asked to leave."""
        wasCancelled = self.state is EngineState.CANCELLED
        if wasCancelled or self.mayRestart:
            self.mayRestart = wasCancelled
            self._startAnew()
            return
        self.fail(f"{event.message} Press Restart to try again.", event.detail, True)

    def _onDeadline(self) -> None:
        if self.state is EngineState.CANCELLED:
            self._startAnew()  # it did not listen
        else:
            self.fail("The engine did not answer while starting; press Restart.", "", True)

    def _launch(self, state: EngineState) -> None:
        self.isLoaded = False
        self.process = WorkerProcess(self.commandLine, self._environment, self.log)
        self._deadline = self._clock() + START_SECONDS
        self.process.start()
        self.enter(state)

    def _startAnew(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()
        self._lost()
        self._launch(EngineState.RESTARTING)
