"""The Report tab: a draft of the linked region in which every sentence names its source."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from ..frame.link_session import LinkSession
from ..frame.tab_question import TabQuestion
from ..frame.tab_widgets import MessageRow, button, column, offer, wrappingLabel
from .draft_view import DraftView
from .language_model_section import ModelSection


class ReportPanel:
    """`widget` is the page for the panel's tabs. A draft goes when another region is linked."""

    def __init__(self, session: LinkSession) -> None:
        self._session = session
        self._question = TabQuestion(session.client, self.render, self._onFailed)
        self._isRewording = False
        self._result: Any = None  # the link result that the draft is about
        self._draft: DraftView | None = None
        self._makeWidgets()
        session.changed.connect(self.render)
        self.render()

    def close(self) -> None:
        self._session.changed.disconnect(self.render)
        self._question.drop()

    def _makeWidgets(self) -> None:
        self.widget = qt.QWidget()
        self.widget.setObjectName("reportTab")
        outer = column(self.widget)
        row = qt.QHBoxLayout()
        self.draftButton = button(self.widget, "draftButton", _("Draft a report"))
        self.copyButton = button(self.widget, "copyDraftButton", _("Copy"))
        row.addWidget(self.draftButton, 1)
        row.addWidget(self.copyButton)
        outer.addLayout(row)
        self.casesCheck = qt.QCheckBox(_("&Quote similar cases of this place"), self.widget)
        self.casesCheck.setObjectName("draftCasesCheck")
        self.casesCheck.checked = True
        self.casesCheck.toolTip = _("Their sentences come from your library, each with its case.")
        outer.addWidget(self.casesCheck)
        self.message = MessageRow(self.widget, "reportMessage")
        outer.addWidget(self.message.frame)
        self.notice = wrappingLabel(self.widget, "draftNotice")
        font = self.notice.font
        font.setBold(True)
        self.notice.font = font
        outer.addWidget(self.notice)
        self.draftView = qt.QPlainTextEdit(self.widget)
        self.draftView.setObjectName("draftView")
        self.draftView.readOnly = True
        self.draftView.tabChangesFocus = True
        self.draftView.accessibleName = _("Draft report with its sources")
        outer.addWidget(self.draftView, 1)
        self.model = ModelSection(self.widget, self._reword, self._stop)
        outer.addWidget(self.model.widget)
        self.draftButton.connect("clicked(bool)", lambda _c: self._ask({}))
        self.copyButton.connect("clicked(bool)", self._onCopy)

    # --- drawing --------------------------------------------------------------------------------
    def render(self) -> None:
        session = self._session
        isOther = session.result is not None and session.result is not self._result
        if session.outcome is None or session.parameters is None or isOther:
            self._forget()
        noLink = self._whyNoLink()
        busy = _("The draft is being made.") if self._question.isRunning else ""
        offer(
            self.draftButton,
            noLink or busy,
            _("From the linked entry, what was measured, and similar cases of your library."),
        )
        nothing = "" if self._draft is not None else _("There is no draft yet.")
        offer(self.copyButton, nothing, _("Copy the draft with its sources as plain text."))
        self.notice.text = self._noticeText(noLink)
        prompt = self._draft.prompt if self._draft is not None else ""
        running = self._isRewording and self._question.isRunning
        self.model.render(noLink or nothing or busy, prompt, running)

    def _noticeText(self, noLink: str) -> str:
        if self._draft is not None:
            return self._draft.notice
        return noLink or _("A draft is for a human to check; it is never a diagnosis.")

    def _whyNoLink(self) -> str:
        session = self._session
        if session.outcome is None or session.parameters is None:
            return _("Link a region first (tab Link).")
        if session.isLinking:
            return _("Linking is under way.")
        if session.result is None:
            return _("Press Link again first (tab Link).")
        return "" if session.result.entries else _("The region has no entry; link another one.")

    # --- what the user does -----------------------------------------------------------------------
    def _ask(self, more: dict[str, Any]) -> None:
        result = self._session.result
        if self._whyNoLink() or result is None:
            return
        self.message.show("", "")
        self._result = result
        self._isRewording = "llm" in more
        linked, payload = result.to_message()
        fields = {"linked": linked, "use_cases": self.casesCheck.checked, **more}
        self._question.ask("draft", fields, payload, lambda told, _p: self._onDraft(result, told))

    def _reword(self) -> None:
        self._ask({"llm": self.model.question})

    def _stop(self) -> None:
        self._question.drop()
        self._session.client.cancel()
        self.message.show("information", _("Stopped; the draft is as it was."))
        self.render()

    def _onCopy(self, _checked: bool) -> None:
        if self._draft is not None:
            qt.QApplication.clipboard().setText(self._draft.text)
            self.message.show("information", _("The draft and its sources are on the clipboard."))

    # --- answers ------------------------------------------------------------------------------
    def _onDraft(self, result: Any, told: dict[str, Any]) -> None:
        if result is not self._session.result:
            return
        self._draft = DraftView.fromAnswer(told)
        self.draftView.setPlainText(self._draft.body)

    def _onFailed(self, kind: str, text: str) -> None:
        self.message.show(kind, text)

    def _forget(self) -> None:
        """Another region is linked, or none: the draft says nothing about it."""
        self._question.drop()
        if self._draft is not None:
            self.draftView.clear()
            self.message.show("", "")
        self._draft = self._result = None
