"""From a heat map to prompts: boxes around areas above each level, points at the peaks."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from ..model.preprocess import (
    BOX_BOTTOM_RIGHT,
    BOX_TOP_LEFT,
    MAXIMUM_POINTS,
    NO_POINT,
    POINT_INSIDE,
    STRIDE,
)

LEVELS = (0.75, 0.5, 0.25)  # of the heat's maximum: areas above them become boxes
PROPOSALS = 14


def proposals(heat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Prompts from the heat: boxes around areas above each level, points at the peaks."""
    top = float(heat.max())
    if not top > 0:
        return box_prompts([])
    boxes: dict[tuple[float, ...], float] = {}
    for level in LEVELS:
        pieces = connected(heat >= level * top)
        for piece in range(1, int(pieces.max()) + 1):
            rows, columns = np.nonzero(pieces == piece)
            found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            corners = tuple(float(v) * STRIDE - 0.5 for v in found)
            boxes[corners] = max(boxes.get(corners, 0.0), float(heat[rows, columns].sum()))
    best = sorted(boxes, key=lambda b: -boxes[b])[: PROPOSALS - 4]
    points, labels = box_prompts(best)
    peaks = _peaks(heat)[: PROPOSALS - len(best)]
    more = np.zeros((len(peaks), MAXIMUM_POINTS, 2), dtype=np.float32)
    kinds = np.full((len(peaks), MAXIMUM_POINTS), NO_POINT, dtype=np.float32)
    for n, (row, column) in enumerate(peaks):
        more[n, 0] = ((column + 0.5) * STRIDE - 0.5, (row + 0.5) * STRIDE - 0.5)
        kinds[n, 0] = POINT_INSIDE
    return np.concatenate([points, more]), np.concatenate([labels, kinds])


def _peaks(heat: np.ndarray) -> list[tuple[int, int]]:
    """Tokens that are warmer than their eight neighbours, warmest first."""
    framed = np.pad(heat, 1, constant_values=-1.0)
    h, w = heat.shape
    around = [
        framed[1 + dy : 1 + dy + h, 1 + dx : 1 + dx + w]
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
        if dy or dx
    ]
    rows, columns = np.nonzero((heat >= np.max(around, axis=0)) & (heat > 0.3 * heat.max()))
    order = np.argsort(-heat[rows, columns], kind="stable")
    return [(int(rows[i]), int(columns[i])) for i in order]


def box_prompts(boxes: list[tuple[float, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes XYXY in input pixels -> points N x 8 x 2 and labels N x 8."""
    points = np.zeros((len(boxes), MAXIMUM_POINTS, 2), dtype=np.float32)
    labels = np.full((len(boxes), MAXIMUM_POINTS), NO_POINT, dtype=np.float32)
    for n, (x0, y0, x1, y1) in enumerate(boxes):
        points[n, 0], points[n, 1] = (x0, y0), (x1, y1)
        labels[n, :2] = (BOX_TOP_LEFT, BOX_BOTTOM_RIGHT)
    return points, labels


def connected(mask: np.ndarray) -> np.ndarray:
    """Numbered pieces of a mask, 0 outside."""
    labelled = sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), True)
    return sitk.GetArrayFromImage(labelled)
