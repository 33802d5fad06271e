"""What can be measured of a region on a slice: size in mm and where in the body it lies.

Lengths and areas need the pixel size; for an image without position they are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..imaging.diameters import diameters
from ..messages.request import Foreground, SliceRequest

MIDLINE = 0.08  # of the body's half width: nearer to the middle than that is neither side
THIRD = 1 / 3
KNOWN_EXTENT_MM = 5.0  # a one-slice volume does not say where along its normal the slice lies


def measure(
    mask: np.ndarray, request: SliceRequest, usual_size_mm: tuple[float, float] | None = None
) -> dict[str, Any]:
    """Attributes of a mask (bool, H x W) on the request's pixels; empty for an empty mask.

    "area_mm2"; "longest_diameter_mm" and "perpendicular_mm", its longest perpendicular, both over
    the convex hull; "zone", e.g. "upper posterior", thirds of the body's foreground along S and A;
    "body_side": "left", "right" or "midline" of the foreground's middle; "size": "small", "usual",
    "large" against `usual_size_mm` (low, high) of the linked entry. Keys that cannot be known are
    left out.
    """
    if not mask.any():
        return {}
    found: dict[str, Any] = {}
    spacing = request.pixel_spacing
    if spacing is not None:
        longest, perpendicular = diameters(mask)
        found["area_mm2"] = round(float(mask.sum()) * spacing**2, 2)
        found["longest_diameter_mm"] = round(longest * spacing, 2)
        found["perpendicular_mm"] = round(perpendicular * spacing, 2)
        if usual_size_mm is not None:
            low, high = usual_size_mm
            found["size"] = (
                "small"
                if longest * spacing < low
                else "large"
                if longest * spacing > high
                else "usual"
            )
    if request.pixel_to_ras is not None and request.foreground is not None:
        found |= place(centre_ras(mask, request.pixel_to_ras), request.foreground)
    return found


def centre_ras(mask: np.ndarray, pixel_to_ras: np.ndarray) -> np.ndarray:
    """RAS in mm of the mean pixel of a mask (H x W, not empty)."""
    rows, columns = np.nonzero(mask)
    centre: np.ndarray = pixel_to_ras @ [columns.mean(), rows.mean(), 0.0, 1.0]
    return centre[:3]


def place(ras: np.ndarray, fore: Foreground) -> dict[str, str]:
    """ "zone" and "body_side" of a point (RAS, mm) in the body's foreground, where known."""
    half = np.asarray(fore.half_extent)
    relative = fore.relative(ras)
    known = half >= KNOWN_EXTENT_MM
    found: dict[str, str] = {}
    words = []
    for axis, low, high in ((2, "lower", "upper"), (1, "posterior", "anterior")):
        if known[axis] and abs(relative[axis]) > THIRD:
            words.append(high if relative[axis] > 0 else low)
        elif known[axis]:
            words.append("middle" if axis == 2 else "central")
    if words:
        found["zone"] = " ".join(words)
    if known[0]:
        x = relative[0]
        found["body_side"] = "midline" if abs(x) < MIDLINE else "right" if x > 0 else "left"
    return found
