"""Definitions as text: length, spelling, and sentences that look made from one mould."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache

from ..resources import resource_path
from .entry import Entry

SPELLING_WORDS = "KnowledgeBase/spelling_words.txt"
SENTENCES = (2, 5)
WORDS = (25, 130)
WORDS_OF_A_SENTENCE = 50
_SAME_OPENING = 5  # that many entries may begin alike
_OPENING_WORDS = 5
_EDGE_WORDS = 2
_EDGE_SHARE = 0.01  # of all definitions, for their first and their last two words
_EDGE_ENTRIES = 300  # in fewer entries one per cent says nothing

# A full stop ends a sentence when a space and a capital, digit or bracket follow, unless it ends
# a short form.
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9(\"'])")
_SHORT_FORM = re.compile(r"(?:\b(?:e\.g|i\.e|vs|approx|ca|no|fig|cf|resp|incl)\.)$", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")

Finding = tuple[str, str, str, str]


def sentences(definition: str) -> list[str]:
    """The sentences of a text, in order."""
    found: list[str] = []
    for piece in _SENTENCE_END.split(definition.strip()):
        if found and _SHORT_FORM.search(found[-1]):
            found[-1] += f" {piece}"
        elif piece:
            found.append(piece)
    return found


def check_reading(entries: list[Entry], roots: Sequence[str]) -> Iterator[Finding]:
    """Length of definitions and sentences; the roots may be brief."""
    for entry in entries:
        if not entry.definition:
            yield "error", entry.id, "definition", "is empty"
            continue
        parts = sentences(entry.definition)
        words = len(_WORD.findall(entry.definition))
        if not entry.definition.endswith((".", "!", "?")):
            yield "error", entry.id, "definition", "does not end with a full stop"
        if "  " in entry.definition:
            yield "error", entry.id, "definition", "has two spaces in a row"
        if entry.id in roots:
            continue
        if not SENTENCES[0] <= len(parts) <= SENTENCES[1]:
            low, high = SENTENCES
            message = f"has {len(parts)} sentences; {low} to {high} read well"
            yield "error", entry.id, "definition", message
        if not WORDS[0] <= words <= WORDS[1]:
            message = f"has {words} words; {WORDS[0]} to {WORDS[1]} read well"
            yield "error", entry.id, "definition", message
        longest = max(len(_WORD.findall(part)) for part in parts)
        if longest > WORDS_OF_A_SENTENCE:
            yield "warning", entry.id, "definition", f"has a sentence of {longest} words; split it"


@lru_cache(maxsize=1)
def _listed_words() -> frozenset[str]:
    lines = resource_path(SPELLING_WORDS).read_text(encoding="utf-8").splitlines()
    return frozenset(line.strip() for line in lines if line.strip() and not line.startswith("#"))


def check_spelling(entries: list[Entry]) -> Iterator[Finding]:
    """Words of definitions that neither the shipped list nor any name of an entry holds."""
    known = set(_listed_words())
    for entry in entries:
        for name in entry.terms:
            known.update(words_of(name))
    for entry in entries:
        unknown = sorted(set(words_of(entry.definition)) - known)
        if unknown:
            message = f"unknown words, add right ones to spelling_words.txt: {', '.join(unknown)}"
            yield "warning", entry.id, "definition", message


def words_of(text: str) -> list[str]:
    """Words in lower case without a possessive s; single letters and codes like T2 are left out."""
    found = []
    for match in _WORD.finditer(text):
        before, after = text[match.start() - 1 : match.start()], text[match.end() : match.end() + 1]
        word = re.sub(r"['’]s$", "", match.group()).casefold()
        if len(word) > 1 and not before.isdigit() and not after.isdigit():
            found.append(word)
    return found


def check_templates(entries: list[Entry]) -> Iterator[Finding]:
    """Sentences that two entries share, also when only their own names or numbers differ."""
    first_use: dict[str, str] = {}
    openings: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        own = {sentence: _skeleton(sentence, entry) for sentence in sentences(entry.definition)}
        for sentence, skeleton in own.items():
            other = first_use.setdefault(skeleton, entry.id)
            if other != entry.id:
                message = f"shares a sentence with {other}: '{sentence[:80]}'"
                yield "error", entry.id, "definition", message
        if entry.definition:
            words = _skeleton(entry.definition, entry).split()[:_OPENING_WORDS]
            openings[" ".join(words)].append(entry.id)
    for opening, who in openings.items():
        if len(who) > _SAME_OPENING:
            message = f"{len(who)} definitions open with '{opening} ...': {', '.join(who[:8])}"
            yield "warning", who[0], "definition", message
    yield from _common_edges(entries)
    yield from _near_copies(entries)


def _common_edges(entries: list[Entry]) -> Iterator[Finding]:
    """First and last two words that more than one in a hundred definitions share."""
    if len(entries) < _EDGE_ENTRIES:
        return
    for verb, edge in (("open", slice(_EDGE_WORDS)), ("close", slice(-_EDGE_WORDS, None))):
        who: dict[str, list[str]] = defaultdict(list)
        for entry in entries:
            who[" ".join(_WORD.findall(entry.definition.casefold())[edge])].append(entry.id)
        for words, ids in who.items():
            if words and len(ids) > _EDGE_SHARE * len(entries):
                message = f"{len(ids)} definitions {verb} with '{words}': {', '.join(ids[:8])}"
                yield "warning", ids[0], "definition", message


def _skeleton(sentence: str, entry: Entry) -> str:
    """The sentence with the entry's own names and all numbers masked."""
    masked = sentence.casefold()
    for name in sorted(entry.terms, key=len, reverse=True):
        masked = re.sub(rf"\b{re.escape(name.casefold())}\b", "#", masked)
    masked = re.sub(r"\d+(?:[.,-]\d+)*", "0", masked)
    return " ".join(re.findall(r"[\w#]+", masked))


def _near_copies(entries: list[Entry]) -> Iterator[Finding]:
    """Pairs of definitions that share most of their runs of four words."""
    runs: dict[tuple[str, ...], list[int]] = defaultdict(list)
    sizes = []
    for number, entry in enumerate(entries):
        words = entry.definition.casefold().split()
        own = {tuple(words[i : i + 4]) for i in range(len(words) - 3)}
        sizes.append(len(own))
        for run in own:
            runs[run].append(number)
    shared: Counter[tuple[int, int]] = Counter()
    for who in runs.values():
        if 1 < len(who) <= 20:
            shared.update((a, b) for i, a in enumerate(who) for b in who[i + 1 :])
    for (a, b), count in sorted(shared.items()):
        if count / max(min(sizes[a], sizes[b]), 1) > 0.35:
            message = f"is {100 * count // min(sizes[a], sizes[b])} % the text of {entries[a].id}"
            yield "error", entries[b].id, "definition", message
