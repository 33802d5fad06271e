"""Which places a report speaks of, and what it says of each: location-conditioned text.

A location is (place, side), for instance ("lung_base", "left"); the side is "" where none is told or
the place has none. A finding that names no place lies where such findings lie (`usual_places.json`:
cardiomegaly in the heart). Weak region labels from text, as ALC-ITR (2503.07456) makes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from .coder import coded_findings
from .findings import ReportFindings
from .mentions import ABSENT

Location = tuple[str, str]
_MIDDLE = {"left": "lingula", "right": "lung_middle_lobe"}
_NOT_PLACES = frozenset(("lung_middle_zone", "thoracolumbar_spine"))


@lru_cache(maxsize=1)
def usual_places() -> dict[str, str]:
    """{finding: place} of findings that have one place of their own."""
    path = Path(__file__).parent / "data" / "usual_places.json"
    return json.loads(path.read_text("utf-8"))["usual_places"]


def locations(finding: str, places: Iterable[str], sides: Iterable[str]) -> set[Location]:
    """Locations of a finding with these places and sides. "bilateral" is left and right."""
    hands: set[str] = set()
    for side in sides:
        hands |= {"left", "right"} if side == "bilateral" else {side}
    named = set(places)
    usual = usual_places().get(finding)
    if "lung_middle_zone" in named:
        named |= {_MIDDLE[side] for side in hands if side in _MIDDLE}
    if "thoracolumbar_spine" in named:
        named |= {"thoracic_vertebra", "lumbar_vertebra"}
    named -= _NOT_PLACES
    if len(named) > 1:
        named.discard("lung")  # "in the lung base of the right lung"
    if not named and usual:
        named = {usual}
    return {(place, side) for place in named for side in hands or {""}}


def report_regions(report: ReportFindings) -> dict[Location, str]:
    """{location: what the report finds there, one phrase a finding}, for embedding.

    Only findings that a coder would record; where a mention names no place of its own the places of
    the finding in the rest of the report hold.
    """
    coded = {item.finding: item for item in coded_findings(report)}
    phrases: dict[Location, list[str]] = {}
    for item in coded.values():
        found: set[Location] = set()
        for mention in report.mentions():
            if mention.finding == item.finding and mention.certainty != ABSENT:
                found |= locations(
                    item.finding, mention.places & item.places or item.places, mention.sides
                )
        if any(side for _, side in found):
            found = {spot for spot in found if spot[1]}
        words = [q.split("/")[1] for q in sorted(item.qualifiers)]
        for place, side in found:
            phrase = " ".join([*words, item.finding, "in", side, place]).replace("_", " ")
            phrases.setdefault((place, side), []).append(phrase)
    return {spot: ". ".join(sorted(set(texts))) for spot, texts in phrases.items()}
