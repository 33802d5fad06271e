"""The Cases tab: regions of the user's own library that resemble the linked one.

Searched when the tab is looked at and another region has been linked, not while a RoI is dragged
with the tab hidden. Nothing leaves the machine.
"""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from ..frame.link_session import LinkSession
from ..frame.tab_question import TabQuestion
from ..frame.tab_widgets import (
    MessageRow,
    button,
    column,
    offer,
    setQuietly,
    titledEdit,
    wrappingLabel,
)
from .rows import CaseRows
from .similar_cases import Place, SimilarCase, casesFromHits

LIMIT = 12
LONGEST_PSEUDONYM = 80  # as in the engine
LONGEST_NOTE = 2000
LEAST_CHIP = 280  # pixels; the panel is never narrower
SEARCH_DELAY_MS = 80  # a dragged RoI gives a new link every few milliseconds


class CasesPanel:
    """`widget` is the page for the panel's tabs."""

    def __init__(self, session: LinkSession) -> None:
        self._session = session
        self._search = TabQuestion(session.client, self.render, self._onFailed)
        self._adding = TabQuestion(session.client, self.render, self._onFailed)
        self._asked: Any = None  # the link result that was searched for last
        self._added: Any = None  # the link result that was added last
        self._anywhere = False  # the user has removed the place
        self._place: Place | None = None
        self._cases: list[SimilarCase] | None = None
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(SEARCH_DELAY_MS)
        self._timer.connect("timeout()", self._searchIfNew)
        self._makeWidgets()
        session.changed.connect(self.render)
        self.render()

    def close(self) -> None:
        self._session.changed.disconnect(self.render)
        self._timer.stop()
        self._search.drop()
        self._adding.drop()

    def _makeWidgets(self) -> None:
        self.widget = qt.QWidget()
        self.widget.setObjectName("casesTab")
        layout = column(self.widget)
        self.placeButton = button(self.widget, "casePlaceButton", "")
        self.placeButton.checkable = True
        self.searchButton = button(self.widget, "caseSearchButton", _("Search again"))
        layout.addWidget(self.placeButton, 0, qt.Qt.AlignLeft)
        self.message = MessageRow(self.widget, "casesMessage")
        layout.addWidget(self.message.frame)
        row = qt.QHBoxLayout()
        self.summary = wrappingLabel(self.widget, "casesSummary")
        row.addWidget(self.summary, 1)
        row.addWidget(self.searchButton, 0, qt.Qt.AlignTop)
        layout.addLayout(row)
        self.rows = CaseRows(self.widget)
        layout.addWidget(self.rows.area, 1)
        grid = qt.QGridLayout()
        grid.setColumnStretch(1, 1)
        self.pseudonymEdit = titledEdit(self.widget, grid, 0, _("&Pseudonym:"), "pseudonymEdit")
        self.pseudonymEdit.maxLength = LONGEST_PSEUDONYM
        self.pseudonymEdit.placeholderText = _("brain-017")
        self.pseudonymEdit.toolTip = _(
            "What the case is called in your library. Never a patient's name, number or date."
        )
        self.noteEdit = titledEdit(self.widget, grid, 1, _("&Finding:"), "caseNoteEdit")
        self.noteEdit.maxLength = LONGEST_NOTE
        self.noteEdit.placeholderText = _("your own sentence, if any")
        self.noteEdit.toolTip = _(
            "Kept with the case, shown with similar ones and quoted in drafts. Dates, numbers and "
            "names are taken out."
        )
        layout.addLayout(grid)
        self.addButton = button(self.widget, "addCaseButton", _("Add this case"))
        layout.addWidget(self.addButton)

        self.placeButton.connect("toggled(bool)", self._onPlace)
        self.searchButton.connect("clicked(bool)", lambda _c: self.search())
        self.pseudonymEdit.connect("textChanged(QString)", lambda _t: self.render())
        self.pseudonymEdit.connect("returnPressed()", self.add)
        self.noteEdit.connect("returnPressed()", self.add)
        self.addButton.connect("clicked(bool)", lambda _c: self.add())

    # --- drawing --------------------------------------------------------------------------------
    def render(self) -> None:
        result = self._session.result
        if self._session.outcome is None or self._session.parameters is None:
            self._forget()
        elif result is not None and result is not self._asked and self.widget.isVisible():
            self._timer.start()
        noLink = self._whyNoLink()
        self._renderPlace(noLink)
        busy = _("The search is under way.") if self._search.isRunning else ""
        offer(self.searchButton, noLink or busy, _("Look again, for instance after adding a case."))
        offer(
            self.addButton,
            noLink or self._whyNotAdd(),
            _("Keep this region in your library on this computer, under its pseudonym."),
        )
        self.summary.text = noLink or self._summaryText()

    def _renderPlace(self, noLink: str) -> None:
        """The chip: pressed while the place counts, its name stays when it does not."""
        place = self._place
        text = _("Any place") if self._anywhere else _("Same place")
        if place is not None and not self._anywhere:
            text = _("In: {place}  ✕").format(place=place.title)
        elif place is not None:
            text = _("Any place (not only: {place})").format(place=place.title)
        room = max(self.widget.width, LEAST_CHIP) - 24
        elided = self.placeButton.fontMetrics().elidedText(text, qt.Qt.ElideRight, room)
        self.placeButton.text = elided.replace("&", "&&")
        setQuietly(self.placeButton, "checked", not self._anywhere and not noLink)
        tip = _("Cases of any place count. Press to keep to this place: {place}.")
        if not self._anywhere:
            tip = _("Only cases of this place and its parts count: {place}. Press for any place.")
        name = place.title if place is not None else _("that of the linked entry")
        offer(self.placeButton, noLink, tip.format(place=name))

    def _whyNoLink(self) -> str:
        if self._session.outcome is None or self._session.parameters is None:
            return _("Link a region first (tab Link).")
        if self._session.isLinking:
            return _("Linking is under way.")
        if self._session.result is None or self._session.placed is None:
            return _("Press Link again first (tab Link).")
        return ""

    def _whyNotAdd(self) -> str:
        result = self._session.result
        if result is not None and (result.embedding is None or not result.mask.any()):
            return _("The link found no region to keep.")
        if result is self._added:
            return _("This region has been added.")
        if not self.pseudonymEdit.text.strip():
            return _("Type a pseudonym for the case first.")
        return _("The case is being added.") if self._adding.isRunning else ""

    def _summaryText(self) -> str:
        if self._search.isRunning:
            return _("Searching the library...")
        if self._cases is None:
            return ""
        if not self._cases:
            if self._place is not None and not self._anywhere:
                return _("No case of this place is in your library yet. Press the place for any.")
            return _("Your library holds no similar case yet. Add this one below.")
        if len(self._cases) == 1:
            return _("1 similar case:")
        return _("{number} similar cases, most similar first:").format(number=len(self._cases))

    # --- what the user does -----------------------------------------------------------------------
    def search(self) -> None:
        """Ask the library for cases like the linked region."""
        session = self._session
        if self._whyNoLink() or session.result is None or session.placed is None:
            return
        self._timer.stop()
        self._asked = result = session.result
        self.message.show("", "")
        linked, payload = result.to_message()
        question, _pixels = session.placed.request.to_message()
        fields = {
            "action": "search",
            "linked": linked,
            "request": question,
            "location": None if self._anywhere or not result.entries else "linked",
            "limit": LIMIT,
        }
        self._search.ask("cases", fields, payload, lambda found, _p: self._onFound(result, found))

    def add(self) -> None:
        """Keep the linked region in the library."""
        session = self._session
        if self._whyNoLink() or self._whyNotAdd():
            return
        result, placed = session.result, session.placed
        if result is None or placed is None:
            return
        self.message.show("", "")
        linked, answer = result.to_message()
        question, pixels = placed.request.to_message()
        pseudonym = self.pseudonymEdit.text.strip()
        fields = {
            "action": "add",
            "case": pseudonym,
            "request": question,
            "linked": linked,
            "split": len(pixels),
            "text": self.noteEdit.text.strip(),
        }
        self._adding.ask(
            "cases", fields, pixels + answer, lambda _r, _p: self._onAdded(result, pseudonym)
        )

    def _onPlace(self, checked: bool) -> None:
        self._anywhere = not checked
        self.search()

    def _searchIfNew(self) -> None:
        result = self._session.result
        if result is not None and result is not self._asked and self.widget.isVisible():
            self.search()

    # --- answers ------------------------------------------------------------------------------
    def _onFound(self, result: Any, found: dict[str, Any]) -> None:
        if result is not self._session.result:
            return
        cases = casesFromHits(found["hits"])
        place = Place.fromAnswer(found["location"])
        if place is not None:
            self._place = place
        self._cases = cases
        self.rows.show(cases)

    def _onAdded(self, result: Any, pseudonym: str) -> None:
        self._added = result
        self.noteEdit.clear()
        if result is self._session.result:
            self.search()
        self.message.show(
            "information", _("Added to your library as {case}.").format(case=pseudonym)
        )

    def _onFailed(self, kind: str, text: str) -> None:
        self.message.show(kind, text)

    def _forget(self) -> None:
        """The region is gone: its cases say nothing any more."""
        self._timer.stop()
        self._search.drop()
        if self._asked is not None or self._cases is not None:
            self.message.show("", "")
        self._asked = self._cases = self._place = None
        self._anywhere = False
        self.rows.show([])
