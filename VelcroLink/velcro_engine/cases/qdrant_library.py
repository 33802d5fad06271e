"""The same library on a Qdrant server that several people share; see `record.CaseStore`.

The address is typed by the user and is the only place items go to. `qdrant-client` is imported when
a library is opened; it is no dependency of VelcroLink. Search is exact here as well, so that both
libraries give the same answers.
"""

from __future__ import annotations

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
from .qdrant_points import equals, filter_of_query, item_of_point, payload_of_item
from .record import Hit, Item, Query

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
            query_filter=filter_of_query(query),
            limit=query.limit,
            search_params=models.SearchParams(exact=True),
            with_payload=True,
            with_vectors=True,
        )
        length = float(np.linalg.norm(vector))  # Qdrant's cosine divides by it
        hits = [Hit(item_of_point(p, self.address), float(p.score) * length) for p in answer.points]
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

        chosen = models.Filter(must=[equals("case", case)])
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
            id=item.identifier, vector=vector, payload=payload_of_item(item, base)
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
                return name, item_of_point(found[0], self.address)
        raise InputError(f"The library has no item {identifier}; see 'cases list'.")

    def _listed(self, name: str, query: Query) -> list[Hit]:
        points = self._scroll(name, filter_of_query(query), True, True, query.limit)
        return [Hit(item_of_point(point, self.address), 0.0) for point in points]

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

    def _ask(self, method: str, **arguments: Any) -> Any:
        try:
            return getattr(self._client, method)(**arguments)
        except Exception as error:  # the client raises httpx, grpc and its own errors alike
            raise InputError(
                f"The Qdrant server at '{self.address}' did not do '{method}'; check the address, "
                "the key and that it runs.",
                repr(error),
            ) from error
