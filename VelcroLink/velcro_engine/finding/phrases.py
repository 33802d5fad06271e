"""What a phrase asks for: the side it names and the entries of the knowledge base it means."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..knowledge_base import KnowledgeBase
from ..knowledge_base.search import SearchHit, SearchIndex

LONGEST_PHRASE = 300
KNOWN_ABOVE = 0.80  # score of the search from which the phrase is taken for that entry
SAME_SCORE = 0.002
_SIDE = re.compile(r"\b(left|right|bilateral|both)(?:[- ]sided)?\b", re.IGNORECASE)


@dataclass(frozen=True)
class Phrase:
    """text: as typed. rest: without its side. side: "left", "right" or None. entries: ids that are
    meant, the entry that fits best first, then its kinds and parts; empty when it fits none."""

    text: str
    rest: str
    side: str | None
    entries: tuple[str, ...]


def read_phrase(text: str, base: KnowledgeBase, index: SearchIndex) -> Phrase:
    """Understand a phrase ("left hippocampus", "white matter lesions"). Raises InputError when it is
    empty or too long."""
    text = " ".join(text.split())
    if not text:
        raise InputError("Type what to find, for instance 'left hippocampus'.")
    if len(text) > LONGEST_PHRASE:
        raise InputError(f"The phrase is longer than {LONGEST_PHRASE} characters; shorten it.")
    named = {match.lower() for match in _SIDE.findall(text)}
    side = named.pop() if len(named) == 1 and named <= {"left", "right"} else None
    rest = " ".join(_SIDE.sub(" ", text).split()) or text
    hits = _known(index, rest) or _known(index, " ".join(map(_singular, rest.split())))
    meant: dict[str, None] = {}
    for hit in hits:
        if hit.score >= hits[0].score - SAME_SCORE:
            meant |= dict.fromkeys((hit.entry.id, *base.descendants(hit.entry.id)))
    return Phrase(text, rest, side, tuple(meant))


def _known(index: SearchIndex, text: str) -> list[SearchHit]:
    return [hit for hit in index.search(text, 5) if hit.score >= KNOWN_ABOVE and hit.matched]


def _singular(word: str) -> str:
    """A word without the plural that names in the knowledge base do not have."""
    lower = word.lower()
    if len(word) > 4 and lower.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and lower.endswith("s") and not lower.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def entry_rows(base: KnowledgeBase, entries: tuple[str, ...]) -> np.ndarray:
    """Rows of entries in the order of `base.entries`."""
    wanted = set(entries)
    return np.array([n for n, e in enumerate(base.entries) if e.id in wanted], dtype=np.intp)
