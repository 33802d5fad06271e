"""Which entries a definition names: the cross-links of the atlas pages."""

from __future__ import annotations

import re

from .entry import Entry
from .store import ROOTS, KnowledgeBase


class Mentions:
    """Which other entries a definition names, so that a reader can compare them."""

    def __init__(self, kb: KnowledgeBase) -> None:
        self._by_words: dict[tuple[str, ...], str] = {}
        for entry in kb.entries:
            for name in () if entry.id in ROOTS else (entry.name, *entry.synonyms):
                words = tuple(_words(name))
                if len(words) > 1 or (words and len(words[0]) >= 6):
                    self._by_words.setdefault(words, entry.id)
        self._longest = max(map(len, self._by_words), default=0)

    def of(self, entry: Entry) -> list[str]:
        """Ids in the order of their first mention; the longest name counts."""
        words = _words(entry.definition)
        related = {entry.id, *entry.parents, *entry.places}
        found: dict[str, None] = {}
        position = 0
        while position < len(words):
            step = 1
            for length in range(min(self._longest, len(words) - position), 0, -1):
                hit = self._by_words.get(tuple(words[position : position + length]))
                if hit is not None:
                    if hit not in related:
                        found[hit] = None
                    step = length
                    break
            position += step
        return list(found)


def _words(text: str) -> list[str]:
    found = re.findall(r"[a-z0-9]+", text.casefold())
    return [w[:-1] if len(w) > 4 and w.endswith("s") and not w.endswith("ss") else w for w in found]
