"""What the case library says about the place of a linked region."""

from __future__ import annotations

from dataclasses import replace

from ..cases.places import condition_of_link
from ..cases.record import Hit, Query
from ..linking.linker import Linker
from ..messages.request import SliceRequest
from ..messages.result import LinkResult

LIBRARY_SENTENCES = 12


def similar_sentences(
    store, linker: Linker, result: LinkResult, request: SliceRequest | None = None
) -> list[Hit]:
    """Texts of the library about the place of a linked region, most similar first."""
    location = condition_of_link(result, linker.knowledge_base, request)
    # a sentence names a place, seldom a third of the body
    location = replace(location, zone="", unknown_side=True)
    hits = store.search(
        Query(
            embedding=result.embedding,
            model=linker.runtime.fingerprint,
            location=location,
            limit=LIBRARY_SENTENCES,
        )
    )
    return [hit for hit in hits if hit.item.text]
