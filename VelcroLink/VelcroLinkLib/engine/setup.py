"""How the engine is started from Slicer: interpreter, environment, and what it is to load.

What belongs to this computer (model folder, own entries) lies in Slicer's settings and not
in the scene: a scene that came from elsewhere must not point the engine at files.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qt
import slicer

SETTINGS_GROUP = "VelcroLink"
DEVICES = ("cpu", "gpu")
WORKER_MODULE = "velcro_engine.worker"
# For developers and tests: a Python file that is run in place of the worker.
WORKER_VARIABLE = "VELCROLINK_WORKER"


@dataclass(frozen=True)
class EngineSettings:
    """modelPath, knowledgeBasePath: "" for what comes with VelcroLink. device: one of DEVICES."""

    modelPath: str = ""
    knowledgeBasePath: str = ""
    device: str = "cpu"

    @classmethod
    def load(cls) -> EngineSettings:
        return cls(
            modelPath=slicer.util.settingsValue(f"{SETTINGS_GROUP}/Model", "", converter=str),
            knowledgeBasePath=slicer.util.settingsValue(
                f"{SETTINGS_GROUP}/KnowledgeBase", "", converter=str
            ),
            device=slicer.util.settingsValue(f"{SETTINGS_GROUP}/Device", "cpu", converter=_device),
        )

    def save(self) -> None:
        settings = qt.QSettings()
        settings.setValue(f"{SETTINGS_GROUP}/Model", self.modelPath)
        settings.setValue(f"{SETTINGS_GROUP}/KnowledgeBase", self.knowledgeBasePath)
        settings.setValue(f"{SETTINGS_GROUP}/Device", self.device)

    def loadOptions(self) -> dict[str, Any]:
        """Fields of the protocol's load message; None means: what comes with VelcroLink."""
        bases = None
        if self.knowledgeBasePath:
            bases = [str(bundledKnowledgeBase()), self.knowledgeBasePath]
        return {
            "model": self.modelPath or None,
            "knowledge_bases": bases,
            "data": userDataFolder(),
            "device": self.device,
        }


def _device(value: Any) -> str:
    """What the settings hold, which a person may have edited."""
    return str(value) if value in DEVICES else DEVICES[0]


def bundledKnowledgeBase() -> Path:
    """The knowledge base that comes with VelcroLink."""
    from velcro_engine.resources import resource_path

    return resource_path("KnowledgeBase/velcrolink.json")


def userDataFolder() -> str:
    """Where corrections, own cases and caches go: Slicer's data folder of this user. It is never
    the cache folder, from which Slicer deletes old files."""
    location = qt.QStandardPaths.writableLocation(qt.QStandardPaths.AppDataLocation)
    folder = os.path.join(location, "VelcroLink")
    os.makedirs(folder, exist_ok=True)
    return folder


def commandLine() -> list[str]:
    """Arguments that start the worker. Inside Slicer `sys.executable` is PythonSlicer already; the
    search comes first because a Slicer that was built from source may have it elsewhere."""
    interpreter = shutil.which("PythonSlicer") or sys.executable
    replacement = os.environ.get(WORKER_VARIABLE)
    if replacement:
        return [interpreter, "-u", replacement]
    return [interpreter, "-u", "-m", WORKER_MODULE]


def environment() -> dict[str, str]:
    """Slicer's own environment (PythonSlicer needs it) with the engine's folder on Python's path."""
    engineFolder = str(Path(__file__).resolve().parents[2])
    variables = dict(os.environ)
    before = variables.get("PYTHONPATH")
    variables["PYTHONPATH"] = os.pathsep.join([engineFolder, *([before] if before else [])])
    variables["PYTHONUTF8"] = "1"  # paths of users whose names are not ASCII
    return variables
