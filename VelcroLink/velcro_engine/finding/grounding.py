"""Phrase -> regions of the current slice, with scores, or "not in this slice".

Every image token of the encoder carries an embedding in the space of the entries' texts; compared
with the whole knowledge base it gives, token by token, the probability that the phrase's entry lies
there: the heat map. Where the model also links single pixels (decision 11) and was trained on the
entry, both shares are averaged. Its peaks and connected areas become prompts; the decoder answers each with a
mask and a region embedding, and the region's own probability, agreeing side and heat decide.

A phrase that is in the knowledge base (by any synonym) is the sum over its entry, its kinds and its
parts; any other phrase stands beside the entries with its own text embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..linking.linker import Linker
from ..linking.region_mask import region_mask
from ..messages.request import SliceRequest
from ..model.preprocess import (
    BOX_BOTTOM_RIGHT,
    BOX_TOP_LEFT,
    MAXIMUM_POINTS,
    NO_POINT,
    POINT_INSIDE,
    STRIDE,
    Letterbox,
    letterbox_of,
    mask_to_slice,
    model_input,
)
from .phrases import Phrase, entry_rows

LEVELS = (0.75, 0.5, 0.25)  # of the heat's maximum: areas above them become boxes
PROPOSALS = 14
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
class _Targets:
    """Columns of the comparison: the knowledge base (and the phrase itself last, if it is new)."""

    embeddings: np.ndarray
    rows: np.ndarray
    sided: bool


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
    targets = _targets(linker, request, phrase)
    heat = _heat(encoded, targets, linker, phrase, request)
    points, labels = _proposals(heat)
    candidates = _regions(linker, encoded, targets, phrase, request, box, points, labels, heat)
    # a second look: the tight box around the best masks, which is how the decoder sees best
    again = [region.box for region in candidates[:2]]
    if again:
        points, labels = _box_prompts([box_to_input(b, box) for b in again])
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


def _targets(linker: Linker, request: SliceRequest, phrase: Phrase) -> _Targets:
    base = linker.knowledge_base
    if phrase.entries:
        rows = entry_rows(base, phrase.entries)
        lateral = base.entry(phrase.entries[0]).laterality
        sided = lateral in ("paired", "any")
        embeddings = linker.embeddings
    else:
        own = linker.runtime.embed_text([phrase.rest])
        embeddings = np.concatenate([linker.embeddings, own])
        rows, sided = np.array([len(base)]), True
    return _Targets(embeddings, rows, sided and request.pixel_to_ras is not None)


def _probability(vectors: np.ndarray, targets: _Targets, linker: Linker) -> np.ndarray:
    """N x D unit -> N: probability that each is what the phrase means."""
    temperature = linker.runtime.calibration.temperature
    logits = vectors.astype(np.float32) @ targets.embeddings.T / np.float32(temperature)
    if linker.runtime.nothing is not None:
        nothing = vectors @ linker.runtime.nothing / np.float32(temperature)
        logits = np.concatenate([logits, nothing[:, None]], axis=1)
    logits -= logits.max(axis=1, keepdims=True)
    weights = np.exp(logits)
    return weights[:, targets.rows].sum(1) / weights.sum(1)


def _agreement(side_logits: np.ndarray, phrase: Phrase, targets: _Targets) -> np.ndarray:
    """N x 3 (left, right, neither) -> N: share of the asked side among left and right."""
    if phrase.side is None or not targets.sided:
        return np.ones(len(side_logits), dtype=np.float32)
    weights = np.exp(side_logits - side_logits.max(axis=1, keepdims=True))
    asked = weights[:, 0 if phrase.side == "left" else 1]
    return asked / np.maximum(weights[:, 0] + weights[:, 1], 1e-9)


def _heat(
    encoded: Any, targets: _Targets, linker: Linker, phrase: Phrase, request: SliceRequest
) -> np.ndarray:
    """h x w: probability at every image token."""
    _, d, h, w = encoded.dense.shape
    tokens = encoded.dense[0].reshape(d, h * w).T
    sides = encoded.dense_side[0].reshape(3, h * w).T
    share = _probability(tokens, targets, linker)
    of_pixels = _pixel_share(encoded, targets, linker, (h, w))
    if of_pixels is not None:
        share = (share + of_pixels.ravel()) / 2
    heat = share * _agreement(sides, phrase, targets)
    return heat.reshape(h, w).astype(np.float32)


def _pixel_share(
    encoded: Any, targets: _Targets, linker: Linker, grid: tuple[int, int]
) -> np.ndarray | None:
    """h x w: mean share of the phrase's trained entries among the pixels of every image token; None
    when there is none, or the model links no pixels."""
    posterior = getattr(encoded, "maps", {}).get("posterior")
    names = getattr(linker.runtime, "entities", ())
    entries = linker.knowledge_base.entries
    wanted = {entries[row].id for row in targets.rows if row < len(entries)}
    columns = [n for n, name in enumerate(names) if name in wanted]
    if posterior is None or not columns:
        return None
    share = posterior[0, columns].sum(axis=0)
    h, w = grid
    step = share.shape[0] // h
    return share[: h * step, : w * step].reshape(h, step, w, step).mean((1, 3))


def _proposals(heat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Prompts from the heat: boxes around areas above each level, points at the peaks."""
    top = float(heat.max())
    if not top > 0:
        return _box_prompts([])
    boxes: dict[tuple[float, ...], float] = {}
    for level in LEVELS:
        pieces = connected(heat >= level * top)
        for piece in range(1, int(pieces.max()) + 1):
            rows, columns = np.nonzero(pieces == piece)
            found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            corners = tuple(float(v) * STRIDE - 0.5 for v in found)
            boxes[corners] = max(boxes.get(corners, 0.0), float(heat[rows, columns].sum()))
    best = sorted(boxes, key=lambda b: -boxes[b])[: PROPOSALS - 4]
    points, labels = _box_prompts(best)
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


def _box_prompts(boxes: list[tuple[float, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes XYXY in input pixels -> points N x 8 x 2 and labels N x 8."""
    points = np.zeros((len(boxes), MAXIMUM_POINTS, 2), dtype=np.float32)
    labels = np.full((len(boxes), MAXIMUM_POINTS), NO_POINT, dtype=np.float32)
    for n, (x0, y0, x1, y1) in enumerate(boxes):
        points[n, 0], points[n, 1] = (x0, y0), (x1, y1)
        labels[n, :2] = (BOX_TOP_LEFT, BOX_BOTTOM_RIGHT)
    return points, labels


def box_to_input(
    box: tuple[float, float, float, float], window: Letterbox
) -> tuple[float, float, float, float]:
    """Box XYXY in slice pixels -> the model's input pixels."""
    (x0, y0), (x1, y1) = window.to_input(np.array([box[:2], box[2:]]))
    return float(x0), float(y0), float(x1), float(y1)


def _regions(
    linker: Linker,
    encoded: Any,
    targets: _Targets,
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
    scores = _probability(vectors, targets, linker) * _agreement(sides, phrase, targets)
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


def connected(mask: np.ndarray) -> np.ndarray:
    """Numbered pieces of a mask, 0 outside."""
    labelled = sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), True)
    return sitk.GetArrayFromImage(labelled)
