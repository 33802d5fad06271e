"""Phrase -> regions of the current slice, with scores, or "not in this slice".

The heat map (`heat`) says where the phrase is likely; its peaks and connected areas become prompts
(`proposals`); the decoder answers each with a mask and a region embedding, and the region's own
probability, agreeing side and heat decide.

A phrase that is in the knowledge base (by any synonym) is the sum over its entry, its kinds and its
parts; any other phrase stands beside the entries with its own text embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..linking.linker import Linker
from ..linking.region_mask import region_mask
from ..messages.request import SliceRequest
from ..model.preprocess import (
    BOX_TOP_LEFT,
    Letterbox,
    letterbox_of,
    mask_to_slice,
    model_input,
)
from .heat import Targets, agreement, heat_map, probability, targets_of
from .phrases import Phrase
from .proposals import box_prompts, proposals

MERGE_IOU = 0.5
SMALLEST_MASK = 6  # pixels of the slice
MEAN_LEVEL = -0.7  # mask logit above which a token counts as under the mask
PRESENT_ABOVE = (
    0.2  # the least score that counts as "in this slice", where the model tells no other
)


@dataclass(frozen=True)
class GroundedRegion:
    """mask: bool H x W; box XYXY in pixels; score 0..1; side as told by the model."""

    mask: np.ndarray
    box: tuple[float, float, float, float]
    score: float
    side: str | None


@dataclass(frozen=True)
class Grounding:
    """regions: best first, none below the threshold when `present`; when it is False, the best
    candidates that were not good enough. heat: float32 H x W, 0..1, on the slice's pixels."""

    phrase: Phrase
    present: bool
    score: float
    regions: tuple[GroundedRegion, ...]
    heat: np.ndarray


@dataclass(frozen=True)
class SliceView:
    """A slice encoded once, for any number of phrases."""

    request: SliceRequest
    window: Letterbox
    encoded: Any


def view_slice(linker: Linker, request: SliceRequest) -> SliceView:
    """Encode a slice; the region of interest of `request` is not used."""
    request = _whole(request)
    window = letterbox_of(request, linker.runtime.size)
    encoded = linker.runtime.encode(model_input(request, linker.runtime.size, window))
    return SliceView(request, window, encoded)


def ground(
    linker: Linker,
    view: SliceView,
    phrase: Phrase,
    present_above: float | None = None,
    most: int = 6,
) -> Grounding:
    """Find a phrase on a slice.

    present_above: threshold on the score; None: the model's own for this entry, or PRESENT_ABOVE.
    """
    runtime = linker.runtime
    request, box, encoded = view.request, view.window, view.encoded
    targets = targets_of(linker, request, phrase)
    heat = heat_map(encoded, targets, linker, phrase, request)
    points, labels = proposals(heat)
    candidates = _regions(linker, encoded, targets, phrase, request, box, points, labels, heat)
    # a second look: the tight box around the best masks, which is how the decoder sees best
    again = [region.box for region in candidates[:2]]
    if again:
        points, labels = box_prompts([box_to_input(b, box) for b in again])
        candidates += _regions(linker, encoded, targets, phrase, request, box, points, labels, heat)
    regions = merged(candidates)
    threshold = threshold_of(runtime, phrase) if present_above is None else present_above
    score = regions[0].score if regions else 0.0
    present = bool(regions) and score >= threshold
    kept = [r for r in regions if r.score >= max(threshold, 0.35 * score)] if present else regions
    on_slice = np.clip(mask_to_slice(heat, box, request.pixels.shape), 0.0, 1.0)
    return Grounding(phrase, present, score, tuple(kept[:most]), on_slice)


def threshold_of(runtime: Any, phrase: Phrase) -> float:
    """Of the phrase's entry, when the model's configuration has one (`velcrolink calibrate --find`)."""
    own: dict[str, float] = getattr(runtime, "present_above", {})
    return own.get(phrase.entries[0], PRESENT_ABOVE) if phrase.entries else PRESENT_ABOVE


def _whole(request: SliceRequest) -> SliceRequest:
    """The slice with a prompt in its middle, so that the window is that of its content."""
    height, width = request.pixels.shape
    return request.with_prompt(points=[((width - 1) / 2, (height - 1) / 2, 1)])


def box_to_input(
    box: tuple[float, float, float, float], window: Letterbox
) -> tuple[float, float, float, float]:
    """Box XYXY in slice pixels -> the model's input pixels."""
    (x0, y0), (x1, y1) = window.to_input(np.array([box[:2], box[2:]]))
    return float(x0), float(y0), float(x1), float(y1)


def _regions(
    linker: Linker,
    encoded: Any,
    targets: Targets,
    phrase: Phrase,
    request: SliceRequest,
    window: Letterbox,
    points: np.ndarray,
    labels: np.ndarray,
    heat: np.ndarray,
) -> list[GroundedRegion]:
    """Decode prompts and score what comes back, best first."""
    if not len(points):
        return []
    masks, confidence, vectors, sides = linker.runtime.decode_many(encoded, points, labels)
    scores = probability(vectors, targets, linker) * agreement(sides, phrase, targets)
    # The decoder sees the region, the heat sees the place: their geometric mean is high only
    # where both agree. A decoder that doubts its own mask has found no structure there.
    warm = np.array([_mean_heat(mask, heat) for mask in masks])
    scores = np.sqrt(scores * warm) * np.clip(confidence, 0.0, 1.0)
    found = []
    for n in np.argsort(-scores, kind="stable"):
        logits = mask_to_slice(masks[n], window, request.pixels.shape)
        mask = _piece(logits, request, *_prompt_of(points[n], labels[n], window))
        if mask.sum() < SMALLEST_MASK:
            continue
        side = None
        if targets.sided:
            side = ("left", "right", None)[int(np.argmax(sides[n]))]
        found.append(GroundedRegion(mask, tight_box(mask), float(scores[n]), side))
    return found


def _piece(logits: np.ndarray, request: SliceRequest, box: Any, inside: Any) -> np.ndarray:
    """Mask of a prompt, a box or a point inside; empty for a box beside the slice."""
    height, width = logits.shape
    if box is not None:
        x0, y0 = max(box[0], -0.5), max(box[1], -0.5)
        x1, y1 = min(box[2], width - 0.5), min(box[3], height - 0.5)
        if x1 - x0 < 1 or y1 - y0 < 1:
            return np.zeros(logits.shape, dtype=bool)
        return region_mask(logits, request.with_prompt(box=(x0, y0, x1, y1)))
    x, y = np.clip(inside, -0.5, [width - 0.5, height - 0.5])
    return region_mask(logits, request.with_prompt(points=[(float(x), float(y), 1)]))


def _prompt_of(points: np.ndarray, labels: np.ndarray, window: Letterbox) -> tuple[Any, Any]:
    """(box, None) or (None, point) of a prompt, in slice pixels."""
    if labels[0] == BOX_TOP_LEFT:
        return tuple(window.to_slice(points[:2]).ravel().tolist()), None
    return None, window.to_slice(points[0])


def _mean_heat(logits: np.ndarray, heat: np.ndarray) -> float:
    """Mean heat under a mask m x m, relative to nothing but its own tokens."""
    step = logits.shape[-1] // heat.shape[-1]
    h, w = heat.shape
    inside = (logits[: h * step, : w * step] > MEAN_LEVEL).reshape(h, step, w, step).mean((1, 3))
    total = float(inside.sum())
    return float((inside * heat).sum() / total) if total > 0 else 0.0


def merged(regions: list[GroundedRegion]) -> list[GroundedRegion]:
    """Best first, without those that overlap a better one or lie within it for their larger part."""
    kept: list[GroundedRegion] = []
    for region in sorted(regions, key=lambda r: -r.score):
        area = region.mask.sum()
        for other in kept:
            meet = float((region.mask & other.mask).sum())
            if meet / float((region.mask | other.mask).sum()) > MERGE_IOU or meet > 0.7 * area:
                break
        else:
            kept.append(region)
    return kept


def tight_box(mask: np.ndarray) -> tuple[float, float, float, float]:
    """XYXY box around the pixel edges of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (
        float(columns[0]) - 0.5,
        float(rows[0]) - 0.5,
        float(columns[-1]) + 0.5,
        float(rows[-1]) + 0.5,
    )
