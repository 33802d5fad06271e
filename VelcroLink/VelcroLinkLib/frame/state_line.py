"""The state line with Cancel, the line of notice above the tabs, and the installation box."""

from __future__ import annotations

import logging
from typing import Any

import qt
from slicer.i18n import tr as _

from velcro_engine.errors import VelcroError

from ..engine.client import EngineClient, EngineState
from ..engine.install_check import InstallState, checkInstall, install
from ..engine.state import STATE_MESSAGES
from .link_session import LinkSession

_ICONS = {
    "information": qt.QStyle.SP_MessageBoxInformation,
    "warning": qt.QStyle.SP_MessageBoxWarning,
    "error": qt.QStyle.SP_MessageBoxCritical,
}
WORKING = (EngineState.STARTING, EngineState.LINKING, EngineState.RESTARTING)


class StateLine:
    """Widgets stateLabel, progressBar, cancelButton, noticeFrame, noticeIcon, noticeLabel."""

    def __init__(self, ui: Any, session: LinkSession) -> None:
        self._ui = ui
        self._session = session
        self._client: EngineClient = session.client
        self._progressText = ""
        ui.cancelButton.connect("clicked(bool)", self._onCancel)
        session.changed.connect(self.render)
        self._client.progressed.connect(self._onProgress)

    def close(self) -> None:
        self._session.changed.disconnect(self.render)
        self._client.progressed.disconnect(self._onProgress)

    def render(self) -> None:
        ui, state = self._ui, self._client.state
        working = state in WORKING
        if not working:
            self._progressText = ""
            ui.progressBar.setRange(0, 0)
        ui.progressBar.setVisible(working)
        ui.stateLabel.text = self._stateText()
        if state is EngineState.FAILED:
            ui.cancelButton.text = _("Restart")
            ui.cancelButton.enabled = True
            ui.cancelButton.toolTip = _("Start the engine again.")
        else:
            ui.cancelButton.text = _("Cancel")
            ui.cancelButton.enabled = working or bool(self._session.isPlacing)
            ui.cancelButton.toolTip = (
                _("Stop this; the engine stays ready.")
                if ui.cancelButton.enabled
                else _("Nothing is running.")
            )
        self._renderNotice()

    def _stateText(self) -> str:
        state, outcome = self._client.state, self._session.outcome
        if self._session.isPlacing and state is not EngineState.FAILED:
            return _("Placing")
        if state in WORKING and self._progressText:
            return self._progressText
        milliseconds = outcome.milliseconds if outcome is not None else None
        plainlyReady = self._client.message == STATE_MESSAGES[EngineState.READY]
        if state is EngineState.READY and plainlyReady and milliseconds is not None:
            return _("Ready, linked in {milliseconds:.0f} ms").format(milliseconds=milliseconds)
        return self._client.message

    def _renderNotice(self) -> None:
        ui, notice = self._ui, self._session.notice
        ui.noticeFrame.setVisible(notice is not None)
        if notice is None:
            return
        ui.noticeLabel.text = notice.text
        icon = ui.noticeFrame.style().standardIcon(_ICONS[notice.kind])
        ui.noticeIcon.setPixmap(icon.pixmap(16, 16))
        ui.noticeIcon.accessibleName = notice.kind

    def _onProgress(self, fraction: float, message: str, remaining: float | None) -> None:
        self._progressText = message
        if remaining is not None and remaining >= 1:
            self._progressText = _("{message}, {seconds:.0f} s left").format(
                message=message, seconds=remaining
            )
        self._ui.progressBar.setRange(0, 100 if fraction > 0 else 0)
        self._ui.progressBar.value = round(100 * fraction)
        self._ui.stateLabel.text = self._stateText()

    def _onCancel(self, _checked: bool) -> None:
        if self._client.state is EngineState.FAILED:
            self._client.restart()
        else:
            self._session.cancel()


class InstallBox:
    """Widgets installFrame, installLabel, installButton, installFromFolderButton and
    installOfflineLabel: what is missing, one button, and the way without internet access."""

    def __init__(self, ui: Any, session: LinkSession, requirementsPath: str) -> None:
        self._ui = ui
        self._session = session
        self._requirementsPath = requirementsPath
        self._isShown = self._isInstalling = False
        ui.installFrame.setVisible(False)
        ui.installOfflineLabel.setVisible(False)
        ui.installButton.connect("clicked(bool)", self._onInstall)
        ui.installFromFolderButton.connect("clicked(bool)", self._onInstallFromFolder)
        session.changed.connect(self.render)

    def close(self) -> None:
        self._session.changed.disconnect(self.render)

    def render(self) -> None:
        isShown = self._session.client.state is EngineState.NOT_INSTALLED
        if isShown == self._isShown:
            return
        self._isShown = isShown
        self._ui.installFrame.setVisible(isShown)
        if isShown:
            state = checkInstall(self._requirementsPath)
            self._ui.installLabel.text = state.explanation
            self._ui.installButton.text = state.buttonText
            self._ui.installOfflineLabel.text = state.offlineInstructions

    def _onInstall(self, _checked: bool) -> None:
        self._install(None)

    def _onInstallFromFolder(self, _checked: bool) -> None:
        folder = qt.QFileDialog.getExistingDirectory(
            self._ui.installFrame, _("Folder with the wheel files")
        )
        if folder:
            self._install(folder)

    def _install(self, wheelFolder: str | None) -> None:
        if self._isInstalling:
            return
        self._setInstalling(True)
        try:
            install(
                checkInstall(self._requirementsPath),
                onDone=self._onDone,
                onLog=self._onLog,
                wheelFolder=wheelFolder,
            )
        except VelcroError as error:
            self._setInstalling(False)
            self._session.notify("warning", error.message)

    def _onLog(self, line: str) -> None:
        logging.info("VelcroLink: pip: %s", line)

    def _onDone(self, state: InstallState, message: str) -> None:
        self._setInstalling(False)
        if message:
            self._ui.installOfflineLabel.setVisible(True)
            self._session.notify("warning", message)
            return
        versions = ", ".join(f"{name} {version}" for name, version in state.versions.items())
        self._session.notify("information", _("Installed {names}.").format(names=versions))
        self._session.client.start()
        self._session.link()

    def _setInstalling(self, isInstalling: bool) -> None:
        self._isInstalling = isInstalling
        for button in (self._ui.installButton, self._ui.installFromFolderButton):
            button.enabled = not isInstalling
            button.toolTip = _("Installing; this takes about a minute.") if isInstalling else ""
