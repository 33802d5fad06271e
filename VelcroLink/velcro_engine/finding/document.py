"""What was found, as JSON: for regions.json and the worker's answer."""

from __future__ import annotations

from typing import Any

import numpy as np

from .grounding import Grounding


def grounding_document(found: Grounding, pixel_to_ras: np.ndarray | None = None) -> dict[str, Any]:
    """What regions.json and the worker's answer hold; boxes in pixels of the slice, and with
    pixel_to_ras (4 x 4) centre and box in RAS mm as well (see `place_in_mm`)."""
    return {
        "phrase": found.phrase.text,
        "side": found.phrase.side,
        "entries": list(found.phrase.entries[:20]),
        "present": found.present,
        "message": "" if found.present else f"'{found.phrase.text}' is not in this slice.",
        "score": round(found.score, 4),
        "shape": list(found.heat.shape),
        "regions": [
            {
                "box": list(region.box),
                **_document_place(region.box, pixel_to_ras),
                "score": round(region.score, 4),
                "side": region.side,
                "pixels": int(region.mask.sum()),
            }
            for region in found.regions
        ],
    }


def place_in_mm(
    box: tuple[float, float, float, float], pixel_to_ras: np.ndarray
) -> tuple[list[float], list[float]]:
    """(centre R,A,S; box R,A,S,R,A,S: its least and its greatest position) in RAS mm of a box XYXY
    in pixels. On an anatomical plane of an unturned volume `link --box` takes the box as it is."""
    x0, y0, x1, y1 = box
    corners = np.array([[x, y, 0.0, 1.0] for x in (x0, x1) for y in (y0, y1)])
    ras = (corners @ np.asarray(pixel_to_ras).T)[:, :3]
    numbers = np.concatenate([ras.mean(axis=0), ras.min(axis=0), ras.max(axis=0)])
    rounded = [float(v) for v in np.round(numbers, 2) + 0.0]  # no negative zeros
    return rounded[:3], rounded[3:]


def _document_place(
    box: tuple[float, float, float, float], pixel_to_ras: np.ndarray | None
) -> dict[str, list[float]]:
    if pixel_to_ras is None:
        return {}
    centre, whole = place_in_mm(box, pixel_to_ras)
    return {"centre_ras_mm": centre, "box_ras_mm": whole}
