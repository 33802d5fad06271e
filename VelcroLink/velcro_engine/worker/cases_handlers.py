"""What the worker does for `cases` and `correct`. The library lies in the data folder of `load`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..messages.request import SliceRequest
from ..messages.result import LinkResult
from .context import Context
from .handlers import current_linker

if TYPE_CHECKING:
    from ..cases.record import CaseStore, LocationCondition
    from ..knowledge_base import KnowledgeBase

MOST_HITS = 100


def cases(header: dict[str, Any], payload: bytes, context: Context) -> tuple[dict[str, Any], bytes]:
    """One action on the library; the answer is {"type": "cases", "result": ...}.

    {"action": "search", "linked"?: LinkResult header and its payload, "request"?: SliceRequest header
    (its pixels are not needed), "text"?, "location"?: {entry, side, zone, parts, widen} or "linked",
    "kind"?, "findings"?, "limit"?} -> {"hits": [item + score], "location": the chip or None}.
    {"action": "add", "case": pseudonym, "request", "linked", "split": bytes of the request's pixels
    in the payload, "entry"?, "side"?, "text"?} -> {"id"}.
    {"action": "list"} -> {"cases": {pseudonym: items}}. {"action": "remove", "case" or "item"}.
    """
    action = header.get("action")
    if action not in _ACTIONS:
        raise InputError(f"Unknown action '{str(action)[:40]}' on the case library.")
    return {"type": "cases", "result": _ACTIONS[action](header, payload, context)}, b""


def correct(
    header: dict[str, Any], payload: bytes, context: Context
) -> tuple[dict[str, Any], bytes]:
    """{item, entry_id, side?}: a person says what a kept item is -> {"result": the item}."""
    base = current_linker(context).knowledge_base
    from ..cases.summary import item_summary

    item = store_of(context).correct(
        _number(header.get("item"), "item"),
        str(header.get("entry_id", "")),
        _text(header, "side") or None,
        base,
    )
    return {"type": "correct", "result": item_summary(item, base, picture=False)}, b""


def store_of(context: Context) -> CaseStore:
    """The library, opened once for each load."""
    if "cases" not in context.session:
        from ..cases.library import CaseLibrary, library_path

        data = context.session.get("data")
        context.session["cases"] = CaseLibrary(library_path(Path(data) if data else None))
    return context.session["cases"]


def _search(header: dict[str, Any], payload: bytes, context: Context) -> dict[str, Any]:
    from ..cases.record import Query
    from ..cases.summary import hit_summary

    linker = current_linker(context)
    base = linker.knowledge_base
    result = _linked(header, payload) if header.get("linked") is not None else None
    text = _text(header, "text")
    limit = min(max(_number(header.get("limit", 10), "limit"), 1), MOST_HITS)
    location = _location(header.get("location"), result, base)
    query = Query(
        embedding=None if result is None else result.embedding,
        text_embedding=linker.runtime.embed_text([text])[0] if text else None,
        model=linker.runtime.fingerprint,
        location=location,
        kind=_text(header, "kind") or None,
        findings=tuple(str(f) for f in header.get("findings") or ()),
        limit=limit,
    )
    context.check_cancelled()
    hits = store_of(context).search(query)
    return {"hits": [hit_summary(hit, base) for hit in hits], "location": _chip(location, base)}


def _add(header: dict[str, Any], payload: bytes, context: Context) -> dict[str, Any]:
    from ..cases.adding import item_of_link

    linker = current_linker(context)
    question = header.get("request")
    split = _number(header.get("split"), "split")
    if not isinstance(question, dict) or not 0 <= split <= len(payload):
        raise InputError("The request to keep a region holds no slice.")
    request = SliceRequest.from_message(question, payload[:split])
    result = _linked(header, payload[split:])
    if result.mask.shape != request.pixels.shape:
        raise InputError("The region and the slice differ in size.")
    entry = _text(header, "entry") or None
    item = item_of_link(
        _text(header, "case"),
        request,
        result,
        linker.runtime,
        linker.knowledge_base,
        entry,
        (_text(header, "side") or None) if entry else None,
        _text(header, "text"),
    )
    return {"id": store_of(context).add(item, linker.knowledge_base)}


def _list(header: dict[str, Any], payload: bytes, context: Context) -> dict[str, Any]:
    return {"cases": store_of(context).cases()}


def _remove(header: dict[str, Any], payload: bytes, context: Context) -> dict[str, Any]:
    if header.get("case") is not None:
        return {"removed": store_of(context).remove_case(str(header["case"]))}
    store_of(context).remove(_number(header.get("item"), "item"))
    return {"removed": 1}


_ACTIONS = {"search": _search, "add": _add, "list": _list, "remove": _remove}


def _linked(header: dict[str, Any], payload: bytes) -> LinkResult:
    if not isinstance(header.get("linked"), dict):
        raise InputError("The request holds no linked region.")
    return LinkResult.from_message(header["linked"], payload)


def _location(
    asked: Any, result: LinkResult | None, base: KnowledgeBase
) -> LocationCondition | None:
    from ..cases.places import condition_of_link
    from ..cases.record import location_condition

    if asked is None:
        return None
    if asked == "linked":
        if result is None:
            raise InputError("There is no linked region whose place could be used.")
        return condition_of_link(result, base)
    if not isinstance(asked, dict):
        raise InputError("The location is not understood.")
    return location_condition(
        base,
        str(asked.get("entry", "")),
        str(asked["side"]) if asked.get("side") else None,
        str(asked.get("zone") or ""),
        bool(asked.get("parts", True)),
        min(max(_number(asked.get("widen", 0), "widen"), 0), 10),
    )


def _chip(location: LocationCondition | None, base: KnowledgeBase) -> dict[str, Any] | None:
    from ..cases.summary import name_of

    if location is None:
        return None
    return {
        "entries": list(location.entries),
        "name": ", ".join(name_of(entry, base) for entry in location.entries[:3]),
        "side": location.side,
        "zone": location.zone,
    }


def _text(header: dict[str, Any], key: str) -> str:
    value = header.get(key)
    if value is not None and not isinstance(value, str):
        raise InputError(f"'{key}' is not a text.")
    return value or ""


def _number(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"'{name}' is not a whole number.")
    return value
