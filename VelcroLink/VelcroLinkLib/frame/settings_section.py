"""The folded settings: model folder, own entries, device, threshold; and what is loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ctk
import qt
from slicer.i18n import tr as _

from ..engine.client import EngineClient
from ..engine.setup import DEVICES, EngineSettings

TYPING_PAUSE_MS = 700  # a path that is being typed is not loaded letter by letter


class SettingsSection:
    """Widgets modelPath, knowledgeBasePath, deviceBox and engineLabel. The threshold is bound to the parameter
    node by its dynamic property and saved with the scene.

    changed(settings): the user chose something else; it is saved already.
    """

    def __init__(
        self, ui: Any, client: EngineClient, changed: Callable[[EngineSettings], None]
    ) -> None:
        self._ui = ui
        self._client = client
        self._changed = changed
        settings = EngineSettings.load()
        ui.modelPath.currentPath = settings.modelPath
        ui.knowledgeBasePath.currentPath = settings.knowledgeBasePath
        ui.modelPath.filters = ctk.ctkPathLineEdit.Dirs
        ui.knowledgeBasePath.filters = ctk.ctkPathLineEdit.Files
        ui.knowledgeBasePath.nameFilters = [_("Knowledge base") + " (*.json)"]
        for device in DEVICES:
            ui.deviceBox.addItem(_deviceName(device))
        ui.deviceBox.currentIndex = DEVICES.index(settings.device)
        self._settings = settings
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(TYPING_PAUSE_MS)
        self._timer.connect("timeout()", self._apply)
        ui.modelPath.connect("currentPathChanged(QString)", self._onChanged)
        ui.knowledgeBasePath.connect("currentPathChanged(QString)", self._onChanged)
        ui.deviceBox.connect("currentIndexChanged(int)", self._onChanged)
        client.loaded.connect(self._onLoaded)
        self._ui.engineLabel.text = _("The engine starts with the first RoI.")

    def close(self) -> None:
        self._timer.stop()
        self._client.loaded.disconnect(self._onLoaded)

    def _onChanged(self, _value: Any) -> None:
        self._timer.start()

    def _apply(self) -> None:
        settings = EngineSettings(
            modelPath=self._ui.modelPath.currentPath.strip(),
            knowledgeBasePath=self._ui.knowledgeBasePath.currentPath.strip(),
            device=DEVICES[self._ui.deviceBox.currentIndex],
        )
        if settings != self._settings:
            self._settings = settings
            settings.save()
            self._changed(settings)

    def _onLoaded(self, header: dict[str, Any]) -> None:
        self._ui.engineLabel.text = _(
            "Loaded: {model}; {entries} entries, {knowledgeBase}. Runs on: {device}."
        ).format(
            model=header.get("model", ""),
            entries=header.get("entries", 0),
            knowledgeBase=header.get("knowledge_base", ""),
            device=_deviceName(str(header.get("device", DEVICES[0]))).lower(),
        )


def _deviceName(device: str) -> str:
    return _("Graphics processor") if device == "gpu" else _("Processor")
