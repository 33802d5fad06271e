"""Finding entries by what people type: names, synonyms, Latin, abbreviations, with typing errors.

Two passes: letter trigrams pick some dozens of names and words out of any number, then those are
compared letter by letter. Unless a name fits as it stands, the query is also tried in other words:
an abbreviation written out ("GCT of bone"), plain words for learned ones ("broken wrist"). Words
of the definitions count when the names give nothing better, most when they stand side by side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from .entry import Entry
from .ngrams import TrigramIndex
from .spelling import content_words, fold, same_words, similarity
from .store import KnowledgeBase

_CANDIDATES = 48
_SHORT_WORD = 7  # shorter words share too few trigrams with their misspelling
_NAME, _SYNONYM, _LATIN, _ABBREVIATION, _IDENTIFIER, _CODE = 1.0, 0.985, 0.975, 0.97, 0.96, 0.95
_DEFINITION = 0.5
_PHRASE = 0.84  # of a definition: before names that hold only a part of the query
_RARE_WORDS = 0.7  # of one definition: before names that merely look like the query
_OTHER_WORDS = 0.97
_SURE_NAME = 0.95  # with such a hit the query is not tried in other words
_MOST_WORDINGS = 6
_LEAST_SCORE = 0.45
_GOOD_NAME = 0.85  # with such a hit among the names, texts are not looked at
_SIDES = {"left", "right", "bilateral"}


@dataclass(frozen=True)
class SearchHit:
    """An entry, how well it fits (0..1) and the name that did ("" for its definition)."""

    entry: Entry
    score: float
    matched: str


@dataclass(frozen=True)
class _Term:
    entry: int
    shown: str
    joined: str  # its words without spaces
    words: tuple[str, ...]
    weight: float
    as_written: bool = False  # abbreviations and codes: most are one letter from another one


class SearchIndex:
    """Search over one knowledge base; built once, safe to ask from several threads."""

    def __init__(self, kb: KnowledgeBase) -> None:
        self.entries = kb.entries
        self._terms = [
            term for number, entry in enumerate(kb.entries) for term in _terms(number, entry)
        ]
        self._term_grams = TrigramIndex([term.joined for term in self._terms])
        words: dict[str, list[int]] = defaultdict(list)
        for number, term in enumerate(self._terms):
            for word in set(term.words):
                words[word].append(number)
        self._terms_of_word = dict(words)
        self._written_out: dict[str, list[tuple[str, ...]]] = defaultdict(list)
        for entry in kb.entries:
            for short in entry.abbreviations:
                self._written_out[fold(short)].append(tuple(content_words(entry.name)))
        self._words = list(words)
        self._word_grams = TrigramIndex(self._words)
        self._deletions: dict[str, list[str]] = defaultdict(list)
        for word in self._words:
            if len(word) <= _SHORT_WORD:
                for shorter in _one_letter_less(word):
                    self._deletions[shorter].append(word)

    @cached_property
    def _in_definition(self) -> dict[str, set[int]]:
        """Entries whose definition has a word; made when the first search looks there."""
        found: dict[str, set[int]] = {}
        for number, entry in enumerate(self.entries):
            for word in set(fold(entry.definition).split()):
                found.setdefault(word, set()).add(number)
        return found

    def search(self, text: str, limit: int = 10, kinds: Iterable[str] = ()) -> list[SearchHit]:
        """Best entries first, at most `limit`; empty when nothing resembles the text.

        kinds: keep only these ("anatomy", "pathology", "device"); empty keeps all.
        """
        wanted = set(kinds)
        words = content_words(text[:500])[:20]
        if not words or limit < 1:
            return []
        best: dict[int, tuple[float, str]] = {}
        self._match_names(words, best, 1.0)
        without_side = [word for word in words if word not in _SIDES]
        if without_side and without_side != words:
            self._match_names(without_side, best, 0.98)
        words = without_side or words
        if _best(best) < _SURE_NAME:
            for wording in self._other_wordings(words):
                self._match_names(wording, best, _OTHER_WORDS)
        if _best(best) < _GOOD_NAME:
            self._match_definitions(words, best)
        hits = [
            SearchHit(self.entries[number], round(score, 4), matched)
            for number, (score, matched) in best.items()
            if score >= _LEAST_SCORE and (not wanted or self.entries[number].kind in wanted)
        ]
        hits.sort(key=lambda hit: (-hit.score, len(hit.entry.name), hit.entry.id))
        return hits[:limit]

    def _match_names(
        self, words: list[str], best: dict[int, tuple[float, str]], factor: float
    ) -> None:
        joined = "".join(words)
        similar_words = {word: self._similar_words(word) for word in set(words)}
        numbers = set(self._term_grams.nearest(joined, _CANDIDATES))
        for found in similar_words.values():
            numbers.update(self._rarest_terms(found))
        if len(joined) <= _SHORT_WORD:
            for word in self._similar_words(joined):
                numbers.update(self._terms_of_word[word])
        for number in numbers:
            term = self._terms[number]
            score = factor * term.weight * _term_score(words, joined, term, similar_words)
            if score > best.get(term.entry, (0.0, ""))[0]:
                best[term.entry] = (score, term.shown)

    def _other_wordings(self, words: list[str]) -> list[list[str]]:
        """The query with one word or two replaced, at most `_MOST_WORDINGS` ("torn ACL" needs
        both)."""
        once = self._one_replaced(tuple(words))
        twice = [again for wording in once for again in self._one_replaced(wording)]
        wordings = dict.fromkeys(once + twice)
        wordings.pop(tuple(words), None)
        return [list(wording) for wording in wordings][:_MOST_WORDINGS]

    def _one_replaced(self, words: tuple[str, ...]) -> list[tuple[str, ...]]:
        """An abbreviation beside other words by what it stands for, a plain word by the learned
        one and back."""
        found = []
        for place, word in enumerate(words):
            others: list[tuple[str, ...]] = [(other,) for other in same_words(word)]
            if len(words) > 1:
                others += self._written_out.get(word, [])
            for other in others:
                wording = (*words[:place], *other, *words[place + 1 :])
                found.append(tuple(dict.fromkeys(wording)))
        return found

    def _similar_words(self, word: str) -> dict[str, float]:
        """Words of the knowledge base that may be meant, with their similarity."""
        candidates = {self._words[i] for i in self._word_grams.nearest(word, _CANDIDATES)}
        if len(word) <= _SHORT_WORD + 1:
            for shorter in _one_letter_less(word):
                candidates.update(self._deletions.get(shorter, ()))
        found = {}
        for other in candidates:
            score = similarity(word, other)
            if len(word) >= 3 and other.startswith(word):
                score = max(score, 0.8 + 0.2 * len(word) / len(other))
            if score >= 0.6 or (score >= 0.5 and len(word) <= 4):
                found[other] = score
        if word in self._terms_of_word:
            found[word] = 1.0
        return found

    def _rarest_terms(self, found: dict[str, float]) -> set[int]:
        """Terms holding a word that may be meant; of very common words only a part."""
        numbers: set[int] = set()
        for word in sorted(found, key=lambda w: (-found[w], len(self._terms_of_word[w]))):
            numbers.update(self._terms_of_word[word][:400])
            if len(numbers) > 1000:
                break
        return numbers

    def _match_definitions(self, words: list[str], best: dict[int, tuple[float, str]]) -> None:
        known = [word for word in words if word in self._in_definition]
        if not known or len(known) < len(words):
            return
        together = set.intersection(*(self._in_definition[word] for word in known))
        phrase = f" {' '.join(words)} " if len(words) > 1 else None
        for number in together:
            # Of two definitions with all words, the shorter text comes first.
            definition = self.entries[number].definition
            side_by_side = phrase and phrase in f" {' '.join(content_words(definition))} "
            score = _RARE_WORDS if len(together) == 1 else _DEFINITION
            score = _PHRASE if side_by_side else score
            score -= 0.0001 * min(len(definition), 400)
            if score > best.get(number, (0.0, ""))[0]:
                best[number] = (score, "")


def _terms(number: int, entry: Entry) -> Iterable[_Term]:
    groups = (
        ((entry.name,), _NAME, False),
        (entry.synonyms, _SYNONYM, False),
        (entry.latin, _LATIN, False),
        (entry.abbreviations, _ABBREVIATION, True),
        ((entry.id.replace("_", " "),), _IDENTIFIER, False),
        (tuple(code.value for code in entry.codes), _CODE, True),
    )
    seen: set[tuple[str, ...]] = set()
    for names, weight, as_written in groups:
        for name in names:
            words = tuple(content_words(name))
            if words and words not in seen:
                seen.add(words)
                yield _Term(number, name, "".join(words), words, weight, as_written)


def _best(found: dict[int, tuple[float, str]]) -> float:
    return max((score for score, _ in found.values()), default=0.0)


def _one_letter_less(word: str) -> set[str]:
    return {word} | {word[:i] + word[i + 1 :] for i in range(len(word))}


def _term_score(
    words: list[str], joined: str, term: _Term, similar: dict[str, dict[str, float]]
) -> float:
    """How well one name fits the query: as a whole, and word by word in any order."""
    whole = similarity(joined, term.joined)
    if whole == 1.0:
        return 1.0
    if term.as_written:
        return 0.85 * whole
    asked = found = 0.0
    met = dict.fromkeys(term.words, 0.0)
    for word in words:
        fits = similar.get(word, {})
        score, best = max(((fits.get(own, 0.0), own) for own in term.words), default=(0.0, ""))
        asked += len(word)
        found += len(word) * score
        if best:
            met[best] = max(met[best], score)
    covered = found / asked
    named = sum(len(word) * score for word, score in met.items()) / sum(map(len, met))
    by_words = 0.97 * (0.72 * covered + 0.28 * named)
    return max(0.98 * whole, by_words)
