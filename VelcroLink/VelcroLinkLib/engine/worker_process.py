"""The worker as an operating-system process: pipes, threads and the end of its whole process tree.

Four threads keep the main thread free: one starts the process and reads its answers, one writes to
it (a pipe that is full would block whoever writes), one collects stderr, one waits for its end.
They touch neither MRML nor Qt; everything they learn goes into one queue.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from velcro_engine.errors import VelcroError
from velcro_engine.messages.protocol import frame_head, read_frame

STDERR_LINES = 400
READ_OUT_SECONDS = 0.2
_NO_WINDOW = 0x08000000  # CREATE_NO_WINDOW: no console flashes up over Slicer on Windows
_NEW_GROUP = 0x00000200  # CREATE_NEW_PROCESS_GROUP: Ctrl+C in Slicer's console spares the worker


@dataclass(frozen=True)
class WorkerEvent:
    """What a thread has to say. kind: "frame" (header, payload) or "ended" (message, detail)."""

    kind: str
    header: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""
    message: str = ""
    detail: str = ""


class WorkerProcess:
    """One start of the worker. Never reused: a restart makes a new one, so that late words of a
    dead worker cannot be taken for those of the living."""

    def __init__(
        self,
        commandLine: Sequence[str],
        environment: Mapping[str, str] | None = None,
        log: deque[str] | None = None,
    ) -> None:
        self._commandLine = list(commandLine)
        self._environment = None if environment is None else dict(environment)
        self.log: deque[str] = deque(maxlen=STDERR_LINES) if log is None else log
        self.events: queue.Queue[WorkerEvent] = queue.Queue()
        self._outbox: queue.Queue[bytes | None] = queue.Queue()
        self._process: subprocess.Popen[bytes] | None = None
        self._unwanted = threading.Event()  # killed, perhaps before the process exists
        self._gone = threading.Event()
        self._lock = threading.Lock()
        self._main = threading.Thread(target=self._run, name="VelcroLink worker", daemon=True)

    def start(self) -> None:
        """Start the process in the background: even forking may take longer than a frame."""
        self._main.start()

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def isGone(self) -> bool:
        """True when the process has ended (or never came to be)."""
        return self._gone.is_set()

    def send(self, header: Mapping[str, Any], payload: bytes = b"") -> None:
        """Queue one frame; returns at once: the payload is not copied and must not be changed any
        more. Raises ProtocolError for what cannot be a frame."""
        self._outbox.put(frame_head(dict(header), len(payload)))
        if len(payload) > 0:
            self._outbox.put(payload)

    def kill(self) -> None:
        """End the process and all its children at once, from any thread, without waiting."""
        self._unwanted.set()
        self._outbox.put(None)
        with self._lock:
            process = self._process
        if process is not None:
            _killTree(process)

    def dismiss(self, graceSeconds: float) -> None:
        """Say bye, close stdin, and kill the tree if it is still there after the grace time."""
        if graceSeconds <= 0:
            self.kill()
            return
        self.send({"type": "bye"})
        self._outbox.put(None)
        threading.Thread(
            target=self._killLater, args=(graceSeconds,), name="VelcroLink farewell", daemon=True
        ).start()

    def _killLater(self, graceSeconds: float) -> None:
        self._gone.wait(graceSeconds)
        # Also when the worker has left: a launcher or a child of it may have stayed behind.
        self.kill()

    def waitUntilGone(self, seconds: float) -> bool:
        """For tests and for the very end of the application; blocks up to `seconds`."""
        return self._gone.wait(seconds)

    def _run(self) -> None:
        try:
            process = _startProcess(self._commandLine, self._environment)
        except OSError as error:
            self._gone.set()
            self.events.put(
                WorkerEvent(
                    "ended",
                    message="The engine could not be started; check the interpreter in the "
                    "settings.",
                    detail=repr(error),
                )
            )
            return
        with self._lock:
            self._process = process
        if self._unwanted.is_set():
            _killTree(process)
        for target in (self._write, self._readErrors, self._watch):
            threading.Thread(target=target, args=(process,), daemon=True).start()
        detail = self._readAnswers(process)
        code = self._reap(process)
        self._gone.set()
        self.events.put(
            WorkerEvent("ended", message="The engine has stopped.", detail=f"{detail}exit {code}")
        )

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """A dead worker's children may hold its pipes open, so that the reader would wait for ever:
        end them too, after the last frames had time to be read."""
        process.wait()
        self._outbox.put(None)
        if not self._gone.wait(READ_OUT_SECONDS):
            _killTree(process)

    def _readAnswers(self, process: subprocess.Popen[bytes]) -> str:
        answers = cast(BinaryIO, process.stdout)
        try:
            while True:
                frame = read_frame(answers)
                if frame is None:
                    return ""
                self.events.put(WorkerEvent("frame", header=frame[0], payload=frame[1]))
        except (VelcroError, OSError, ValueError) as error:
            return f"{error} {getattr(error, 'detail', '')} "

    def _reap(self, process: subprocess.Popen[bytes]) -> int | None:
        """Wait for the end of a process whose stdout is closed, and clear its tree away."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=READ_OUT_SECONDS)
        _killTree(process)
        try:
            return process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            return None
        finally:
            self._outbox.put(None)

    def _write(self, process: subprocess.Popen[bytes]) -> None:
        stream = cast(BinaryIO, process.stdin)
        try:
            while (frame := self._outbox.get()) is not None:
                stream.write(frame)
                stream.flush()
        except (OSError, ValueError):
            pass  # the reader notices the end of the process and reports it
        finally:
            with contextlib.suppress(OSError):
                stream.close()

    def _readErrors(self, process: subprocess.Popen[bytes]) -> None:
        for line in cast(BinaryIO, process.stderr):
            self.log.append(line.decode("utf-8", "replace").rstrip())


def _startProcess(
    commandLine: Sequence[str], environment: Mapping[str, str] | None
) -> subprocess.Popen[bytes]:
    pipes: dict[str, Any] = {
        "stdin": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "env": None if environment is None else dict(environment),
    }
    if sys.platform == "win32":
        pipes["creationflags"] = _NO_WINDOW | _NEW_GROUP
    else:
        # A session of its own, so that killpg reaches PythonSlicer's child, the real Python.
        pipes["start_new_session"] = True
    return subprocess.Popen(list(commandLine), **pipes)


def _killTree(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its children. Killing only PythonSlicer, a launcher, would leave the real
    Python running with the model in memory."""
    if sys.platform == "win32":
        if process.poll() is None:
            # taskkill takes up to half a second, hence not on the caller's thread.
            threading.Thread(target=_taskkill, args=(process.pid,), daemon=True).start()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _taskkill(pid: int) -> None:
    started = time.monotonic()
    while time.monotonic() - started < 3.0:
        done = subprocess.run(
            ["taskkill", "/F", "/T", "/PID", str(pid)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            creationflags=_NO_WINDOW,
            check=False,
        )
        if done.returncode in (0, 128):  # 128: no such process
            return
        time.sleep(0.1)
