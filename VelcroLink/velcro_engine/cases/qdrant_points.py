"""Items of the case library as points of Qdrant, and queries as its filters."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..errors import InputError
from ..knowledge_base import KnowledgeBase
from .record import Finding, Item, LocationCondition, Place, Query, closure


def payload_of_item(item: Item, base: KnowledgeBase | None) -> dict[str, Any]:
    """Everything of an item; `places` holds each place once for everything it is a part of."""
    places = [
        {
            "entry": place.entry,
            "within": ancestor,
            "steps": steps,
            "side": place.side,
            "zone": place.zone,
        }
        for place in item.places
        for ancestor, steps in closure(base, place.entry).items()
    ]
    return {
        "case": item.case,
        "kind": item.kind,
        "entry": item.entry,
        "side": item.side,
        "model": item.model if item.embedding is not None else "",
        "places": places,
        "findings": [
            {"entry": f.entry, "side": f.side, "qualifiers": list(f.qualifiers)}
            for f in item.findings
        ],
        "attributes": json.dumps(item.attributes, ensure_ascii=False, allow_nan=False),
        "text": item.text,
        "thumbnail": base64.b64encode(item.thumbnail).decode("ascii"),
        "plane": item.plane,
        "modality": item.modality,
        "accepted": item.accepted,
    }


def item_of_point(point: Any, address: str) -> Item:
    """Inverse of `payload_of_item`, with the point's vector. Raises InputError for a damaged one."""
    payload = point.payload
    try:
        return Item(
            case=payload["case"],
            kind=payload["kind"],
            entry=payload["entry"],
            side=payload["side"],
            embedding=np.asarray(point.vector) if payload["model"] else None,
            model=payload["model"],
            places=tuple(
                Place(p["entry"], p["side"], p["zone"])
                for p in payload["places"]
                if p["steps"] == 0
            ),
            findings=tuple(
                Finding(f["entry"], f["side"], tuple(f["qualifiers"])) for f in payload["findings"]
            ),
            attributes=json.loads(payload["attributes"]),
            text=payload["text"],
            thumbnail=base64.b64decode(payload["thumbnail"]),
            plane=payload["plane"],
            modality=payload["modality"],
            accepted=bool(payload["accepted"]),
            identifier=int(point.id),
        ).checked()
    except (KeyError, TypeError, ValueError, InputError) as error:
        raise InputError(
            f"An item on the server '{address}' is damaged; remove it there.", repr(error)
        ) from error


def filter_of_query(query: Query) -> Any:
    """The filter of a query, None when it asks for everything."""
    from qdrant_client import models

    must: list[Any] = []
    for key in ("kind", "modality", "plane"):
        if getattr(query, key) is not None:
            must.append(equals(key, getattr(query, key)))
    if query.entries:
        must.append(_any("entry", query.entries))
    if query.cases:
        must.append(_any("case", query.cases))
    if query.accepted_only:
        must.append(equals("accepted", True))
    if query.findings:
        must.append(_any("findings[].entry", query.findings))
    if query.location is not None:
        must.append(_location(query.location))
    without = [_any("case", query.without_cases)] if query.without_cases else []
    return models.Filter(must=must, must_not=without) if must or without else None


def _location(condition: LocationCondition) -> Any:
    """One place must fulfil entry, depth, side and zone together."""
    from qdrant_client import models

    must: list[Any] = [_any("within", condition.entries)]
    if condition.depth is not None:
        steps = models.Range(lte=condition.depth)
        must.append(models.FieldCondition(key="steps", range=steps))
    if condition.zone:
        must.append(equals("zone", condition.zone))
    if condition.sides is not None:
        known = [side for side in condition.sides if side is not None]
        one_of: list[Any] = [_any("side", known)]
        if None in condition.sides:
            one_of.append(models.IsNullCondition(is_null=models.PayloadField(key="side")))
        must.append(models.Filter(should=one_of))
    return models.NestedCondition(
        nested=models.Nested(key="places", filter=models.Filter(must=must))
    )


def equals(key: str, value: Any) -> Any:
    """Condition: a payload's field has this value."""
    from qdrant_client import models

    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def _any(key: str, values: Iterable[str]) -> Any:
    from qdrant_client import models

    return models.FieldCondition(key=key, match=models.MatchAny(any=list(values)))
