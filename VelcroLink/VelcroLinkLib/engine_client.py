"""Talks to the engine's worker process: starts, feeds, cancels, restarts and ends it.

Pure Python: the widget calls `poll()` from a qt.QTimer (every 20 ms). All signals are emitted from
there or from the calling method, always on the main thread; nothing here blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

from velcro_engine.request import SliceRequest

from .observable import Signal


class EngineState(Enum):
    STOPPED = "stopped"
    NOT_INSTALLED = "notInstalled"
    STARTING = "starting"
    READY = "ready"
    LINKING = "linking"
    CANCELLED = "cancelled"
    FAILED = "failed"
    RESTARTING = "restarting"


class EngineClient:
    """One worker process and what is asked of it.

    commandLine: list of the worker's arguments (never one string: paths hold spaces).
    environment: whole environment of the worker (None: inherit).
    loadOptions: {"model", "knowledge_bases", "data"} of the protocol's load message.
    isInstalled: asked at start; False leads to NOT_INSTALLED instead of a process.
    currentFingerprint: fingerprint of the volume shown now; a result whose fingerprint differs is
        dropped (`dropped`).
    """

    def __init__(
        self,
        commandLine: Sequence[str],
        environment: Mapping[str, str] | None = None,
        loadOptions: Mapping[str, Any] | None = None,
        isInstalled: Callable[[], bool] | None = None,
        currentFingerprint: Callable[[], str] | None = None,
    ) -> None:
        self.stateChanged = Signal("stateChanged")  # (EngineState, message: str)
        self.linked = Signal("linked")  # (LinkResult, SliceRequest, fingerprint: str)
        self.linkFailed = Signal("linkFailed")  # (kind: str, message: str, detail: str)
        self.progressed = Signal("progressed")  # (fraction, message, remainingSeconds | None)
        self.dropped = Signal("dropped")  # (fingerprint: str) the volume changed meanwhile
        raise NotImplementedError

    def start(self) -> None: ...

    def stop(self, graceSeconds: float = 0.5) -> None:
        """End the worker and its whole process tree; 0 kills at once (application quits)."""

    def restart(self) -> None: ...

    def load(self, loadOptions: Mapping[str, Any]) -> None:
        """Use another model or other knowledge bases; the worker stays."""

    def link(self, request: SliceRequest, fingerprint: str = "") -> int:
        """Ask for a link; the newest wins. Starts the worker if needed. Returns the request id."""
        raise NotImplementedError

    def ask(
        self,
        messageType: str,
        fields: Mapping[str, Any] | None = None,
        payload: bytes = b"",
        onAnswer: Callable[[dict[str, Any], bytes], None] | None = None,
        onError: Callable[[str, str, str], None] | None = None,
    ) -> int:
        """Any other message of the protocol (entry, search, ground, cases, ...).
        onAnswer(header, payload); onError(kind, message, detail)."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Cancel what is running: done in under one second, the worker is killed if it does not
        answer within 0.7 s."""

    def poll(self) -> None:
        """Deliver what the worker said; call from a timer on the main thread."""

    @property
    def state(self) -> EngineState:
        raise NotImplementedError

    @property
    def log(self) -> str:
        """What the worker wrote to stderr (last 400 lines), for the log and for bug reports."""
        raise NotImplementedError
