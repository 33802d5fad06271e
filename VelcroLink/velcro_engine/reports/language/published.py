"""The published MedTrim rules, as the baseline that ours are measured against.

As the paper and its code describe them (facts in the benchmark's notes): sentences are split into
parts at "but", "with" and ", which" and cut after " without " and " rather than "; a part that holds
any negation or normality word yields nothing; in the others terms are looked up longest first, and
all adjectives and directions of a part go to every disease in it. Reading doubt, lists under one
negation or words in two places ("heart ... enlarged") is not part of them. The vocabulary is ours,
so that what differs is the rules alone.
"""

from __future__ import annotations

import re
from functools import lru_cache

from .mentions import ASSERTED, IGNORED, Mention
from .ontology import Ontology, lemmas_of
from .sentences import clean_text, split_sentences

SILENCING = [
    "no",
    "not",
    "normal",
    "unremarkable",
    "clear",
    "resolved",
    "intact",
    "negligible",
    "negative",
    "absent",
    "without",
    "free",
    "none",
    "neither",
    "nor",
    "stable-appearing",
]
SILENCING_PHRASES = ("within normal limits", "ruled out", "rather than")
_PARTS = re.compile(r"\bbut\b|\bwith\b|, which\b", re.I)
_CUT = re.compile(r" without | rather than ", re.I)


def read_report_published(findings: str, impression: str, ontology: Ontology) -> list[Mention]:
    """Mentions by the published rules, each of certainty "asserted"."""
    found: list[Mention] = []
    for section in (findings, impression):
        for sentence in split_sentences(clean_text(section), ontology.lemma):
            for part in _PARTS.split(sentence.text):
                found.extend(_read_part(_CUT.split(part)[0], ontology))
    return found


def _read_part(part: str, ontology: Ontology) -> list[Mention]:
    lowered = part.lower()
    if any(phrase in lowered for phrase in SILENCING_PHRASES):
        return []
    mentions: list[Mention] = []
    for sentence in split_sentences(part, ontology.lemma):
        lemmas = lemmas_of(sentence.tokens)
        if _silencing().intersection(lemmas):
            continue
        sides = {value for _, _, value in ontology.sides.find(lemmas)}
        places = {value for _, _, value in ontology.places.find(lemmas)}
        qualifiers = {value for _, _, value in ontology.qualifiers.find(lemmas)}
        for start, end, finding in ontology.terms.find(lemmas):
            if finding != IGNORED:
                mentions.append(
                    Mention(
                        finding,
                        " ".join(lemmas[start:end]),
                        tuple(range(start, end)),
                        0,
                        ASSERTED,
                        sides=set(sides),
                        places=set(places),
                        qualifiers=set(qualifiers),
                    )
                )
    return mentions


@lru_cache(maxsize=1)
def _silencing() -> frozenset[str]:
    return frozenset(SILENCING)
