"""Striking out what no source says: findings, sides, sizes and numbers of a reworded draft."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..reports.language.mentions import ABSENT, LIKELY, POSSIBLE, REMOVED, SUGGESTED
from ..reports.meta_entities import read_report
from .draft import Draft

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")
_SIDE = re.compile(r"\b(left|right|bilateral|both)\b", re.IGNORECASE)
_WORD = re.compile(r"[a-z]{4,}")
_CASE = re.compile(r"\bcases?\b", re.IGNORECASE)
_MARK = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+")
LONGEST = 20_000
# Words of an advice or a judgement; a draft from sources holds none of its own.
_ADVICE = re.compile(
    r"\b(recommend\w*|advis\w*|suggest\w*|follow[- ]?up|biops\w+|consistent with|indicat\w+|"
    r"diagnos\w+|malignan\w+|benign|treat\w*|urgent\w*)\b",
    re.IGNORECASE,
)
_COMMON = frozenset(
    [
        "this",
        "that",
        "with",
        "from",
        "lies",
        "slice",
        "measures",
        "region",
        "shows",
        "marked",
        "which",
        "area",
        "centre",
        "imaged",
        "body",
        "similar",
        "case",
        "reported",
        "there",
        "there's",
        "present",
        "seen",
        "located",
        "measuring",
        "size",
        "approximately",
        "image",
        "within",
        "draft",
        "report",
        "findings",
        "finding",
        "appears",
        "longest",
        "diameter",
        "perpendicular",
        "usual",
        "than",
        "also",
        "have",
        "been",
        "were",
        "where",
        "what",
        "other",
        "than",
        "about",
        "into",
        "over",
        "their",
        "its",
        "the",
        "and",
        "are",
        "was",
        "will",
    ]
)


@dataclass(frozen=True)
class _Told:
    """What the sources say. own, cases: {(finding, denied): how sure}; the rest in lower case."""

    own: dict[tuple[str, bool], int]
    cases: dict[tuple[str, bool], int]
    numbers: set[str]
    sides: set[str]
    advice: set[str]
    words: set[str]


def strike_unsupported(
    wording: str,
    sources: Sequence[str],
    case_sources: Sequence[str] = (),
    names: Sequence[str] = (),
) -> tuple[str, tuple[tuple[str, str], ...]]:
    """(what is left of `wording`, the sentences taken out with the reason).

    A sentence stays when every finding it affirms or denies is affirmed or denied by a source, no
    surer than there; when its sides, numbers and advice are the sources' own; and when its content
    words mostly are. What only `case_sources` (other patients) say must be said of a case. names:
    further words that may be said (names and synonyms of the linked entry).
    """
    text = " ".join([*sources, *case_sources])
    told = _Told(
        _findings(sources),
        _findings(case_sources),
        {_plain(n) for n in _NUMBER.findall(text)},
        {s.lower() for s in _SIDE.findall(text)},
        {a.lower() for a in _ADVICE.findall(text)},
        set(_WORD.findall(" ".join([text, *names]).lower())) | _COMMON,
    )
    kept: list[str] = []
    struck: list[tuple[str, str]] = []
    for part in _SENTENCE.split(wording[:LONGEST]):
        sentence = _MARK.sub("", part).strip()
        if not sentence:
            continue
        reason = _reason(sentence, told)
        if reason:
            struck.append((sentence, reason))
        else:
            kept.append(sentence)
    if len(wording) > LONGEST:
        struck.append((wording[LONGEST : LONGEST + 80], f"longer than {LONGEST} characters"))
    return " ".join(kept), tuple(struck)


def _findings(texts: Sequence[str]) -> dict[tuple[str, bool], int]:
    """{(finding, denied): 1 when asserted, 0 when only doubted}; the surest mention counts."""
    found: dict[tuple[str, bool], int] = {}
    for text in texts:
        for sentence in read_report(text).sentences:
            for mention in sentence.mentions:
                if mention.certainty == REMOVED:
                    continue
                key = (mention.finding, mention.certainty == ABSENT)
                sure = int(mention.certainty not in (POSSIBLE, SUGGESTED, LIKELY))
                found[key] = max(found.get(key, 0), sure)
    return found


def _reason(sentence: str, told: _Told) -> str:
    """Why a sentence may not stay; "" when it may."""
    allowed = {**told.cases, **told.own} if _CASE.search(sentence) else told.own
    for (finding, denied), sure in sorted(_findings([sentence]).items()):
        name = finding.replace("_", " ")
        if (finding, denied) not in allowed:
            if (finding, denied) in told.cases:
                return f"'{name}' is said of another case only"
            return f"no source says '{name}' so"
        if sure > max(allowed[finding, denied], told.cases.get((finding, denied), 0)
                      if _CASE.search(sentence) else 0):  # fmt: skip
            return f"no source is as sure of '{name}'"
    for number in _NUMBER.findall(sentence):
        if _plain(number) not in told.numbers:
            return f"no source has the number {number}"
    for side in _SIDE.findall(sentence):
        if side.lower() not in told.sides:
            return f"no source says '{side.lower()}'"
    for word in _ADVICE.findall(sentence):
        if word.lower() not in told.advice:
            return f"no source says '{word.lower()}'"
    content = _WORD.findall(sentence.lower())
    new = [word for word in content if word not in told.words]
    if len(new) > max(1, len(content) // 4):
        return f"most of it is in no source ('{new[0]}')"
    return ""


def _plain(number: str) -> str:
    number = number.replace(",", ".")
    return number.rstrip("0").rstrip(".") if "." in number else number


def checked_wording(
    answer: str, draft: Draft, names: Sequence[str]
) -> tuple[str, tuple[tuple[str, str], ...]]:
    """A language model's wording less what the draft's sources do not say, and what was struck."""
    own = [s.text for s in draft.sentences if s.source != "case"]
    cases = [s.text for s in draft.sentences if s.source == "case"]
    return strike_unsupported(answer, own, cases, names)
