"""What the user decides about a link: accept it, or say what it is. Also cards and the search box.

Entries, cards and search hits come from the worker, which holds the knowledge base.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import slicer
from slicer.i18n import tr as _

from velcro_engine.errors import VelcroError
from velcro_engine.messages.result import LinkResult

from ..frame.link_session import LinkSession
from ..scene.segmentation_result import acceptPreview
from ..scene.slice_request import PlacedRequest
from .corrections import CorrectionFile, correctionOf

SEARCH_LIMIT = 12


@dataclass(frozen=True)
class EntryCard:
    """An entry of the knowledge base as the worker tells it: the whole entry, and its card."""

    entry: dict[str, Any]
    html: str


@dataclass(frozen=True)
class _Chosen:
    """The link a decision is about; the user may draw another one before the entry arrives."""

    volumeNode: Any
    placed: PlacedRequest
    result: LinkResult
    side: str | None
    status: str


class Decisions:
    """Accept and correct the session's current link. correctionsFolder: where corrections go."""

    def __init__(self, session: LinkSession, correctionsFolder: str) -> None:
        self._session = session
        self._client = session.client
        self._corrections = CorrectionFile(correctionsFolder)
        self._cards: dict[str, EntryCard] = {}
        self.isDeciding = False
        self._client.loaded.connect(self._forgetCards)

    def close(self) -> None:
        self._client.loaded.disconnect(self._forgetCards)
        self._cards.clear()

    def card(self, entryId: str, onCard: Callable[[EntryCard], None]) -> None:
        """Call back with the entry and its card; at once if it was shown before."""
        if entryId in self._cards:
            onCard(self._cards[entryId])
            return

        def received(header: dict[str, Any], _payload: bytes) -> None:
            card = EntryCard(dict(header["entry"]), str(header.get("card_html", "")))
            self._cards[entryId] = card
            onCard(card)

        self._client.ask("entry", {"entry_id": entryId}, onAnswer=received, onError=self._failed)

    def search(self, text: str, onFound: Callable[[list[dict[str, Any]]], None]) -> int:
        """Call back with up to 12 hits {"id", "name", "score"}, best first. Returns the id of the
        question, for `forget`."""
        return self._client.ask(
            "search",
            {"text": text, "limit": SEARCH_LIMIT},
            onAnswer=lambda header, _payload: onFound(list(header.get("entries", ()))),
            onError=self._failed,
        )

    def forget(self, questionId: int) -> None:
        """A newer search has taken this one's place."""
        self._client.forget(questionId)

    def accept(self, entryId: str, side: str | None) -> None:
        """Make the preview a named segment of this entry."""
        self._decide(entryId, side, "accepted")

    def correct(self, entryId: str, side: str | None) -> None:
        """The user says what it is: remember that, and make the preview a segment of the entry."""
        self._decide(entryId, side, "corrected")

    def _decide(self, entryId: str, side: str | None, status: str) -> None:
        session = self._session
        if session.result is None or session.placed is None or self.isDeciding:
            return
        chosen = _Chosen(session.volumeNode, session.placed, session.result, side, status)
        self.isDeciding = True
        session.changed.emit()
        self.card(entryId, lambda card: self._carryOut(chosen, card.entry))

    def _carryOut(self, chosen: _Chosen, entry: dict[str, Any]) -> None:
        self.isDeciding = False
        if not slicer.mrmlScene.IsNodePresent(chosen.volumeNode):
            self._session.notify("warning", _("The volume was removed; nothing was accepted."))
            return
        name = f"{entry['name']}, {chosen.side}" if chosen.side else str(entry["name"])
        try:
            if chosen.status == "corrected":
                self._corrections.append(
                    correctionOf(chosen.placed, chosen.result, str(entry["id"]), chosen.side)
                )
            acceptPreview(
                chosen.volumeNode,
                entry,
                chosen.side,
                chosen.placed,
                chosen.result,
                slicer.util.getModuleLogic("Terminologies"),
            )
        except (VelcroError, OSError) as error:
            logging.info("VelcroLink: %r", error)
            self._session.notify("error", str(error))
            return
        self._session.markAccepted(chosen.placed)
        self._session.notify("information", _("Accepted as {name}.").format(name=name))

    def _failed(self, kind: str, message: str, detail: str) -> None:
        self.isDeciding = False
        if detail:
            logging.info("VelcroLink: %s: %s (%s)", kind, message, detail)
        if kind == "cancelled":
            self._session.changed.emit()
        else:
            self._session.notify("error", message)

    def _forgetCards(self, _header: dict[str, Any]) -> None:
        self._cards.clear()  # another knowledge base may tell another story
