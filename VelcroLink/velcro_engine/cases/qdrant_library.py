"""The same library on a Qdrant server that several people share; see `record.CaseStore`.

The address is typed by the user and is the only place items go to. `qdrant-client` is imported when
a library is opened; it is no dependency of VelcroLink. Search is exact here as well, so that both
libraries give the same answers.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import InputError
from ..knowledge_base import KnowledgeBase
from ..knowledge_base.qdrant import connect
from .places import places_of_entry
from .record import Finding, Hit, Item, LocationCondition, Place, Query, closure

PAGE = 500
_NO_VECTOR = "without"
_NAMESPACE = uuid.UUID("0b8f7cf6-3f7c-4f0f-9a43-70b7b1a1f4d5")


class QdrantCaseLibrary:
    """`record.CaseStore` over collections of one Qdrant server, one collection a model.

    address: "http://host:6333", or ":memory:" / a folder for the client's local mode. Raises
    InputError when qdrant-client is missing or the server does not answer.
    """

    def __init__(
        self, address: str, collection: str = "velcrolink-cases", api_key: str | None = None
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", collection):
            raise InputError("A collection's name is made of letters, digits, '-' and '_'.")
        self.address = address
        self._prefix = collection
        self._client = connect(address, api_key)
        self._ask("get_collections")

    def add(self, item: Item, base: KnowledgeBase | None = None) -> int:
        """See `CaseStore.add`."""
        return self.add_many([item], base)[0]

    def add_many(self, items: Iterable[Item], base: KnowledgeBase | None = None) -> list[int]:
        """See `CaseStore.add_many`."""
        found = []
        for item in (item.checked() for item in items):
            digest = item.digest()
            identifier = int.from_bytes(digest[:8], "big") >> 1  # Qdrant's ids are 64 bits
            collection = self._collection(item)
            if not self._points(collection, [identifier]):
                self._put(collection, replace(item, identifier=identifier), base)
            found.append(identifier)
        return found

    def item(self, identifier: int) -> Item:
        """See `CaseStore.item`."""
        return self._find(identifier)[1]

    def search(self, query: Query) -> list[Hit]:
        """See `CaseStore.search`."""
        if query.limit < 1:
            return []
        vector = query.vector()
        if vector is None:
            found = [
                hit for name in self._collections() for hit in self._listed(name, query)
            ]  # fmt: skip
            return sorted(found, key=lambda hit: hit.item.identifier)[: query.limit]
        collection = self._name(query.model)
        if collection not in self._collections():
            return []
        size = self._ask("get_collection", collection_name=collection).config.params.vectors.size
        if size != len(vector):
            raise InputError(
                f"The library's embeddings have {size} numbers, the query {len(vector)}; they are "
                "of two different models."
            )
        from qdrant_client import models

        answer = self._ask(
            "query_points",
            collection_name=collection,
            query=vector.tolist(),
            query_filter=_filter(query),
            limit=query.limit,
            search_params=models.SearchParams(exact=True),
            with_payload=True,
            with_vectors=True,
        )
        length = float(np.linalg.norm(vector))  # Qdrant's cosine divides by it
        hits = [Hit(self._item(p), float(p.score) * length) for p in answer.points]
        return sorted(hits, key=lambda hit: -hit.score)

    def correct(self, identifier: int, entry: str, side: str | None, base: KnowledgeBase) -> Item:
        """See `CaseStore.correct`."""
        collection, old = self._find(identifier)
        zone = old.places[0].zone if old.places else ""
        places = places_of_entry(base.entry(entry), side, zone)
        new = replace(old, entry=entry, side=side, accepted=True, places=places).checked()
        self._put(collection, new, base)
        return new

    def remove(self, identifier: int) -> None:
        """See `CaseStore.remove`."""
        from qdrant_client import models

        collection, _ = self._find(identifier)
        self._ask(
            "delete",
            collection_name=collection,
            points_selector=models.PointIdsList(points=[identifier]),
            wait=True,
        )

    def remove_case(self, case: str) -> int:
        """See `CaseStore.remove_case`."""
        from qdrant_client import models

        chosen = models.Filter(must=[_equals("case", case)])
        removed = 0
        for name in self._collections():
            removed += self._ask(
                "count", collection_name=name, count_filter=chosen, exact=True
            ).count
            selector = models.FilterSelector(filter=chosen)
            self._ask("delete", collection_name=name, points_selector=selector, wait=True)
        if not removed:
            raise InputError(f"The library has no case '{case[:80]}'; see 'cases list'.")
        return int(removed)

    def cases(self) -> dict[str, int]:
        """See `CaseStore.cases`."""
        counts: dict[str, int] = {}
        for name in self._collections():
            for point in self._scroll(name, None, ["case"], False):
                counts[point.payload["case"]] = counts.get(point.payload["case"], 0) + 1
        return dict(sorted(counts.items()))

    def __len__(self) -> int:
        return sum(
            int(self._ask("count", collection_name=name, exact=True).count)
            for name in self._collections()
        )

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    # collections and points

    def _name(self, model: str) -> str:
        slug = str(uuid.uuid5(_NAMESPACE, model)) if model else _NO_VECTOR
        return f"{self._prefix}-{slug}"

    def _collection(self, item: Item) -> str:
        from qdrant_client import models

        name = self._name(item.model if item.embedding is not None else "")
        size = 1 if item.embedding is None else len(item.embedding)
        if not self._ask("collection_exists", collection_name=name):
            vectors = models.VectorParams(size=size, distance=models.Distance.COSINE)
            self._ask("create_collection", collection_name=name, vectors_config=vectors)
        kept = self._ask("get_collection", collection_name=name).config.params.vectors.size
        if kept != size:
            raise InputError(
                f"This model's embeddings have {kept} numbers in the library, not {size}; use "
                "another library for another model."
            )
        return name

    def _collections(self) -> list[str]:
        found = self._ask("get_collections").collections
        return sorted(c.name for c in found if c.name.startswith(f"{self._prefix}-"))

    def _put(self, collection: str, item: Item, base: KnowledgeBase | None) -> None:
        from qdrant_client import models

        vector = [1.0] if item.embedding is None else item.embedding.tolist()
        point = models.PointStruct(
            id=item.identifier, vector=vector, payload=_payload(item, base)
        )  # fmt: skip
        self._ask("upsert", collection_name=collection, points=[point], wait=True)

    def _points(self, collection: str, identifiers: list[int]) -> list[Any]:
        return self._ask(
            "retrieve",
            collection_name=collection,
            ids=identifiers,
            with_payload=True,
            with_vectors=True,
        )

    def _find(self, identifier: int) -> tuple[str, Item]:
        for name in self._collections():
            found = self._points(name, [identifier])
            if found:
                return name, self._item(found[0])
        raise InputError(f"The library has no item {identifier}; see 'cases list'.")

    def _listed(self, name: str, query: Query) -> list[Hit]:
        points = self._scroll(name, _filter(query), True, True, query.limit)
        return [Hit(self._item(point), 0.0) for point in points]

    def _scroll(
        self, name: str, chosen: Any, payload: Any, vectors: bool, limit: int | None = None
    ) -> Iterable[Any]:
        offset, given = None, 0
        while True:
            points, offset = self._ask(
                "scroll",
                collection_name=name,
                scroll_filter=chosen,
                limit=PAGE if limit is None else min(PAGE, limit - given),
                offset=offset,
                with_payload=payload,
                with_vectors=vectors,
            )
            yield from points
            given += len(points)
            if offset is None or (limit is not None and given >= limit):
                return

    def _item(self, point: Any) -> Item:
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
                    Finding(f["entry"], f["side"], tuple(f["qualifiers"]))
                    for f in payload["findings"]
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
                f"An item on the server '{self.address}' is damaged; remove it there.", repr(error)
            ) from error

    def _ask(self, method: str, **arguments: Any) -> Any:
        try:
            return getattr(self._client, method)(**arguments)
        except Exception as error:  # the client raises httpx, grpc and its own errors alike
            raise InputError(
                f"The Qdrant server at '{self.address}' did not do '{method}'; check the address, "
                "the key and that it runs.",
                repr(error),
            ) from error


def _payload(item: Item, base: KnowledgeBase | None) -> dict[str, Any]:
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


def _equals(key: str, value: Any) -> Any:
    from qdrant_client import models

    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def _any(key: str, values: Iterable[str]) -> Any:
    from qdrant_client import models

    return models.FieldCondition(key=key, match=models.MatchAny(any=list(values)))


def _filter(query: Query) -> Any:
    from qdrant_client import models

    must: list[Any] = []
    for key in ("kind", "modality", "plane"):
        if getattr(query, key) is not None:
            must.append(_equals(key, getattr(query, key)))
    if query.entries:
        must.append(_any("entry", query.entries))
    if query.cases:
        must.append(_any("case", query.cases))
    if query.accepted_only:
        must.append(_equals("accepted", True))
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
        must.append(_equals("zone", condition.zone))
    if condition.sides is not None:
        known = [side for side in condition.sides if side is not None]
        one_of: list[Any] = [_any("side", known)]
        if None in condition.sides:
            one_of.append(models.IsNullCondition(is_null=models.PayloadField(key="side")))
        must.append(models.Filter(should=one_of))
    return models.NestedCondition(
        nested=models.Nested(key="places", filter=models.Filter(must=must))
    )
