"""The optional language model of the Report tab: off until it is switched on, asked on a click."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from velcro_engine.errors import VelcroError
from velcro_engine.messages.addresses import is_local

from ..engine.setup import SETTINGS_GROUP
from ..frame.tab_widgets import button, offer, titledEdit, wrappingLabel

ADDRESS_KEY = f"{SETTINGS_GROUP}/LanguageModelAddress"
NAME_KEY = f"{SETTINGS_GROUP}/LanguageModelName"
PROMPT_HEIGHT = 110


class ModelSection:
    """Address, name, confirmation for other computers, the prompt, and Reword / Stop.

    The address is remembered on this computer; that it is switched on, and that text may go to
    another computer, is not: both are said anew each time.
    """

    def __init__(self, parent: Any, reword: Callable[[], None], stop: Callable[[], None]) -> None:
        self._reword, self._stop = reword, stop
        self._whyNot, self._isRunning = "", False
        self.widget = qt.QWidget(parent)
        outer = qt.QVBoxLayout(self.widget)
        outer.setContentsMargins(0, 0, 0, 0)
        self.box = qt.QCheckBox(_("Reword with a &language model"), self.widget)
        self.box.setObjectName("modelBox")
        self.box.toolTip = _(
            "Off: no text leaves VelcroLink. On: the sentences can be sent to a model that you run."
        )
        outer.addWidget(self.box)
        self._body = qt.QFrame(self.widget)
        self._body.setFrameShape(qt.QFrame.StyledPanel)
        outer.addWidget(self._body)
        column = qt.QVBoxLayout(self._body)
        column.setContentsMargins(6, 6, 6, 6)
        grid = qt.QGridLayout()
        grid.setColumnStretch(1, 1)
        column.addLayout(grid)
        self.addressEdit = titledEdit(self._body, grid, 0, _("&Address:"), "modelAddressEdit")
        self.addressEdit.placeholderText = "http://localhost:11434/v1"
        self.addressEdit.toolTip = _("OpenAI-compatible address; it ends in /v1.")
        self.addressEdit.text = slicer.util.settingsValue(ADDRESS_KEY, "", converter=str)
        self.nameEdit = titledEdit(self._body, grid, 1, _("&Model:"), "modelNameEdit")
        self.nameEdit.placeholderText = "default"
        self.nameEdit.toolTip = _("Name of the model at that address.")
        self.nameEdit.text = slicer.util.settingsValue(NAME_KEY, "", converter=str)
        self.remoteLabel = wrappingLabel(
            self._body,
            "modelRemoteLabel",
            _("This address is another computer; the sentences below would be sent there."),
        )
        column.addWidget(self.remoteLabel)
        self.remoteCheck = qt.QCheckBox(_("They may be sent there"), self._body)
        self.remoteCheck.setObjectName("modelRemoteCheck")
        column.addWidget(self.remoteCheck)
        column.addWidget(wrappingLabel(self._body, "modelPromptLabel", _("This is sent:")))
        self.promptView = qt.QPlainTextEdit(self._body)
        self.promptView.setObjectName("modelPrompt")
        self.promptView.readOnly = True
        self.promptView.tabChangesFocus = True
        self.promptView.setFixedHeight(PROMPT_HEIGHT)
        self.promptView.accessibleName = _("Prompt")
        column.addWidget(self.promptView)
        self.rewordButton = button(self._body, "rewordButton", _("Reword"))
        column.addWidget(self.rewordButton)
        self.box.connect("toggled(bool)", lambda _c: self._renderAll())
        self.addressEdit.connect("textChanged(QString)", self._onAddress)
        self.remoteCheck.connect("toggled(bool)", lambda _c: self._renderAll())
        self.rewordButton.connect("clicked(bool)", self._onReword)
        self.render("", "", False)

    @property
    def question(self) -> dict[str, Any]:
        """The `llm` field of a draft question."""
        return {
            "address": self.addressEdit.text.strip(),
            "model": self.nameEdit.text.strip() or "default",
            "remote_confirmed": self._isRemote and self.remoteCheck.checked,
        }

    def render(self, whyNot: str, prompt: str, isRunning: bool) -> None:
        """whyNot: why there is nothing to reword. prompt: what would be sent."""
        self._whyNot, self._isRunning = whyNot, isRunning
        if self.promptView.toPlainText() != prompt:
            self.promptView.setPlainText(prompt)
        self._renderAll()

    def _renderAll(self) -> None:
        self._body.setVisible(self.box.checked)
        self.remoteLabel.setVisible(self._isRemote)
        self.remoteCheck.setVisible(self._isRemote)
        if self._isRunning:
            self.rewordButton.text = _("Stop")
            offer(self.rewordButton, "", _("Stop waiting for the language model."))
            return
        self.rewordButton.text = _("Reword")
        offer(
            self.rewordButton,
            self._whyNot or self._addressFault(),
            _("Send this prompt; what no source says is struck out of the answer."),
        )

    @property
    def _isRemote(self) -> bool:
        try:
            return not is_local(self.addressEdit.text.strip())
        except VelcroError:
            return False

    def _addressFault(self) -> str:
        address = self.addressEdit.text.strip()
        if not address:
            return _("Type the address of your language model first.")
        try:
            if is_local(address) or self.remoteCheck.checked:
                return ""
        except VelcroError as error:
            return error.message
        return _("Confirm first that the sentences may be sent to another computer.")

    def _onAddress(self, _text: str) -> None:
        self.remoteCheck.checked = False  # the confirmation was for the address before
        self._renderAll()

    def _onReword(self, _checked: bool) -> None:
        if self._isRunning:
            self._stop()
            return
        settings = qt.QSettings()
        settings.setValue(ADDRESS_KEY, self.addressEdit.text.strip())
        settings.setValue(NAME_KEY, self.nameEdit.text.strip())
        self._reword()
