"""How far "no", "may represent" and their like reach in a sentence.

Beyond the published rules, where one negating word silences its whole part of the sentence: a
negation reaches forward over lists ("no effusion, pneumothorax or edema") until the clause ends or
a word affirms again, backward only where it follows its subject ("has resolved", "is not seen").
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache

from .ontology import FOLDER, Ontology

REACH_BACK = 2  # words between a finding and the "or" that makes it one of two


@dataclass(frozen=True)
class Scopes:
    """Per token: number of its clause, whether denied, how certain by which words, if past."""

    clause: list[int]
    negated: list[bool]
    certainty: list[str]
    cue: list[str]
    past: list[bool]


def scopes_of(lemmas: tuple[str, ...], ontology: Ontology) -> Scopes:
    """Scopes of a sentence's lemmas."""
    clause = clauses(lemmas)
    count = len(lemmas)
    negated = [False] * count
    certainty = ["asserted"] * count
    cue = [""] * count
    past = [False] * count
    stops = {start for start, _, _ in ontology.cues["stop"].find(lemmas)}
    affirm = grammar()["affirm"]
    ends_back = grammar()["ends_back"]
    for start, end, kind in ontology.cues["negation"].find(lemmas):
        if kind == "not_negation":
            continue
        for at in range(end, count):
            if clause[at] != clause[start] or at in stops:
                break
            if lemmas[at - 1] == "," and lemmas[at] in affirm:
                break
            negated[at] = True
    for start, end, kind in ontology.cues["certainty"].find(lemmas):
        for at in range(end, count):
            if clause[at] != clause[start]:
                break
            if kind == "possible" or certainty[at] == "asserted":
                certainty[at] = kind
                cue[at] = " ".join(lemmas[start:end])
        if lemmas[start] in ("or", "versus", "vs"):
            for at in range(max(0, start - REACH_BACK), start):
                certainty[at] = "possible"
                cue[at] = lemmas[start]
    for start, end, kind in ontology.cues["after"].find(lemmas):
        at = start - 1
        while at >= 0 and clause[at] == clause[start] and lemmas[at] not in ends_back:
            if kind == "negate_after":
                negated[at] = True
            else:
                certainty[at], cue[at] = "possible", " ".join(lemmas[start:end])
            at -= 1
    for _, end, _ in ontology.cues["past"].find(lemmas):
        for at in range(end, min(count, end + 4)):
            past[at] = True
    return Scopes(clause, negated, certainty, cue, past)


def clauses(lemmas: tuple[str, ...]) -> list[int]:
    """Clause number of each token. "and" or a comma ends a clause only between two verbs."""
    words = grammar()
    verbs, ends = words["verbs"], words["clause_words"]
    number, has_verb = 0, False
    found = []
    for at, lemma in enumerate(lemmas):
        if lemma in ends or (
            lemma in ("and", ",") and has_verb and _verb_follows(lemmas, at + 1, verbs)
        ):
            number += 1
            has_verb = False
        found.append(number)
        has_verb = has_verb or lemma in verbs
    return found


def _verb_follows(lemmas: tuple[str, ...], start: int, verbs: frozenset[str]) -> bool:
    for lemma in lemmas[start : start + 8]:
        if lemma in ("and", ",", ";"):
            return False
        if lemma in verbs:
            return True
    return False


@lru_cache(maxsize=1)
def grammar() -> dict[str, frozenset[str]]:
    """The closed word classes of `cues.json`: verbs, prepositions, joining words."""
    data = json.loads((FOLDER / "cues.json").read_text("utf-8"))
    return {key: frozenset(value) for key, value in data.items() if isinstance(value, list)}
