"""Which side, place and qualifier words belong to which finding of a sentence.

Words right before a finding belong to it ("small left pleural effusion"); words after it reached
through a preposition belong to it and to what it is joined with ("atelectasis and scarring in the
left base"); what interprets a finding of the same sentence ("opacities in the left base, may be
atelectasis") takes that finding's place where it names none of its own.
"""

from __future__ import annotations

from .mentions import ABSENT, ASSERTED, Mention
from .ontology import Ontology
from .scope import clauses, grammar


def attach_attributes(mentions: list[Mention], lemmas: tuple[str, ...], ontology: Ontology) -> None:
    """Fill sides, places and qualifiers of a sentence's mentions, which are in order."""
    if not mentions:
        return
    clause = clauses(lemmas)
    links = grammar()["prepositions"] | grammar()["verbs"]
    layers = (
        (ontology.sides, "sides"),
        (ontology.places, "places"),
        (ontology.qualifiers, "qualifiers"),
    )
    for index, name in layers:
        for start, end, value in index.find(lemmas):
            for owner in _owners(start, end, mentions, lemmas, clause, links):
                getattr(owner, name).add(value)
    _share(mentions, lemmas)
    for mention in mentions:
        for place in list(mention.places):
            side = ontology.place_sides.get(place)
            if side and not mention.sides:
                mention.sides.add(side)


def _owners(start, end, mentions, lemmas, clause, links) -> list[Mention]:
    inside = [m for m in mentions if m.start <= start and end <= m.end]
    here = [m for m in mentions if m.clause == clause[start]]
    if inside:
        near = [m for m in inside if any(t in m.tokens for t in range(start, end))] or inside
        return near
    after = [m for m in here if m.start >= end]
    before = [m for m in here if m.end <= start]
    if after:
        gap = lemmas[end : after[0].start]
        # "opacity in the left base, scarring": a place that is told already is not told again
        told = before and links.intersection(lemmas[before[-1].end : start])
        ended = told and grammar()["joining"].intersection(gap)
        if not ended and not links.intersection(gap) and len(gap) <= 5:
            return [after[0]]
    if before:
        owner = before[-1]
        owners = [owner]
        for earlier in reversed(before[:-1]):
            between = lemmas[earlier.end : owners[-1].start]
            if links.intersection(between) or not {"and", "or", ","}.intersection(between):
                break
            owners.append(earlier)
        return owners
    return after[:1]


def _share(mentions: list[Mention], lemmas: tuple[str, ...]) -> None:
    """Let joined and interpreting mentions without a place take it from the one before."""
    for earlier, later in zip(mentions, mentions[1:], strict=False):
        if later.certainty == ABSENT or earlier.certainty == ABSENT:
            continue
        if later.places or later.sides:
            continue
        between = lemmas[earlier.end : later.start]
        joined = between in (("and",), ("or",), ("/",), ("and", "/", "or"), ("versus",))
        interprets = later.certainty != ASSERTED
        if joined or interprets:
            later.sides |= earlier.sides
            later.places |= earlier.places
