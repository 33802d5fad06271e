"""The vocabulary of reports, read from `data/ontology`: findings, places, sides, qualifiers, cues.

`findings.json`: {"groups": {name: [phrase]}, "findings": [{"id", "kb", "terms", "together"}]}. A
term is a phrase, folded to lemmas when read. `together` holds word groups that mean the finding when
they meet in a clause, at most `within` words apart: [["heart"], ["enlarged"]].
`attributes.json`: places (with the entry they are), sides, qualifier families. `cues.json`: words
that negate, doubt or end the reach of those that do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...errors import InputError
from .sentences import Lemmatizer, Token

FOLDER = Path(__file__).parent / "data" / "ontology"
DEFAULT_WITHIN = 6


class PhraseIndex:
    """Longest-first lookup of phrases (tuples of lemmas) in a token sequence."""

    def __init__(self) -> None:
        self._by_first: dict[str, list[tuple[tuple[str, ...], str]]] = {}

    def add(self, phrase: tuple[str, ...], value: str) -> None:
        """Make `phrase` mean `value`; the first meaning given to a phrase stays."""
        entries = self._by_first.setdefault(phrase[0], [])
        if all(known != phrase for known, _ in entries):
            entries.append((phrase, value))
            entries.sort(key=lambda entry: -len(entry[0]))

    def find(self, lemmas: tuple[str, ...]) -> list[tuple[int, int, str]]:
        """(first, end, value) of the phrases met, left to right, none overlapping."""
        found: list[tuple[int, int, str]] = []
        by_first = self._by_first
        free = 0
        for at, lemma in enumerate(lemmas):
            if at < free or lemma not in by_first:
                continue
            for phrase, value in by_first[lemma]:
                end = at + len(phrase)
                if lemmas[at:end] == phrase:
                    found.append((at, end, value))
                    free = end
                    break
        return found


@dataclass(frozen=True)
class Together:
    """Word groups that together mean a finding."""

    finding: str
    groups: tuple[frozenset[str], ...]
    within: int
    unless: frozenset[str]  # findings whose term in the same clause explains the words better


@dataclass
class Ontology:
    """Everything the reader of reports knows. Build with `load_ontology`."""

    lemma: Lemmatizer
    knowledge_base_ids: dict[str, str | None]  # finding or place -> KB entry id
    terms: PhraseIndex  # finding terms
    groups: PhraseIndex  # words of `together`
    together: list[Together]
    places: PhraseIndex
    sides: PhraseIndex
    qualifiers: PhraseIndex  # value "family/value"
    cues: dict[str, PhraseIndex]  # layer -> index whose values are kinds of cue
    place_sides: dict[str, str] = field(default_factory=dict)
    place_parents: dict[str, str] = field(default_factory=dict)
    read: dict[tuple[str, ...], tuple[Any, ...]] = field(default_factory=dict)  # sentences seen
    generic: set[str] = field(default_factory=set)  # give way to what a rule makes of the words

    def phrase(self, text: str) -> tuple[str, ...]:
        """A phrase as the lemmas it is matched by."""
        return fold_phrase(text, self.lemma)


def fold_phrase(text: str, lemma: Lemmatizer) -> tuple[str, ...]:
    """Lemmas of a phrase's words; hyphens separate words as in reports."""
    return tuple(lemma(word) for word in text.lower().replace("-", " - ").split())


@lru_cache(maxsize=4)
def load_ontology(folder: Path = FOLDER) -> Ontology:
    """The vocabulary, read once; InputError names the file and what is wrong with it."""
    return read_ontology(folder)


def read_ontology(folder: Path = FOLDER) -> Ontology:
    """The vocabulary, read anew: one that the caller may add to."""
    findings = _read(folder / "findings.json")
    attributes = _read(folder / "attributes.json")
    cues = _read(folder / "cues.json")
    lemma = Lemmatizer(attributes["irregular"])
    ontology = Ontology(
        lemma, {}, PhraseIndex(), PhraseIndex(), [], PhraseIndex(), PhraseIndex(), PhraseIndex(), {},
    )  # fmt: skip
    try:
        _add_findings(ontology, findings)
        _add_attributes(ontology, attributes)
        for layer, kinds in cues["layers"].items():
            index = ontology.cues[layer] = PhraseIndex()
            for kind, phrases in kinds.items():
                _add_all(index, phrases, kind, lemma)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"The report vocabulary in '{folder}' is damaged; install VelcroLink again.",
            repr(error),
        ) from error
    return ontology


def _add_findings(ontology: Ontology, data: dict[str, Any]) -> None:
    for name, phrases in data["groups"].items():
        _add_all(ontology.groups, phrases, name, ontology.lemma)
    for finding in data["findings"]:
        identity = finding["id"]
        ontology.knowledge_base_ids[identity] = finding.get("kb")
        _add_all(ontology.terms, finding.get("terms", []), identity, ontology.lemma)
        for rule in finding.get("together", []):
            groups = tuple(frozenset(group) for group in rule["groups"])
            unknown = {name for group in groups for name in group} - set(data["groups"])
            if unknown:
                raise KeyError(f"{identity}: no group {sorted(unknown)}")
            within = rule.get("within", DEFAULT_WITHIN)
            unless = frozenset(rule.get("unless", []))
            ontology.together.append(Together(identity, groups, within, unless))
        if finding.get("generic"):
            ontology.generic.add(identity)


def _add_attributes(ontology: Ontology, data: dict[str, Any]) -> None:
    for place in data["places"]:
        identity = place["id"]
        ontology.knowledge_base_ids.setdefault(identity, place.get("kb"))
        _add_all(ontology.places, place["terms"], identity, ontology.lemma)
        if place.get("side"):
            ontology.place_sides[identity] = place["side"]
        if place.get("part_of"):
            ontology.place_parents[identity] = place["part_of"]
    for side, phrases in data["sides"].items():
        _add_all(ontology.sides, phrases, side, ontology.lemma)
    for family, values in data["qualifiers"].items():
        for value, phrases in values.items():
            _add_all(ontology.qualifiers, phrases, f"{family}/{value}", ontology.lemma)


def _add_all(index: PhraseIndex, phrases: Iterable[str], value: str, lemma: Lemmatizer) -> None:
    for phrase in phrases:
        index.add(fold_phrase(phrase, lemma), value)


def lemmas_of(tokens: Iterable[Token]) -> tuple[str, ...]:
    """Lemmas of tokens, in order."""
    return tuple(token.lemma for token in tokens)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"The vocabulary file '{path}' cannot be read; install VelcroLink again.", repr(error)
        ) from error
    if not isinstance(data, dict):
        raise InputError(f"The vocabulary file '{path}' holds no object; install VelcroLink again.")
    return data
