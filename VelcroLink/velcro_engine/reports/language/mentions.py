"""Finding mentions in a sentence: by term, or by word groups that meet in a clause."""

from __future__ import annotations

from dataclasses import dataclass, field

from .ontology import Ontology
from .scope import Scopes, scopes_of
from .sentences import Sentence

ABSENT, POSSIBLE, SUGGESTED, LIKELY = "absent", "possible", "suggested", "likely"
REMOVED, ASSERTED = "removed", "asserted"
IGNORED = "-"  # phrases that look like a finding and are none


@dataclass
class Mention:
    """A finding named in a sentence. `tokens` are its word positions, `clause` its clause.

    `certainty`: "asserted"; "likely", "suggested" or "possible" after a word of doubt (`cue`); "removed" after a removed
    word, which often was one; "absent" where the text denies it. Sentences that repeat share their
    mentions: read them, do not change them.
    """

    finding: str
    term: str
    tokens: tuple[int, ...]
    clause: int
    certainty: str
    plural: bool = False
    past: bool = False
    cue: str = ""
    sides: set[str] = field(default_factory=set)
    places: set[str] = field(default_factory=set)
    qualifiers: set[str] = field(default_factory=set)

    @property
    def start(self) -> int:
        return self.tokens[0]

    @property
    def end(self) -> int:
        return self.tokens[-1] + 1


def find_mentions(sentence: Sentence, lemmas: tuple[str, ...], ontology: Ontology) -> list[Mention]:
    """Mentions of a sentence in order, certainty settled, attributes still empty."""
    terms = ontology.terms.find(lemmas)
    groups = ontology.groups.find(lemmas)
    if not any(value != IGNORED for _, _, value in terms) and len(groups) < 2:
        return []
    scopes = scopes_of(lemmas, ontology)
    mentions = [
        _mention(value, tuple(range(start, end)), sentence, lemmas, scopes)
        for start, end, value in terms
        if value != IGNORED
    ]
    combined = list(_combine(groups, terms, sentence, lemmas, ontology, scopes))
    if combined:
        used = {token for mention in combined for token in mention.tokens}
        mentions = [
            m for m in mentions if m.finding not in ontology.generic or used.isdisjoint(m.tokens)
        ]
        named = {(m.finding, m.clause) for m in mentions}
        mentions += [m for m in combined if (m.finding, m.clause) not in named]
    mentions.sort(key=lambda m: (m.start, m.end))
    return mentions


def _combine(groups, terms, sentence, lemmas, ontology: Ontology, scopes: Scopes):
    if len(groups) < 2:
        return
    ignored = {t for start, end, value in terms if value == IGNORED for t in range(start, end)}
    by_clause: dict[int, list[tuple[int, int, str]]] = {}
    for start, end, name in groups:
        if start not in ignored:
            by_clause.setdefault(scopes.clause[start], []).append((start, end, name))
    for clause, members in by_clause.items():
        names = {name for _, _, name in members}
        findings = {v for s, _, v in terms if scopes.clause[s] == clause}
        for rule in ontology.together:
            if any(names.isdisjoint(group) for group in rule.groups) or rule.unless & findings:
                continue
            best = _nearest(members, rule.groups, rule.within, lemmas)
            if best is not None:
                yield _mention(rule.finding, best, sentence, lemmas, scopes)


def _nearest(members, groups, within: int, lemmas) -> tuple[int, ...] | None:
    """Word positions of the closest pair, one of each group, at most `within` words between.

    A comma between them speaks of two things ("heart enlarged, stable mediastinum")."""
    best, gap = None, within + 1
    for first in members:
        if first[2] not in groups[0]:
            continue
        for second in members:
            if second[2] not in groups[1] or second[0] == first[0]:
                continue
            distance = max(second[0] - first[1], first[0] - second[1])
            left, right = min(first[1], second[1]), max(first[0], second[0])
            if distance < gap and "," not in lemmas[left:right]:
                gap = distance
                best = tuple(sorted({*range(first[0], first[1]), *range(second[0], second[1])}))
    return best


def _mention(finding, tokens, sentence: Sentence, lemmas, scopes: Scopes) -> Mention:
    first, last = tokens[0], tokens[-1]
    if any(scopes.negated[t] for t in tokens):
        certainty = ABSENT
    elif scopes.certainty[last] != ASSERTED:
        certainty = scopes.certainty[last]
    elif (first > 0 and lemmas[first - 1] == "xxxx") or lemmas[first] == "xxxx":
        certainty = REMOVED
    else:
        certainty = ASSERTED
    return Mention(
        finding,
        " ".join(lemmas[t] for t in tokens),
        tokens,
        scopes.clause[first],
        certainty,
        plural=any(sentence.tokens[t].is_plural for t in tokens),
        past=scopes.past[last],
        cue=scopes.cue[last],
    )
