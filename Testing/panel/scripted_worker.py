"""The real worker process with a scripted engine behind it, for tests of the panel.

The frames, the reader thread, cancelling and the knowledge base (files, search, cards) are the real
ones; what is scripted is the model. A region is segmented as the ellipse in its box (a disc around
a point) and named by its brightness and side, so that a test can say what must come out.

How it behaves is read anew for every message from the JSON file that VELCROLINK_TEST_SCRIPT names:
  load_seconds, link_seconds   how long the work takes (it can be cancelled meanwhile)
  load_error                   {"kind", "message"}: loading fails like this
  link_error                   the same for linking
  link_exit                    true: the process ends in the middle of a link
  deaf                         true: a link cannot be cancelled, the process must be killed
  abstain                      true: no entry is similar enough
  head                         how a head lies: the answer to the last slice of every search
  head_seconds                 how long one slice of it takes
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from velcro_engine.errors import KINDS
from velcro_engine.knowledge_base import entry_to_dict, load_knowledge_base
from velcro_engine.knowledge_base.card import card_html
from velcro_engine.knowledge_base.search import SearchIndex
from velcro_engine.linking.attributes import measure
from velcro_engine.messages.request import SliceRequest
from velcro_engine.messages.result import LinkedEntry, LinkResult
from velcro_engine.resources import resource_path
from velcro_engine.worker import process as worker

# By rising brightness of the region; the first fits what the test volumes show.
BY_BRIGHTNESS = ("lateral_ventricle", "thalamus", "hippocampus", "cerebral_white_matter")
CONFIDENCES = (0.87, 0.07, 0.03, 0.01)


def script() -> dict:
    return json.loads(Path(os.environ["VELCROLINK_TEST_SCRIPT"]).read_text("utf-8"))


def wait(seconds: float, context, deaf: bool = False) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not deaf:
            context.check_cancelled()
        time.sleep(0.005)


def fail(error: dict | None) -> None:
    if error:
        raise KINDS[error["kind"]](error["message"])


def load(header, payload, context):
    said = script()
    wait(said.get("load_seconds", 0.0), context)
    fail(said.get("load_error"))
    paths = header.get("knowledge_bases") or [str(resource_path("KnowledgeBase/velcrolink.json"))]
    base = load_knowledge_base(paths)
    context.session.update(base=base, search=SearchIndex(base))
    return {
        "type": "ready",
        "model": header.get("model") or "scripted model",
        "knowledge_base": base.version,
        "entries": len(base),
        "device": header.get("device", "cpu"),
    }, b""


def link(header, payload, context):
    said = script()
    started = time.perf_counter()
    if said.get("link_exit"):
        os._exit(9)
    wait(said.get("link_seconds", 0.0), context, said.get("deaf", False))
    fail(said.get("link_error"))
    request = SliceRequest.from_message(header["request"], payload)
    mask = segment(request)
    grey = float(request.pixels[mask].mean()) if mask.any() else 0.0
    entries = rank(context.session["base"], grey, side_of(mask, request))
    vector = np.zeros(16, np.float32)
    vector[int(grey) % 16] = 1.0
    result = LinkResult(
        mask=mask,
        entries=entries,
        abstained=bool(said.get("abstain")),
        attributes=measure(mask, request),
        embedding=vector,
        mask_confidence=0.9,
        seconds={"encode": 0.0, "decode": 0.0, "total": time.perf_counter() - started},
        model="scripted model",
        knowledge_base=context.session["base"].version,
        slice_id=request.slice_id,
    )
    answer, data = result.to_message()
    return {"type": "linked", "result": answer}, data


def head(header, payload, context):
    said = script()
    wait(said.get("head_seconds", 0.0), context)
    SliceRequest.from_message(header["request"], payload)
    if not header["last"]:
        return {"type": "head"}, b""
    return {"type": "head", "foreground": said.get("head"), "far": said.get("head_far", False)}, b""


def segment(request: SliceRequest) -> np.ndarray:
    """The ellipse in the box, or a disc of 3 pixels around the point."""
    height, width = request.pixels.shape
    if request.box is not None:
        x0, y0, x1, y1 = request.box
        centre, radii = ((x0 + x1) / 2, (y0 + y1) / 2), ((x1 - x0) / 2, (y1 - y0) / 2)
    else:
        x, y, _label = request.points[0]
        centre, radii = (x, y), (3.0, 3.0)
    rows, columns = np.mgrid[:height, :width]
    return ((columns - centre[0]) / radii[0]) ** 2 + ((rows - centre[1]) / radii[1]) ** 2 <= 1.0


def side_of(mask: np.ndarray, request: SliceRequest) -> str | None:
    if request.pixel_to_ras is None or not mask.any():
        return None
    rows, columns = np.nonzero(mask)
    ras = request.pixel_to_ras @ [columns.mean(), rows.mean(), 0.0, 1.0]
    middle = request.foreground.centre[0] if request.foreground else 0.0
    return "right" if ras[0] > middle else "left"


def rank(base, grey: float, side: str | None) -> tuple[LinkedEntry, ...]:
    first = min(int(grey * len(BY_BRIGHTNESS) / 256), len(BY_BRIGHTNESS) - 1)
    order = [BY_BRIGHTNESS[(first + n) % len(BY_BRIGHTNESS)] for n in range(len(BY_BRIGHTNESS))]
    ranked = []
    for identity, confidence in zip(order, CONFIDENCES, strict=True):
        entry = base.entry(identity)
        sided = side if entry.laterality in ("paired", "any") else None
        ranked.append(LinkedEntry(entry.id, entry.name, sided, confidence))
    return tuple(ranked)


def entry(header, payload, context):
    found = context.session["base"].entry(str(header.get("entry_id", "")))
    return {
        "type": "entry",
        "entry": entry_to_dict(found),
        "card_html": card_html(found, for_qt=True),
    }, b""


def search(header, payload, context):
    hits = context.session["search"].search(header["text"], header["limit"])
    return {
        "type": "found",
        "entries": [{"id": h.entry.id, "name": h.entry.name, "score": h.score} for h in hits],
    }, b""


if __name__ == "__main__":
    sys.modules["scripted_worker"] = sys.modules["__main__"]
    names = ("load", "link", "head", "entry", "search")
    handlers = {name: f"scripted_worker:{name}" for name in names}
    handlers |= {name: f"scripted_review:{name}" for name in ("review", "propagate")}
    sys.exit(worker.main(handlers))
