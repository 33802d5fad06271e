"""The same search against a Qdrant server that several people share.

The server's address is the user's choice and the only place entries go to. `qdrant-client` is
imported when an index is opened; it is no dependency of VelcroLink.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from ..errors import InputError, ModelError
from .embeddings import EmbedText, Progress, Ranking, model_slug, text_key, unit_rows
from .entry import Entry, text

_NAMESPACE = uuid.UUID("6f0c3f5e-0a52-4a4b-9a3e-3f3f7d5d8b11")
_SECONDS = 10


class QdrantIndex:
    """Cosine search in one collection of a Qdrant server, one collection a model.

    address: "http://host:6333", or ":memory:" / a folder for qdrant-client's local mode. Raises
    InputError when qdrant-client is missing or the server does not answer.
    """

    def __init__(
        self,
        address: str,
        model_id: str,
        collection: str = "velcrolink",
        *,
        api_key: str | None = None,
        client: Any = None,
    ) -> None:
        self.address = address
        self.collection = f"{collection}-{model_slug(model_id)}"
        self._client = client or connect(address, api_key)

    def upload(
        self,
        entries: Sequence[Entry],
        embed_text: EmbedText,
        *,
        batch: int = 64,
        progress: Progress | None = None,
    ) -> int:
        """Send the entries whose text the server does not have yet; returns how many were sent."""
        stored = self._stored_keys()
        new = [e for e in entries if stored.get(_point_id(e.id)) != text_key(text(e)).hex()]
        for start in range(0, len(new), batch):
            part = new[start : start + batch]
            vectors = unit_rows(np.asarray(embed_text([text(entry) for entry in part])))
            if len(vectors) != len(part):
                raise ModelError("The model gave another number of embeddings than texts.")
            self._ensure_collection(vectors.shape[1])
            self._ask("upsert", collection_name=self.collection, points=_points(part, vectors))
            if progress:
                progress((start + len(part)) / len(new), f"Sent {start + len(part)} entries")
        return len(new)

    def search(
        self, vectors: np.ndarray, limit: int = 10, among: Collection[str] | None = None
    ) -> list[Ranking]:
        """As `EmbeddingIndex.search`; exact, not approximate."""
        from qdrant_client import models

        queries = unit_rows(np.atleast_2d(np.asarray(vectors, dtype=np.float32)))
        only = None
        if among is not None:
            points: list[Any] = [_point_id(identifier) for identifier in sorted(among)]
            if not points:
                return [[] for _ in queries]
            only = models.Filter(must=[models.HasIdCondition(has_id=points)])
        if limit < 1:
            return [[] for _ in queries]
        rankings = []
        for query in queries:
            answer = self._ask(
                "query_points",
                collection_name=self.collection,
                query=query.tolist(),
                query_filter=only,
                limit=limit,
                search_params=models.SearchParams(exact=True),
                with_payload=["entry_id"],
            )
            rankings.append([(p.payload["entry_id"], float(p.score)) for p in answer.points])
        return rankings

    def __len__(self) -> int:
        if not self._ask("collection_exists", collection_name=self.collection):
            return 0
        return int(self._ask("count", collection_name=self.collection, exact=True).count)

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def _stored_keys(self) -> dict[str, str]:
        if not self._ask("collection_exists", collection_name=self.collection):
            return {}
        keys: dict[str, str] = {}
        offset = None
        while True:
            points, offset = self._ask(
                "scroll",
                collection_name=self.collection,
                limit=1000,
                offset=offset,
                with_payload=["text_key"],
                with_vectors=False,
            )
            keys.update({str(p.id): p.payload.get("text_key", "") for p in points})
            if offset is None:
                return keys

    def _ensure_collection(self, dimension: int) -> None:
        from qdrant_client import models

        if self._ask("collection_exists", collection_name=self.collection):
            return
        vectors = models.VectorParams(size=dimension, distance=models.Distance.COSINE)
        self._ask("create_collection", collection_name=self.collection, vectors_config=vectors)

    def _ask(self, method: str, **arguments: Any) -> Any:
        try:
            return getattr(self._client, method)(**arguments)
        except Exception as error:  # the client raises httpx, grpc and its own errors alike
            raise InputError(
                f"The Qdrant server at '{self.address}' did not do '{method}'; check the address, "
                "the key and that it runs.",
                repr(error),
            ) from error


def connect(address: str, api_key: str | None) -> Any:
    """A client for a server's address, ":memory:" or a folder. Raises InputError."""
    try:
        from qdrant_client import QdrantClient
    except ImportError as error:
        raise InputError(
            "A shared knowledge base needs the Python package qdrant-client; install it."
        ) from error
    if address == ":memory:":
        return QdrantClient(location=address)
    if "://" not in address:
        return QdrantClient(path=address)
    if not is_address(address):
        raise InputError(f"'{address}' is not a server's address; write http://host:6333.")
    return QdrantClient(url=address, api_key=api_key, timeout=_SECONDS, check_compatibility=False)


def is_address(text: str) -> bool:
    """Whether a text is a server's address, as in http://host:6333."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an open bracket, a port that is no number
        return False


def _point_id(identifier: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, identifier))


def _points(entries: Sequence[Entry], vectors: np.ndarray) -> list[Any]:
    from qdrant_client import models

    return [
        models.PointStruct(
            id=_point_id(entry.id),
            vector=vector.tolist(),
            payload={
                "entry_id": entry.id,
                "name": entry.name,
                "kind": entry.kind,
                "region": entry.region,
                "text_key": text_key(text(entry)).hex(),
            },
        )
        for entry, vector in zip(entries, vectors, strict=True)
    ]
