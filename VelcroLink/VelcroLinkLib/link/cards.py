"""The candidates as cards: entry, side, confidence as a bar with a number; the chosen one unfolds
to its definition, names, codes and links.

The cards are made once and filled anew with each link, so that dragging a RoI does not flicker and
keyboard focus stays where it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from ..frame.link_outcome import Candidate, Outcome
from .decisions import EntryCard

SHOWN = 5
ALWAYS_SHOWN = 3
# Below this a candidate after the third is noise that only makes the list longer.
LEAST_SHOWN = 0.005
_CARD_HEADING = "<p><b><big>"
# Qt gives a paragraph a whole line above and below, and a table nothing at all.
_SPACED = (("<p>", '<p style="margin-top:0; margin-bottom:6px">'),
           ("<table ", '<table style="margin-top:6px; margin-bottom:6px" '))  # fmt: skip


class CandidateCards:
    """The list of cards in a layout. chosen(): the user or a new link chose another candidate.

    requestCard(entryId, onCard) gets an entry's text; linkOpened(address) follows a link.
    """

    def __init__(
        self,
        parent: Any,
        layout: Any,
        requestCard: Callable[[str, Callable[[EntryCard], None]], None],
        chosen: Callable[[], None],
        linkOpened: Callable[[str], None],
    ) -> None:
        self._requestCard = requestCard
        self._chosen = chosen
        self._group = qt.QButtonGroup(parent)
        self._cards = [
            _Card(parent, self._group, self._onToggled, linkOpened) for _i in range(SHOWN)
        ]
        for index, card in enumerate(self._cards):
            card.radio.setObjectName(f"candidate{index}")
            layout.addWidget(card.frame)
        self._filling = self._folded = False
        self._preferred = ""

    @property
    def candidate(self) -> Candidate | None:
        """The chosen candidate."""
        return next((c.candidate for c in self._cards if c.candidate and c.radio.checked), None)

    def insertIntoTabOrder(self, before: Any, after: Any) -> None:
        """Tab goes from `before` through the cards and on to `after`."""
        for card in self._cards:
            for widget in (card.radio, card.details):
                qt.QWidget.setTabOrder(before, widget)
                before = widget
        qt.QWidget.setTabOrder(before, after)

    def show(self, outcome: Outcome | None) -> None:
        """Fill the cards. The candidate that the user chose stays chosen while it is in the list;
        else the best one is, or none when no entry matches."""
        candidates = _worthShowing(outcome)
        identities = [c.entryId for c in candidates]
        self._filling = True
        for card, candidate in zip(self._cards, candidates + [None] * SHOWN, strict=False):
            card.fill(candidate)
        self._group.setExclusive(False)  # an exclusive group would not let go of its last button
        wanted = identities.index(self._preferred) if self._preferred in identities else 0
        if outcome is None or (outcome.abstained and self._preferred not in identities):
            wanted = -1
        for index, card in enumerate(self._cards):
            card.radio.checked = index == wanted
        self._group.setExclusive(True)
        self._filling = False
        self._unfold()

    def followPalette(self) -> None:
        """The user may have switched between light and dark since the text was set."""
        for card in self._cards:
            card.followPalette()

    def forgetChoice(self) -> None:
        """Another region is looked at: the best candidate is chosen again."""
        self._preferred = ""

    def setFolded(self, folded: bool) -> None:
        """Titles and confidences only, to make room for something else."""
        if folded != self._folded:
            self._folded = folded
            self._unfold()

    def _onToggled(self, checked: bool) -> None:
        if self._filling or not checked:
            return
        candidate = self.candidate
        self._preferred = candidate.entryId if candidate else ""
        self._unfold()
        self._chosen()

    def _unfold(self) -> None:
        for card in self._cards:
            if self._folded or card.candidate is None or not card.radio.checked:
                card.fold()
                continue
            identity = card.candidate.entryId
            self._requestCard(identity, lambda text, c=card, i=identity: self._onCard(c, i, text))

    def _onCard(self, card: _Card, entryId: str, text: EntryCard) -> None:
        if not self._folded:
            card.unfold(entryId, text)


class _Card:
    """The widgets of one candidate."""

    def __init__(
        self, parent: Any, group: Any, onToggled: Callable[[bool], None], linkOpened: Callable
    ) -> None:
        self.candidate: Candidate | None = None
        self.frame = qt.QFrame(parent)
        self.frame.setFrameShape(qt.QFrame.StyledPanel)
        column = qt.QVBoxLayout(self.frame)
        column.setContentsMargins(6, 4, 6, 6)
        column.setSpacing(4)

        self.radio = qt.QRadioButton(self.frame)
        self.radio.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Fixed)
        font = self.radio.font
        font.setBold(True)
        self.radio.font = font
        group.addButton(self.radio)
        self.radio.connect("toggled(bool)", onToggled)
        column.addWidget(self.radio)

        row = qt.QHBoxLayout()
        row.setContentsMargins(20, 0, 0, 0)
        self.bar = qt.QProgressBar(self.frame)
        self.bar.setRange(0, 1000)
        self.bar.textVisible = False
        self.bar.maximumHeight = 10
        self.number = qt.QLabel(self.frame)
        self.number.setAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
        self.number.minimumWidth = self.number.fontMetrics().boundingRect("> 99 %").width() + 4
        row.addWidget(self.bar, 1)
        row.addWidget(self.number)
        column.addLayout(row)

        self.details = qt.QLabel(self.frame)
        self.details.wordWrap = True
        self.details.textFormat = qt.Qt.RichText
        self.details.setTextInteractionFlags(qt.Qt.TextBrowserInteraction)
        self.details.openExternalLinks = False  # links are followed on click, by the panel
        self.details.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Preferred)
        self.details.connect("linkActivated(QString)", linkOpened)
        self.details.connect("linkHovered(QString)", self._onHovered)
        column.addWidget(self.details)
        self._shownText = ("", "")
        self.fill(None)

    def fill(self, candidate: Candidate | None) -> None:
        changed = candidate is None or self.candidate is None
        changed = changed or candidate.entryId != self.candidate.entryId
        self.candidate = candidate
        self.frame.setVisible(candidate is not None)
        if changed:
            self.fold()
        if candidate is None:
            return
        percent = 100.0 * candidate.confidence
        self.radio.text = candidate.title.replace("&", "&&")  # a single & would be a shortcut
        self.bar.value = round(10 * percent)
        self.number.text = percentText(percent)
        tip = _("Confidence {percent:.1f} %: of regions linked with this confidence, about that "
                "many are right.").format(percent=percent)  # fmt: skip
        self.bar.toolTip = self.number.toolTip = tip
        self.radio.toolTip = candidate.title
        self.bar.accessibleName = _("Confidence")

    def fold(self) -> None:
        self.details.setVisible(False)
        self._shownText = ("", "")

    def unfold(self, entryId: str, card: EntryCard) -> None:
        """Show the text, if the card is still about this entry and still the chosen one."""
        if self.candidate is None or self.candidate.entryId != entryId or not self.radio.checked:
            return
        self._setText(bodyOfCard(card.html))

    def followPalette(self) -> None:
        if self._shownText[0]:
            self._setText(self._shownText[0])

    def _setText(self, text: str) -> None:
        # Rich text takes the colour of its links from the palette at the moment it is set.
        shown = (text, self.details.palette.color(qt.QPalette.Link).name())
        if shown != self._shownText:
            self._shownText = shown
            self.details.clear()
            self.details.text = text
        self.details.setVisible(bool(text))

    def _onHovered(self, address: str) -> None:
        self.details.toolTip = address


def percentText(percent: float) -> str:
    """Neither certain nor impossible: "< 1 %", "42 %", "> 99 %"."""
    if percent < 1:
        return "< 1 %"
    return "> 99 %" if percent > 99 else f"{percent:.0f} %"


def bodyOfCard(html: str) -> str:
    """A card's HTML without its heading, which the panel shows itself beside the confidence, its
    paragraphs and its table evenly spaced."""
    if html.startswith(_CARD_HEADING):
        html = html.partition("</p>")[2]
    for element, spaced in _SPACED:
        html = html.replace(element, spaced)
    return html


def openLink(address: str) -> None:
    """Open a web address in the user's browser. Called on a click and at no other time."""
    url = qt.QUrl(address)
    if url.scheme() in ("http", "https"):
        qt.QDesktopServices.openUrl(url)


def measuredLine(attributes: dict[str, Any]) -> str:
    """The measured attributes of the region in one line: zone, diameters in mm, area in mm²."""
    parts = []
    for key, text in (
        ("zone", _("zone {}")),
        ("region", _("region {}")),
        ("longest_diameter_mm", _("longest diameter {} mm")),
        ("perpendicular_mm", _("perpendicular {} mm")),
        ("area_mm2", _("area {} mm²")),
    ):
        value = attributes.get(key)
        if isinstance(value, bool) or value in (None, ""):
            continue
        if isinstance(value, (int, float)):
            if not math.isfinite(value):
                continue
            value = f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}"
        parts.append(text.format(value))
    line = ", ".join(parts)
    return line[:1].upper() + line[1:]


def _worthShowing(outcome: Outcome | None) -> list[Candidate]:
    if outcome is None:
        return []
    first, rest = outcome.candidates[:ALWAYS_SHOWN], outcome.candidates[ALWAYS_SHOWN:SHOWN]
    return [*first, *(c for c in rest if c.confidence >= LEAST_SHOWN)]
