"""Library items as words and as JSON: for the command line, the worker's answers and the drafts."""

from __future__ import annotations

import base64
from typing import Any

from ..knowledge_base import KnowledgeBase
from .record import Hit, Item, Place

EXCERPT = 240


def item_summary(item: Item, base: KnowledgeBase, picture: bool = True) -> dict[str, Any]:
    """JSON-able; text is cut to an excerpt and is plain text: whoever shows it escapes it."""
    return {
        "id": item.identifier,
        "case": item.case,
        "kind": item.kind,
        "entry": item.entry,
        "name": name_of(item.entry, base),
        "side": item.side,
        "places": [
            {
                "entry": place.entry,
                "name": name_of(place.entry, base),
                "side": place.side,
                "zone": place.zone,
            }
            for place in item.places
        ],
        "findings": [
            {
                "entry": finding.entry,
                "name": name_of(finding.entry, base),
                "side": finding.side,
                "qualifiers": list(finding.qualifiers),
            }
            for finding in item.findings
        ],
        "attributes": item.attributes,
        "text": excerpt(item.text),
        "plane": item.plane,
        "modality": item.modality,
        "accepted": item.accepted,
        "thumbnail_png": base64.b64encode(item.thumbnail).decode("ascii") if picture else "",
    }


def hit_summary(hit: Hit, base: KnowledgeBase, picture: bool = True) -> dict[str, Any]:
    """`item_summary` with "score"."""
    return {**item_summary(hit.item, base, picture), "score": round(hit.score, 4)}


def hit_line(hit: Hit, base: KnowledgeBase) -> str:
    """One line for a terminal."""
    item = hit.item
    what = name_of(item.entry, base) or "?"
    side = f", {item.side}" if item.side else ""
    where = "; ".join(place_words(place, base) for place in item.places[:2])
    text = f' "{excerpt(item.text, 90)}"' if item.text else ""
    return f"{item.identifier:6d}  {hit.score:5.3f}  {item.case:16} {what}{side} [{where}]{text}"


def place_words(place: Place, base: KnowledgeBase) -> str:
    """For instance "Lung, left, upper posterior"."""
    parts = (name_of(place.entry, base), place.side, place.zone)
    return ", ".join(part for part in parts if part)


def name_of(entry: str | None, base: KnowledgeBase) -> str:
    """Preferred name of an entry, its id in words when the knowledge base no longer has it."""
    if entry is None:
        return ""
    known = base.by_id.get(entry)
    return known.name if known is not None else entry.replace("_", " ")


def excerpt(text: str, length: int = EXCERPT) -> str:
    """The beginning of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"
