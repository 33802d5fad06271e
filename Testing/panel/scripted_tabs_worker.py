"""The scripted worker of the panel's tests, which also answers what Find, Cases and Report ask.

`cases` and `draft` are the engine's own handlers over a library in the test's data folder; what is
scripted is the model behind them and what `ground` finds. Further keys of the script file:
  ground_seconds    how long a search takes (it can be cancelled meanwhile)
  ground_exit       true: the process ends in the middle of a search
  ground_damaged    true: the answer's payload is one byte short
  ground_error      {"kind", "message"}
  present           false: the phrase is not in the slice
  cases_error       {"kind", "message"}
"""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import numpy as np

import scripted_worker
from velcro_engine.finding.document import grounding_document
from velcro_engine.finding.grounding import GroundedRegion, Grounding, tight_box
from velcro_engine.finding.phrases import read_phrase
from velcro_engine.messages.request import SliceRequest
from velcro_engine.worker import cases_handlers as case_handlers
from velcro_engine.worker import process as worker
from velcro_engine.worker.draft_handler import draft  # noqa: F401 - found by its name

link, entry, search = scripted_worker.link, scripted_worker.entry, scripted_worker.search


def load(header, payload, context):
    answer = scripted_worker.load(header, payload, context)
    context.session["linker"] = SimpleNamespace(
        runtime=SimpleNamespace(fingerprint="scripted", name="scripted model", embed_text=vectors),
        knowledge_base=context.session["base"],
    )
    context.session["data"] = header.get("data")
    return answer


def vectors(texts):
    return np.eye(16, dtype=np.float32)[[len(text) % 16 for text in texts]]


def ground(header, payload, context):
    """Two discs, left and right of the middle of the slice; the heat is warm around them."""
    said = scripted_worker.script()
    if said.get("ground_exit"):
        os._exit(9)
    scripted_worker.wait(said.get("ground_seconds", 0.0), context)
    scripted_worker.fail(said.get("ground_error"))
    request = SliceRequest.from_message(header["request"], payload)
    phrase = read_phrase(header["phrase"], context.session["base"], context.session["search"])
    height, width = request.pixels.shape
    rows, columns = np.mgrid[:height, :width]
    present = said.get("present", True)
    regions, heat = [], np.zeros((height, width), np.float32)
    for score, part in ((0.82, 0.35), (0.41, 0.65)):
        distance = np.hypot(columns - part * width, rows - 0.45 * height)
        mask = distance <= 0.09 * width
        side = scripted_worker.side_of(mask, request)
        heat = np.maximum(heat, score * np.exp(-((distance / (0.1 * width)) ** 2)))
        if phrase.side in (None, side):
            regions.append(GroundedRegion(mask, tight_box(mask), score, side))
    if not present:
        regions = [GroundedRegion(r.mask, r.box, 0.05, r.side) for r in regions]
        heat *= 0.1
    score = max((r.score for r in regions), default=0.0)
    found = Grounding(phrase, present, score, tuple(regions), heat.astype(np.float32))
    bits = b"".join(np.packbits(region.mask).tobytes() for region in regions)
    data = bits + np.rint(heat * 255).astype(np.uint8).tobytes()
    if said.get("ground_damaged"):
        data = data[:-1]
    return {"type": "ground", "result": grounding_document(found)}, data


def cases(header, payload, context):
    scripted_worker.fail(scripted_worker.script().get("cases_error"))
    return case_handlers.cases(header, payload, context)


if __name__ == "__main__":
    sys.modules["scripted_tabs_worker"] = sys.modules["__main__"]
    names = ("load", "link", "entry", "search", "ground", "cases", "draft")
    sys.exit(worker.main({name: f"scripted_tabs_worker:{name}" for name in names}))
