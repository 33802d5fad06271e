"""The search box behind "Not this one": type a name, pick the right entry, use it."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from ..frame.link_session import LinkSession
from .decisions import SEARCH_LIMIT, Decisions, EntryCard

TYPING_PAUSE_MS = 120
_ENTRY_ID_ROLE = 256  # Qt.UserRole
SIDES = (None, "left", "right")
SIDED = ("paired", "any")


class EntrySearch:
    """Widgets searchFrame, searchEdit, searchResults, searchSide, useEntryButton of the panel."""

    def __init__(self, ui: Any, session: LinkSession, decisions: Decisions) -> None:
        self._ui = ui
        self._session = session
        self._decisions = decisions
        self._question = 0
        self._entryId = ""
        for label in (_("none"), _("left"), _("right")):
            ui.searchSide.addItem(label)
        ui.searchFrame.setVisible(False)
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(TYPING_PAUSE_MS)
        self._timer.connect("timeout()", self._search)
        ui.searchEdit.connect("textChanged(QString)", self._onTyped)
        ui.searchEdit.connect("returnPressed()", self._onReturn)
        ui.searchResults.connect("currentRowChanged(int)", self._onRow)
        ui.searchResults.connect("itemActivated(QListWidgetItem*)", self._onActivated)
        ui.useEntryButton.connect("clicked(bool)", self._onUse)
        self._choose("")

    def setOpen(self, isOpen: bool) -> None:
        """Show the box (and put the cursor into it), or put it away and forget what was typed."""
        if isOpen == (not self._ui.searchFrame.isHidden()):
            return
        self._ui.searchFrame.setVisible(isOpen)
        if isOpen:
            first = self._session.outcome.candidates[:1] if self._session.outcome else ()
            self._ui.searchSide.currentIndex = SIDES.index(first[0].side) if first else 0
            self._ui.searchEdit.setFocus()
        else:
            self._ui.searchEdit.clear()

    def close(self) -> None:
        self._timer.stop()

    def _onTyped(self, text: str) -> None:
        self._choose("")
        self._decisions.forget(self._question)  # an answer to less than this would be chosen
        if text.strip():
            self._timer.start()
        else:
            self._timer.stop()
            self._show([])

    def _search(self) -> None:
        self._decisions.forget(self._question)
        self._question = self._decisions.search(self._ui.searchEdit.text.strip(), self._onFound)

    def _onFound(self, hits: list[dict[str, Any]]) -> None:
        self._show(hits)
        if not hits:
            self._ui.searchResults.addItem(_("No entry of this name"))
            self._ui.searchResults.item(0).setFlags(qt.Qt.NoItemFlags)

    def _show(self, hits: list[dict[str, Any]]) -> None:
        results = self._ui.searchResults
        blocked = results.blockSignals(True)
        results.clear()
        for row, hit in enumerate(hits):
            results.addItem(str(hit["name"]))  # as text: an item made here might be collected
            results.item(row).setData(_ENTRY_ID_ROLE, str(hit["id"]))
        results.blockSignals(blocked)
        if hits:
            # All of them without a scroll bar, and no row cut in half, where there is room.
            results.maximumHeight = SEARCH_LIMIT * results.sizeHintForRow(0) + 4
            results.setCurrentRow(0)

    def _onRow(self, row: int) -> None:
        item = self._ui.searchResults.item(row) if row >= 0 else None
        self._choose(str(item.data(_ENTRY_ID_ROLE) or "") if item else "")

    def _choose(self, entryId: str) -> None:
        self._entryId = entryId
        self._ui.useEntryButton.enabled = bool(entryId)
        self._ui.useEntryButton.toolTip = (
            _("Name the segment after this entry and remember the correction.")
            if entryId
            else _("Search for an entry and choose it first.")
        )
        self._ui.searchSide.enabled = False
        self._ui.searchSide.toolTip = _("Choose an entry first.")
        if entryId:
            self._decisions.card(entryId, self._onCard)

    def _onCard(self, card: EntryCard) -> None:
        if card.entry.get("id") != self._entryId:
            return
        sided = card.entry.get("laterality") in SIDED
        self._ui.searchSide.enabled = sided
        self._ui.searchSide.toolTip = (
            _("The patient's side.") if sided else _("This entry has no side.")
        )
        if not sided:
            self._ui.searchSide.currentIndex = 0

    def _onReturn(self) -> None:
        """Return in the line: use the chosen entry, or search at once when it is too early."""
        if self._entryId:
            self._onUse()
        elif self._ui.searchEdit.text.strip():
            self._timer.stop()
            self._search()

    def _onActivated(self, _item: Any) -> None:
        self._onUse()

    def _onUse(self, _checked: bool = False) -> None:
        if self._entryId:
            side = SIDES[self._ui.searchSide.currentIndex]
            self._decisions.correct(self._entryId, side)
