"""Where an item lies: from the entry it is linked to and from its measured side and zone.

Anatomy lies where it is: the place is the entry itself, with its side. A finding or device lies in
the anatomy its entry names as usual places, on the side and in the zone that were measured.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import InputError
from ..knowledge_base import KnowledgeBase
from ..knowledge_base.entry import Entry
from ..messages.request import SliceRequest
from ..messages.result import LinkResult
from .record import LocationCondition, Place

THIRD = 1 / 3
NEARLY = 0.25  # of the first entry's confidence: from here on another one may be right
NEARLY_MOST = 5
REGION_ENTRIES = {"limb": "body", "fetus": "body"}  # a region that is no entry of its own


def places_of(entry: Entry, side: str | None, attributes: dict[str, Any]) -> tuple[Place, ...]:
    """Places of a region linked to `entry`, with the attributes that `attributes.measure` gives."""
    zone = str(attributes.get("zone") or attributes.get("picture_zone") or "")
    if entry.kind != "anatomy" and side is None:
        side = attributes.get("body_side")
    return places_of_entry(entry, side, zone)


def places_of_entry(entry: Entry, side: str | None, zone: str) -> tuple[Place, ...]:
    """Places of an entry on a side, in a zone."""
    if entry.kind == "anatomy":
        return (Place(entry.id, side, zone),)
    inside = entry.places or (REGION_ENTRIES.get(entry.region, entry.region),)
    return tuple(Place(place, side, zone) for place in inside)


def condition_of_link(
    result: LinkResult, base: KnowledgeBase, request: SliceRequest | None = None
) -> LocationCondition:
    """Where a linked region lies, as a condition, from what the link says and measured.

    A finding is bound to its places, side and zone; anatomy to its entry and side alone, since the
    part of it that is seen changes from slice to slice. Entries of the same kind that are nearly as
    likely as the first count as well: a doubtful link must not shut out the right place.
    Raises InputError when the link has no entry.
    """
    if not result.entries:
        raise InputError("The region has no entry, hence no place; name one.")
    first = result.entries[0]
    entry = base.entry(first.id)
    is_finding = entry.kind != "anatomy"
    attributes = dict(result.attributes)
    if request is not None and (on_picture := picture_zone(result.mask, request)):
        attributes["picture_zone"] = on_picture
    places: list[Place] = []
    for linked in result.entries[:NEARLY_MOST]:
        known = base.entry(linked.id)
        if linked.confidence < NEARLY * first.confidence:
            break
        if (known.kind != "anatomy") == is_finding:
            places += places_of(known, first.side, attributes)
    return LocationCondition(
        tuple(dict.fromkeys(place.entry for place in places)),
        places[0].side,
        places[0].zone if is_finding else "",
        unknown_side=not is_finding,
    )


def picture_zone(mask: np.ndarray, request: SliceRequest) -> str:
    """Where in a picture without position a mask lies, by thirds of its height and halves of its
    width, for instance "upper, left half of the picture"; "" for an empty mask.

    It is said of the picture and never of the patient: a picture may be mirrored.
    """
    if not mask.any() or request.pixel_to_ras is not None:
        return ""
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    y, x = float(rows.mean()) / height, float(columns.mean()) / width
    upper = "upper" if y < THIRD else "lower" if y > 1 - THIRD else "middle"
    return f"{upper}, {'left' if x < 0.5 else 'right'} half of the picture"
