"""The folded settings: model folder, own entries, threshold, device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slicer.i18n import tr as _

from .engine_client import EngineClient
from .engine_setup import DEVICES, EngineSettings


class SettingsSection:
    """Widgets modelPath, knowledgeBasePath, deviceSelector and engineLabel. The threshold is bound
    to the parameter node by its dynamic property and saved with the scene.

    changed(settings): the user chose something else; it is saved already.
    """

    def __init__(
        self, ui: Any, client: EngineClient, changed: Callable[[EngineSettings], None]
    ) -> None:
        self._ui = ui
        self._client = client
        self._changed = changed
        for label in (_("Automatic"), _("Processor"), _("Graphics card")):
            ui.deviceSelector.addItem(label)
        settings = EngineSettings.load()
        ui.modelPath.currentPath = settings.modelPath
        ui.knowledgeBasePath.currentPath = settings.knowledgeBasePath
        ui.deviceSelector.currentIndex = DEVICES.index(settings.device)
        self._settings = settings
        ui.modelPath.connect("currentPathChanged(QString)", self._onChanged)
        ui.knowledgeBasePath.connect("currentPathChanged(QString)", self._onChanged)
        ui.deviceSelector.connect("currentIndexChanged(int)", self._onChanged)
        client.loaded.connect(self._onLoaded)
        self._ui.engineLabel.text = _("The engine starts with the first RoI.")

    def close(self) -> None:
        self._client.loaded.disconnect(self._onLoaded)

    def _onChanged(self, *_value: Any) -> None:
        settings = EngineSettings(
            modelPath=self._ui.modelPath.currentPath.strip(),
            knowledgeBasePath=self._ui.knowledgeBasePath.currentPath.strip(),
            device=DEVICES[self._ui.deviceSelector.currentIndex],
        )
        if settings != self._settings:
            self._settings = settings
            settings.save()
            self._changed(settings)

    def _onLoaded(self, header: dict[str, Any]) -> None:
        self._ui.engineLabel.text = _("{model}; {entries} entries, {knowledgeBase}").format(
            model=header.get("model", ""),
            entries=header.get("entries", 0),
            knowledgeBase=header.get("knowledge_base", ""),
        )
