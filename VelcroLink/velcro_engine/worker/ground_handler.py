"""What the worker does for `ground`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .context import Context
from .handlers import asked_slice, current_linker

if TYPE_CHECKING:
    from ..knowledge_base.search import SearchIndex


def ground(
    header: dict[str, Any], payload: bytes, context: Context
) -> tuple[dict[str, Any], bytes]:
    """{request, phrase, threshold?} -> {"result": regions as `grounding_document` says}.

    Payload: for every region its packed mask bits (each ceil(H x W / 8) bytes), then the heat map as
    H x W bytes, 255 = certain.
    """
    from ..finding.document import grounding_document
    from ..finding.grounding import ground as find
    from ..finding.grounding import view_slice
    from ..finding.phrases import read_phrase

    request = asked_slice(header, payload)
    linker = current_linker(context)
    phrase = read_phrase(
        str(header.get("phrase", "")), linker.knowledge_base, search_index(context)
    )
    context.check_cancelled()
    threshold = header.get("threshold")
    if threshold is not None and not isinstance(threshold, (int, float)):
        raise InputError("The threshold is not a number.")
    kept = context.session.get("grounded slice")  # several phrases on one slice: encoded once
    if kept is None or kept.request.slice_id != request.slice_id:
        kept = context.session["grounded slice"] = view_slice(linker, request)
        context.check_cancelled()
    found = find(linker, kept, phrase, threshold)
    bits = b"".join(np.packbits(region.mask).tobytes() for region in found.regions)
    heat = np.rint(found.heat * 255).astype(np.uint8).tobytes()
    return {"type": "ground", "result": grounding_document(found)}, bits + heat


def search_index(context: Context) -> SearchIndex:
    """The search index over the loaded knowledge base, made once."""
    from ..knowledge_base.search import SearchIndex

    if "search" not in context.session:
        context.session["search"] = SearchIndex(current_linker(context).knowledge_base)
    return context.session["search"]
