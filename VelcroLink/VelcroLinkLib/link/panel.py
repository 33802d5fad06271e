"""The Link tab: place a RoI, read what it shows, accept or correct it."""

from __future__ import annotations

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from ..engine.client import EngineState
from ..frame.link_outcome import Outcome
from ..frame.link_session import LinkSession
from ..scene.placement import POINT_CLASS, ROI_CLASS
from ..scene.slice_views import suggestedVolume
from .cards import CandidateCards, measuredLine, openLink
from .decisions import Decisions
from .entry_search import EntrySearch


class LinkPanel:
    """Shows a session in the widgets of the Link tab (see Resources/UI/VelcroLinkPanel.ui).

    `render` is called for every change and sets every widget from the session: there is no second
    copy of the state here that could go stale.
    """

    def __init__(self, ui: Any, session: LinkSession, decisions: Decisions) -> None:
        self._ui = ui
        self._session = session
        self._decisions = decisions
        self._shown: Any = None
        self._cards = CandidateCards(
            ui.cardsContents,
            ui.cardsLayout,
            requestCard=decisions.card,
            chosen=self._renderDecision,
            linkOpened=openLink,
        )
        self._cards.insertIntoTabOrder(ui.linkAgainButton, ui.searchEdit)
        self._search = EntrySearch(ui, session, decisions)
        ui.placeRoiButton.connect("clicked(bool)", self._onPlaceRoi)
        ui.placePointButton.connect("clicked(bool)", self._onPlacePoint)
        ui.linkAgainButton.connect("clicked(bool)", self._onLinkAgain)
        ui.acceptButton.connect("clicked(bool)", self._onAccept)
        ui.rejectButton.connect("toggled(bool)", self._onReject)
        session.changed.connect(self.render)

    def close(self) -> None:
        self._session.changed.disconnect(self.render)
        self._search.close()

    def togglePlaceRoi(self) -> None:
        """Shortcut R."""
        if self._ui.placeRoiButton.enabled:
            self._onPlaceRoi(self._session.isPlacing != ROI_CLASS)

    def togglePlacePoint(self) -> None:
        """Shortcut P."""
        if self._ui.placePointButton.enabled:
            self._onPlacePoint(self._session.isPlacing != POINT_CLASS)

    # --- drawing --------------------------------------------------------------------------------
    def render(self) -> None:
        outcome = self._session.shownOutcome
        self._renderPlacing()
        self._renderEmptyState(outcome)
        if outcome != self._shown:
            if outcome is None:
                self._cards.forgetChoice()
            self._shown = outcome
            self._cards.show(outcome)
        else:
            self._cards.followPalette()
        self._renderDecision()

    def _renderPlacing(self) -> None:
        ui, session = self._ui, self._session
        noVolume = session.volumeNode is None and suggestedVolume(None) is None
        for button, kind, tip in (
            (
                ui.placeRoiButton,
                ROI_CLASS,
                _("Then click two opposite corners around a structure, in any slice view. Key: R"),
            ),
            (
                ui.placePointButton,
                POINT_CLASS,
                _("Then click once on a structure, in any slice view. Key: P"),
            ),
        ):
            button.enabled = session.parameters is not None and not noVolume
            button.toolTip = _("Load a volume first.") if noVolume else tip
            _setChecked(button, session.isPlacing == kind)
        again = session.promptNode is not None and session.volumeNode is not None
        ui.linkAgainButton.enabled = again and not session.isLinking
        ui.linkAgainButton.toolTip = (
            _("Place a RoI or a point first.")
            if not again
            else _("Linking is under way.")
            if session.isLinking
            else _("Ask again for the RoI as it is now.")
        )

    def _renderEmptyState(self, outcome: Outcome | None) -> None:
        label = self._ui.emptyLabel
        text = self._emptyText(outcome)
        label.text = text
        label.setVisible(bool(text))

    def _emptyText(self, outcome: Outcome | None) -> str:
        session = self._session
        if session.isPlacing == ROI_CLASS:
            return _("Click the first corner, then the opposite one. Esc leaves it.")
        if session.isPlacing == POINT_CLASS:
            return _("Click on the structure. Esc leaves it.")
        if outcome is not None:
            return self._outcomeText(outcome)
        if session.volumeNode is None:
            if suggestedVolume(None) is None:
                return _(
                    "No image yet. Drag a file onto Slicer's window, or take one of the samples in "
                    "the module panel at the left."
                )
            return _("Choose a volume above.")
        if session.promptNode is None:
            return _(
                "Press R (Place RoI) and click two opposite corners around a structure in any "
                "slice view, or press P (Point) and click on it."
            )
        return "" if session.isLinking else _("Move the RoI, or press Link again.")

    def _outcomeText(self, outcome: Outcome) -> str:
        measured = measuredLine(outcome.attributes)
        if not outcome.abstained:
            return measured
        nearest = _("The nearest ones are:") if outcome.candidates else ""
        return "\n".join(line for line in (_("No entry matches."), measured, nearest) if line)

    def _renderDecision(self) -> None:
        ui = self._ui
        reason = self._whyNotAccept()
        ui.acceptButton.enabled = not reason
        candidate = self._cards.candidate
        ui.acceptButton.toolTip = reason or _(
            "Name the segment '{name}', with its terminology, colour and status."
        ).format(name=candidate.title)
        reason = self._whyNotDecide()
        ui.rejectButton.enabled = not reason
        ui.rejectButton.toolTip = reason or _(
            "Search for the right entry; the correction is remembered."
        )
        if reason:
            _setChecked(ui.rejectButton, False)
        self._search.setOpen(ui.rejectButton.checked)
        self._cards.setFolded(ui.rejectButton.checked)

    def _whyNotDecide(self) -> str:
        session = self._session
        if session.outcome is None:
            return _("Nothing is linked yet.")
        if not session.outcome.live or session.result is None:
            return _("Press Link again first: the image may have changed since this link.")
        if session.outcome.accepted:
            return _("Accepted already. Move the RoI, or press Link again, for another segment.")
        if self._decisions.isDeciding:
            return _("The segment is being made.")
        return ""

    def _whyNotAccept(self) -> str:
        return self._whyNotDecide() or (
            "" if self._cards.candidate is not None else _("Choose one of the entries first.")
        )

    # --- what the user does -----------------------------------------------------------------------
    def _onPlaceRoi(self, checked: bool) -> None:
        self._session.placeRoi() if checked else self._session.stopPlacing()

    def _onPlacePoint(self, checked: bool) -> None:
        self._session.placePoint() if checked else self._session.stopPlacing()

    def _onLinkAgain(self, _checked: bool) -> None:
        if self._session.client.state is EngineState.FAILED:
            self._session.client.restart()
        self._session.link()

    def _onAccept(self, _checked: bool) -> None:
        candidate = self._cards.candidate
        if candidate is not None:
            self._decisions.accept(candidate.entryId, candidate.side)

    def _onReject(self, _checked: bool) -> None:
        self._renderDecision()


def _setChecked(button: Any, checked: bool) -> None:
    """Without telling the button's own slots, which would act on it."""
    if button.checked != checked:
        blocked = button.blockSignals(True)
        button.checked = checked
        button.blockSignals(blocked)


def makeShortcuts(panel: LinkPanel, parent: Any) -> list[Any]:
    """R and P, in the whole window that `parent` is in or is. A line edit that has the focus keeps
    its letters: Qt asks it first."""
    shortcuts = []
    for key, slot in (("R", panel.togglePlaceRoi), ("P", panel.togglePlacePoint)):
        shortcut = qt.QShortcut(qt.QKeySequence(key), parent)
        if slicer.util.mainWindow() is None:
            shortcut.setContext(qt.Qt.WidgetWithChildrenShortcut)
        shortcut.connect("activated()", slot)
        shortcuts.append(shortcut)
    return shortcuts
