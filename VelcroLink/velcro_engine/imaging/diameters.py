"""Longest diameters and convex hull of a mask on one slice, in pixels."""

from __future__ import annotations

import numpy as np


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
