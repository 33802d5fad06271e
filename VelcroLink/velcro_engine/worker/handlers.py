"""What the worker does for `load`, `link`, `example`, `entry` and `search`. Heavy imports happen here.

`context.session` keeps the linker and the search index between requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..messages.request import SliceRequest, require_contrast
from .context import Context

if TYPE_CHECKING:
    from ..linking.linker import Linker


def load(header: dict[str, Any], payload: bytes, context: Context) -> tuple[dict[str, Any], bytes]:
    """{model, knowledge_bases: [...], data, device}: all optional. The old ones stay if this fails."""
    options = {key: header.get(key) for key in ("model", "knowledge_bases", "data", "device")}
    linker = _open(options, context)
    linker.warm_up()
    context.session.clear()
    context.session["linker"] = linker
    context.session["data"] = options["data"]
    return {
        "type": "ready",
        "model": linker.runtime.name,
        "knowledge_base": linker.knowledge_base.version,
        "entries": len(linker.knowledge_base),
        "device": options["device"] or "cpu",
    }, b""


def link(header: dict[str, Any], payload: bytes, context: Context) -> tuple[dict[str, Any], bytes]:
    """SliceRequest under "request" -> LinkResult under "result"."""
    request = asked_slice(header, payload)
    result = current_linker(context).link(request, context.check_cancelled)
    answer, data = result.to_message()
    return {"type": "linked", "result": answer}, data


def example(
    header: dict[str, Any], payload: bytes, context: Context
) -> tuple[dict[str, Any], bytes]:
    """{entry_id, request: SliceRequest, source}: remember this region for this entry, or {entry_id,
    remove: true}: forget its regions. -> {entry_id, examples: how many there are, or were}."""
    from ..linking.region_examples import Example

    linker = current_linker(context)
    entry_id = str(header.get("entry_id", ""))
    if header.get("remove") is True:
        return {"type": "forgotten", "entry_id": entry_id, "examples": linker.forget(entry_id)}, b""
    linker.knowledge_base.entry(entry_id)
    request = asked_slice(header, payload)
    embedding = linker.link(request, context.check_cancelled).embedding
    assert embedding is not None  # of a link that was just made
    count = linker.remember(entry_id, Example(embedding, str(header.get("source", ""))[:200]))
    return {"type": "remembered", "entry_id": entry_id, "examples": count}, b""


def entry(header: dict[str, Any], payload: bytes, context: Context) -> tuple[dict[str, Any], bytes]:
    """{entry_id} -> the whole entry as a dict, and its card as HTML for Qt under "card_html".

    Raises KnowledgeBaseError for an unknown id.
    """
    from ..knowledge_base import entry_to_dict
    from ..knowledge_base.card import card_html

    found = current_linker(context).knowledge_base.entry(str(header.get("entry_id", "")))
    card = card_html(found, for_qt=True)
    return {"type": "entry", "entry": entry_to_dict(found), "card_html": card}, b""


def search(
    header: dict[str, Any], payload: bytes, context: Context
) -> tuple[dict[str, Any], bytes]:
    """{text, limit} -> {entries: [{id, name, score}]}, best first."""
    from ..knowledge_base.search import SearchIndex

    linker = current_linker(context)
    if "search" not in context.session:
        context.session["search"] = SearchIndex(linker.knowledge_base)
    try:
        limit = int(header.get("limit", 10))
    except (TypeError, ValueError) as error:
        raise InputError("The search limit is not a number.") from error
    hits = context.session["search"].search(str(header.get("text", "")), limit)
    entries = [{"id": h.entry.id, "name": h.entry.name, "score": h.score} for h in hits]
    return {"type": "found", "entries": entries}, b""


def asked_slice(header: dict[str, Any], payload: bytes) -> SliceRequest:
    """The SliceRequest under "request". Raises InputError when it is none, or a blank slice."""
    request = question_slice(header, payload)
    require_contrast(request.pixels)
    return request


def question_slice(header: dict[str, Any], payload: bytes) -> SliceRequest:
    """The same, blank or not."""
    question = header.get("request")
    if not isinstance(question, dict):
        raise InputError("The request holds no slice.")
    return SliceRequest.from_message(question, payload)


def current_linker(context: Context) -> Linker:
    """The linker of the last load; the bundled model and the active knowledge bases before one."""
    if "linker" not in context.session:
        context.session["linker"] = _open({}, context)
    return context.session["linker"]


def _open(options: dict[str, Any], context: Context) -> Linker:
    from ..linking.linker import open_linker

    model, bases = options.get("model"), options.get("knowledge_bases")
    if model is not None and not isinstance(model, str):
        raise InputError("The model must be named by its folder.")
    if bases is not None and not (
        isinstance(bases, list) and all(isinstance(base, str) for base in bases)
    ):
        raise InputError("Knowledge bases must be named by a list of files.")
    device = options.get("device")
    if device is not None and not isinstance(device, str):
        raise InputError("The device must be named: cpu or gpu.")
    return open_linker(model, bases or None, context.progress, device=device)
