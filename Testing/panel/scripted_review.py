"""What the scripted worker does for `review` and `propagate`: real messages, no model.

How it behaves is read anew for every message from the script of `scripted_worker`:
  review_seconds       how long the model's part takes, with progress; it can be cancelled
  review_links         {segment name: [linked name, side, Dice]}: what the model says
  review_plain         true: rows with names and volumes only, without the engine's checks
  review_exit          true: the process ends in the middle of a review
  propagate_seconds    the same for propagating
  propagate_layers     how many slices the ball of a propagation has on each side
  propagate_error      {"kind", "message"}: propagating fails like this
  propagate_deaf       true: corrections change nothing
  propagate_exit       true: the process ends in the middle of a propagation
Corrections add a ball of two voxels around each point inside and take one away around those outside.
"""

from __future__ import annotations

import os
import time

import numpy as np

from scripted_worker import fail, script
from velcro_engine.review import review_segmentation
from velcro_engine.review.table import review_document
from velcro_engine.worker.review_handlers import _segmentation
from velcro_engine.worker.volume_message import volume_of


def work(seconds, context, message):
    started = time.monotonic()
    while (passed := time.monotonic() - started) < seconds:
        context.progress(min(passed / seconds, 1.0), message)
        time.sleep(0.005)


def review(header, payload, context):
    said = script()
    volume, rest = volume_of(header, payload, context.session)
    segmentation = _segmentation(header["segmentation"], rest, volume)
    if said.get("review_exit"):
        os._exit(9)
    work(said.get("review_seconds", 0.0), context, "linking segment 3 of 7")
    if said.get("review_plain"):
        rows = [
            {"id": s.identifier, "name": s.name, "volume_ml": s.volume_ml, "centre": [0, 0, 0]}
            for s in segmentation.segments
        ]
        return {"type": "review", "result": {"rows": rows}}, b""
    found = review_segmentation(volume, segmentation, context.session["base"], None)
    document = review_document(found)
    for row in document["rows"]:
        link = said.get("review_links", {}).get(row["name"])
        if link is not None:
            name, side, dice = link
            row.update(
                linked=[{"id": "x", "name": name, "confidence": 0.81}],
                linked_side=side,
                dice=dice,
                agreement="same" if name.lower() in row["name"].lower() else "different",
            )
    document["model"] = "scripted model"
    return {"type": "review", "result": document}, b""


def propagate(header, payload, context):
    said = script()
    volume, _rest = volume_of(header, payload, context.session)
    if said.get("propagate_exit"):
        os._exit(9)
    work(said.get("propagate_seconds", 0.0), context, "axial slice 30 of 60")
    fail(said.get("propagate_error"))
    reach = int(said.get("propagate_layers", 4))
    region = header.get("corners_ras") or [point[:3] for point in header["points_ras"]]
    voxels = ball(volume, np.mean(region, axis=0), reach)
    for item in () if said.get("propagate_deaf") else header.get("corrections", ()):
        for *ras, label in item["points_ras"]:
            near = ball(volume, ras, 2)
            voxels = voxels | near if label else voxels & ~near
    mm3 = abs(np.linalg.det(volume.ijk_to_ras[:3, :3]))
    result = {
        "entry_id": "thalamus",
        "name": "Thalamus",
        "side": "right",
        "confidence": 0.8,
        "volume_ml": float(voxels.sum() * mm3 / 1000),
        "longest_diameter_mm": 4.0 * reach,
        "perpendicular_mm": 4.0 * reach,
        "stopped": {"-": "the region ends", "+": "the region ends"},
        "slices": [],
        "shape": list(voxels.shape),
    }
    return {"type": "propagate", "result": result}, np.packbits(voxels).tobytes()


def ball(volume, ras, reach):
    """Voxels (K x J x I) within this many voxels of a position."""
    ijk = np.rint((np.linalg.inv(volume.ijk_to_ras) @ np.append(ras, 1.0))[:3]).astype(int)
    k, j, i = np.indices(volume.array.shape)
    return (k - ijk[2]) ** 2 + (j - ijk[1]) ** 2 + (i - ijk[0]) ** 2 <= reach**2
