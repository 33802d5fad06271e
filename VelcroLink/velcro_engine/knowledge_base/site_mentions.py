"""Which entries a definition names: the cross-links of the atlas pages."""

from __future__ import annotations

import re

from .entry import Entry
from .store import ROOTS, KnowledgeBase

# Names that mean something else in the texts of other regions: a tongue of tissue, a pedicle of
# vessels, the density of fluid. They link within their own region only.
_OF_ONE_REGION = (
    "airway",
    "anterior commissure",
    "caudate",
    "degeneration",
    "density",
    "finger",
    "granuloma",
    "infiltrate",
    "lamina",
    "lateral recess",
    "lucency",
    "meniscus",
    "opacity",
    "pedicle",
    "tongue",
)


class Mentions:
    """Which other entries a definition names, so that a reader can compare them."""

    def __init__(self, kb: KnowledgeBase) -> None:
        self._by_words: dict[tuple[str, ...], str] = {}
        self._of_one_region = {tuple(_words(name)) for name in _OF_ONE_REGION}
        self._region = {entry.id: entry.region for entry in kb.entries}
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
                name = tuple(words[position : position + length])
                hit = self._by_words.get(name)
                if hit is not None:
                    elsewhere = self._region[hit] != entry.region and name in self._of_one_region
                    if hit not in related and not elsewhere:
                        found[hit] = None
                    step = length
                    break
            position += step
        return list(found)


def _words(text: str) -> list[str]:
    found = re.findall(r"[a-z0-9]+", text.casefold())
    return [w[:-1] if len(w) > 4 and w.endswith("s") and not w.endswith("ss") else w for w in found]
