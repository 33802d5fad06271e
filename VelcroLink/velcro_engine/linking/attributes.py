"""What can be measured of a region on a slice: size in mm and where in the body it lies.

Lengths and areas need the pixel size; for an image without position they are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

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


def diameters(mask: np.ndarray) -> tuple[float, float]:
    """(longest diameter, longest perpendicular to it) of a mask in pixels.

    Both between the outer edges of pixels: a single pixel measures 1 x 1.
    """
    hull = convex_hull(mask)
    difference = hull[:, None, :] - hull[None, :, :]
    squared = (difference**2).sum(-1)
    a, b = np.unravel_index(int(np.argmax(squared)), squared.shape)
    longest = float(np.sqrt(squared[a, b]))
    if longest == 0:
        return 1.0, 1.0
    along = (hull[b] - hull[a]) / longest
    across = np.array([-along[1], along[0]])
    return longest + 1.0, _longest_chord(hull @ along, hull @ across) + 1.0


def _longest_chord(t: np.ndarray, s: np.ndarray) -> float:
    """Longest extent along s at one t of a convex polygon with vertices (t, s).

    The chord's length is concave and bends only at vertices, so the longest lies at one of them.
    """
    longest = 0.0
    ends = np.roll(t, -1), np.roll(s, -1)
    for level in t:
        crossing = (np.minimum(t, ends[0]) <= level) & (np.maximum(t, ends[0]) >= level)
        step = ends[0] - t
        flat = np.abs(step) < 1e-12
        part = np.where(flat, 0.0, (level - t) / np.where(flat, 1.0, step))
        values = (s + part * (ends[1] - s))[crossing]
        values = np.concatenate([values, s[t == level], ends[1][crossing & flat]])
        longest = max(longest, float(np.ptp(values)))
    return longest


def convex_hull(mask: np.ndarray) -> np.ndarray:
    """Vertices (x, y) of the convex hull of the mask's pixel centres, N x 2, in order.

    Andrew's monotone chain over the first and last pixel of each row.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    points = np.unique(
        np.concatenate([np.stack([first, rows], 1), np.stack([last, rows], 1)]), axis=0
    )
    if len(points) < 3:
        return points.astype(np.float64)

    def chain(ordered: np.ndarray) -> list[tuple[int, int]]:
        hull: list[tuple[int, int]] = []
        for x, y in ordered.tolist():
            while len(hull) > 1 and (
                (hull[-1][0] - hull[-2][0]) * (y - hull[-2][1])
                <= (hull[-1][1] - hull[-2][1]) * (x - hull[-2][0])
            ):
                hull.pop()
            hull.append((x, y))
        return hull[:-1]

    return np.array(chain(points) + chain(points[::-1]), dtype=np.float64)
