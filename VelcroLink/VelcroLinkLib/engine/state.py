"""The states of the engine as the panel shows them, and the line that goes with each."""

from __future__ import annotations

from enum import Enum


class EngineState(Enum):
    """CANCELLED is not FAILED: the user wanted it. RESTARTING follows a crash or a deaf worker."""

    STOPPED = "stopped"
    NOT_INSTALLED = "notInstalled"
    STARTING = "starting"
    READY = "ready"
    LINKING = "linking"
    CANCELLED = "cancelled"
    FAILED = "failed"
    RESTARTING = "restarting"


STATE_MESSAGES = {
    EngineState.STOPPED: "The engine starts with the first RoI",
    EngineState.NOT_INSTALLED: "Linking needs onnxruntime; install it once with the button above",
    EngineState.STARTING: "Starting the engine",
    EngineState.READY: "Ready",
    EngineState.LINKING: "Linking",
    EngineState.CANCELLED: "Cancelled",
    EngineState.FAILED: "The engine has stopped",
    EngineState.RESTARTING: "Restarting the engine",
}
