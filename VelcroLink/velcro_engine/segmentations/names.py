"""Which entry of the knowledge base a segment's own name and codes stand for, and agreement.

Codes go first, then the table's entity, then names: exactly, without the side, without an
abbreviation or number around it, and at last by similarity.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..knowledge_base import KnowledgeBase
from ..knowledge_base.entry import KNOWN_SCHEMES, OWN_SCHEME
from ..knowledge_base.search import SearchIndex
from ..knowledge_base.spelling import fold
from ..knowledge_base.store import ROOTS
from .stored import NamedSegment

SIMILAR_ENOUGH = 0.93
SAME, RELATED, DIFFERENT = "same", "parent or part", "different"
UNKNOWN, NOT_LINKED = "unknown name", "not linked"
_SIDE_WORDS = {
    "left": "left",
    "lh": "left",
    "lt": "left",
    "right": "right",
    "rh": "right",
    "rt": "right",
}
_NUMBER = re.compile(r"[a-z]?\d+\Z")


@dataclass(frozen=True)
class Meaning:
    """What a segment says it is. entry_id: None when no entry fits. side: "left", "right", None.
    how: "code", "table", "name", "similar name" or "" when unknown."""

    entry_id: str | None
    side: str | None
    how: str


class NameReader:
    """Looks segments up in one knowledge base; collects coding schemes it does not know."""

    def __init__(self, knowledge_base: KnowledgeBase) -> None:
        self.knowledge_base = knowledge_base
        self.unknown_schemes: set[str] = set()
        self._index: SearchIndex | None = None
        self._terms: dict[str, list[str]] = {}
        for entry in knowledge_base.entries:
            for term in dict.fromkeys(fold(t) for t in (*entry.terms, entry.id.replace("_", " "))):
                self._terms.setdefault(term, []).append(entry.id)

    def read(self, segment: NamedSegment) -> Meaning:
        """Entry and side of a segment."""
        words = fold(segment.name).split()
        named = self._exact(words)
        side, rest = split_side(words)
        if named is not None and self._says_side(named):
            # "Left atrium" is the name of one thing, not the left one of two
            side = None
        side = segment.side or side
        if segment.entry_id in self.knowledge_base.by_id:
            return Meaning(segment.entry_id, side, "table")
        coded = self._coded(segment, named or self._exact(rest))
        if coded is not None:
            return Meaning(coded, side, "code")
        found = named or self._by_words(rest)
        if found is not None:
            return Meaning(found, side, "name")
        similar = self._similar(segment.name)
        if similar is None:
            return Meaning(None, side, "")
        return Meaning(similar, None if self._says_side(similar) else side, "similar name")

    def _coded(self, segment: NamedSegment, named: str | None) -> str | None:
        for code in segment.codes:
            if code.scheme.upper() == OWN_SCHEME and code.value in self.knowledge_base.by_id:
                return code.value
            if code.scheme.upper() not in KNOWN_SCHEMES:
                self.unknown_schemes.add(code.scheme)
                continue
            entries = [entry.id for entry in self.knowledge_base.find_code(code.scheme, code.value)]
            if named in entries:
                return named
            if entries:
                return entries[0]
        return None

    def _says_side(self, identifier: str) -> bool:
        words = set(fold(self.knowledge_base.by_id[identifier].name).split())
        return bool(words & _SIDE_WORDS.keys())

    def _exact(self, words: list[str]) -> str | None:
        entries = self._terms.get(" ".join(words), [])
        return entries[0] if entries else None

    def _by_words(self, words: list[str]) -> str | None:
        for start in range(len(words)):
            part = words[start:]
            while part:
                found = self._exact(part) or self._exact([*part[:-1], _singular(part[-1])])
                # a single word taken out of a longer name may be anything
                if found is not None and (len(part) > 1 or len(words) <= 2):
                    return found
                if not _NUMBER.match(part[-1]):
                    break
                part = part[:-1]
        return None

    def _similar(self, name: str) -> str | None:
        if self._index is None:
            self._index = SearchIndex(self.knowledge_base)
        hits = self._index.search(name, 2)
        if not hits or hits[0].score < SIMILAR_ENOUGH:
            return None
        if len(hits) > 1 and hits[1].score > hits[0].score - 0.01:
            return None  # two fit alike: better said unknown than guessed
        return hits[0].entry.id


def split_side(words: list[str]) -> tuple[str | None, list[str]]:
    """(side, other words) of a folded name; a lone l or r counts at either end only."""
    side, rest = None, []
    for number, word in enumerate(words):
        own = _SIDE_WORDS.get(word)
        if own is None and word in ("l", "r") and number in (0, len(words) - 1) and len(words) > 1:
            own = "left" if word == "l" else "right"
        if own is None:
            rest.append(word)
        elif side is None:
            side = own
    return side, rest


def _singular(word: str) -> str:
    if word == "vertebre":  # folded "vertebrae"
        return "vertebra"
    return word[:-1] if word.endswith("s") and len(word) > 3 else word


def agreement(knowledge_base: KnowledgeBase, named: str | None, linked: str | None) -> str:
    """How a segment's own entry and the linked one go together: SAME, RELATED (one is a kind or a
    part of the other), DIFFERENT, UNKNOWN (no entry for its name), NOT_LINKED."""
    if named is None:
        return UNKNOWN
    if linked is None:
        return NOT_LINKED
    if named == linked:
        return SAME
    related = set(knowledge_base.ancestors(named)) | set(knowledge_base.descendants(named))
    return RELATED if linked in related - set(ROOTS) else DIFFERENT
