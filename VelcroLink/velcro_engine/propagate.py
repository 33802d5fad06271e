"""One region carried through the volume, slice by slice in both directions.

Each slice's box comes from its neighbour's mask; the decoder's logits are smoothed across slices and
kept within reach of the neighbour. It stops where the region ends: when the model is not sure of its
mask any more, the mask no longer agrees with its neighbour, becomes tiny or bursts, or the region's
embedding is another one than at the start. Corrections (points on any slice) are prompts of that
slice, and everything beyond it is done again from there. With `consensus`, the other two directions
are segmented too, slice by slice through the result, and the majority of three decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import SimpleITK as sitk

from .errors import GeometryError, InputError
from .linker import Linker, clean_mask
from .model.preprocess import (
    input_key,
    letterbox_of,
    mask_to_slice,
    model_input,
    prompt_arrays,
)
from .ranking import entry_probabilities, side_of
from .request import SliceRequest
from .slices import Slice, anatomical_axes, cut_plane, labels_to_slice, mask_to_voxels
from .volume import Volume

UNSURE = 0.6  # of the start's confidence: a model that was unsure there may be so elsewhere
FINDING_GREY, FINDING_IDENTITY = 1.5, 0.2
WORLD = {"sagittal": 0, "coronal": 1, "axial": 2}
Point = tuple[float, float, int]
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Rules:
    """When to stop and how much to smooth.

    confidence: least estimated IoU of the model's mask. agreement: least Dice with the neighbour's
    mask. least_share, burst: area over the largest area so far, and over the neighbour's. growth:
    most area over the neighbour's that a mask is let grow to, per mm. likeness:
    least cosine of the region's embedding with the start's. smoothing: weight of the neighbour's
    logits at 1 mm distance. reach_mm: how far a mask may reach beyond its neighbour, per mm of
    slice distance, plus one pixel. grey, identity: weight of the grey levels' evidence and of the
    image tokens' (how much more a place resembles the start's entry than any other, in units of the
    calibration's temperature), 0 for none. least_identity: least mean of the latter over the mask. limit: most slices in each direction, None for no limit.
    """

    confidence: float = 0.25
    agreement: float = 0.35
    least_share: float = 0.02
    least_pixels: int = 4
    burst: float = 2.0
    growth: float = 1.04
    likeness: float = 0.3
    smoothing: float = 0.3
    reach_mm: float = 2.5
    grey: float = 0.6
    identity: float = 1.0
    least_identity: float = -1.0
    limit: int | None = None


@dataclass(frozen=True)
class Step:
    """One slice of the result. index: layer along the volume's axis of the plane. mask, logits: on
    the slice's pixels. agreement: Dice with the neighbour it came from, 1 for the start."""

    index: int
    mask: np.ndarray
    logits: np.ndarray
    confidence: float
    agreement: float
    probabilities: np.ndarray
    side: np.ndarray
    embedding: np.ndarray
    identity: float | None = None
    corrected: bool = False


@dataclass
class Propagation:
    """The result. voxels: bool K x J x I on the volume. stopped: {"-": reason, "+": reason} along
    the volume's axis. entry_id, side, confidence: by vote of all slices. volume_ml and, over axial
    slices, longest_mm and perpendicular_mm; None without position."""

    plane: str
    start: int
    steps: dict[int, Step]
    voxels: np.ndarray
    stopped: dict[str, str]
    entry_id: str
    side: str | None
    confidence: float
    volume_ml: float
    longest_mm: float | None
    perpendicular_mm: float | None
    seconds: float = 0.0
    corrections: dict[int, tuple[Point, ...]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """JSON-able, without the voxels."""
        indices = sorted(self.steps)
        return {
            "plane": self.plane,
            "start": self.start,
            "first": indices[0],
            "last": indices[-1],
            "stopped": self.stopped,
            "entry_id": self.entry_id,
            "side": self.side,
            "confidence": round(self.confidence, 4),
            "voxels": int(self.voxels.sum()),
            "volume_ml": round(self.volume_ml, 3),
            "longest_diameter_mm": _rounded(self.longest_mm),
            "perpendicular_mm": _rounded(self.perpendicular_mm),
            "seconds": round(self.seconds, 2),
            "slices": [
                {
                    "index": i,
                    "area_pixels": int(self.steps[i].mask.sum()),
                    "confidence": round(self.steps[i].confidence, 3),
                    "agreement": round(self.steps[i].agreement, 3),
                    "corrected": self.steps[i].corrected,
                }
                for i in indices
            ],
        }


def propagate(
    linker: Linker,
    volume: Volume,
    plane: str,
    index: int,
    box: Sequence[float] | None = None,
    points: Sequence[Point] = (),
    mask: np.ndarray | None = None,
    corrections: Mapping[int, Sequence[Point]] | None = None,
    before: Propagation | None = None,
    rules: Rules = Rules(),  # noqa: B008 - frozen
    consensus: bool = False,
    progress: Progress = lambda fraction, message: None,
) -> Propagation:
    """Carry a region through the volume.

    plane, index: the starting layer (see `slices.cut_plane`). The region is box (XYXY) and points
    (x, y, label) in its pixels, or mask (bool, H x W): an accepted one, used as it is. corrections:
    {index: points} on any layer of the plane. before: an earlier result with the same start, whose
    layers up to the first new correction are kept. progress(fraction, message) is called for every
    slice and may raise Cancelled.
    Raises GeometryError for a picture or a region outside the image, InputError for an empty mask.
    """
    if volume.is_picture:
        raise GeometryError("A picture has one slice only; propagate in a volume.")
    started = time.perf_counter()
    work = _Work(linker, volume, plane, rules, progress)
    given = {int(i): tuple(p) for i, p in (corrections or {}).items() if p}
    for i in given:
        if not 0 <= i < work.count:
            raise GeometryError(f"The volume has no {plane} slice number {i}.")
    kept = _kept_steps(before, plane, index, given)
    if index not in kept:
        kept = {index: work.first(index, box, points, mask, given.get(index, ()))}
    stopped = {}
    for sign, name in ((-1, "-"), (1, "+")):
        stopped[name] = work.walk(kept, index, sign, given)
        if before is not None and stopped[name] == "":
            stopped[name] = before.stopped.get(name, "")
    voxels = work.voxels(kept)
    if consensus:
        voxels = work.consensus(voxels)
    return _finished(work, kept, index, voxels, stopped, given, started)


def _rules_for(rules: Rules, kind: str) -> Rules:
    """A finding is what looks alike, and too ragged for the coarse grid of the image tokens."""
    if kind == "anatomy" or rules.grey <= 0:
        return rules
    return replace(
        rules, grey=max(rules.grey, FINDING_GREY), identity=FINDING_IDENTITY * rules.identity
    )


def _kept_steps(
    before: Propagation | None, plane: str, index: int, given: dict[int, tuple[Point, ...]]
) -> dict[int, Step]:
    """Layers of an earlier result that no new correction lies on or before."""
    if before is None or before.plane != plane or before.start != index:
        return {}
    every = set(given) | set(before.corrections)
    new = [i for i in every if given.get(i) != before.corrections.get(i)]
    if index in new:
        return {}
    low = max((i for i in new if i < index), default=-1)
    high = min((i for i in new if i > index), default=1 << 30)
    return {i: step for i, step in before.steps.items() if low < i < high}


class _Work:
    """What one propagation holds on to."""

    def __init__(
        self, linker: Linker, volume: Volume, plane: str, rules: Rules, progress: Progress
    ) -> None:
        if plane not in WORLD:
            raise InputError(f"Unknown plane '{plane}'; use axial, coronal or sagittal.")
        self.linker, self.volume, self.plane = linker, volume, plane
        self.rules, self.progress = rules, progress
        self.axis = anatomical_axes(volume)[WORLD[plane]][0]
        self.count = int(volume.shape_ijk[self.axis])
        self.done = 0
        self._cuts: dict[tuple[str, int], Slice] = {}
        self.level = 0.0  # of the logits, at which the start's mask fills its box
        self.entry: int | None = None  # number of the entry that the start was linked to

    def cut(self, plane: str, index: int) -> Slice:
        key = (plane, index)
        if key not in self._cuts:
            if len(self._cuts) > 64:
                self._cuts.clear()
            self._cuts[key] = cut_plane(self.volume, plane, index=index)
        return self._cuts[key]

    def decode(self, request: SliceRequest) -> tuple[np.ndarray, Any, np.ndarray | None]:
        """(logits on the slice's pixels, everything the decoder said, `_identity`)."""
        runtime = self.linker.runtime
        window = letterbox_of(request, runtime.size)
        slices = self.linker._slices  # the linker's own cache: what was linked is not encoded again
        key = input_key(request, window)
        encoded = slices.get(key)
        if encoded is None:
            encoded = runtime.encode(model_input(request, runtime.size, window))
        decoded = runtime.decode(encoded, *prompt_arrays(request, window))
        shape = request.pixels.shape
        if self.entry is None:
            self.entry = int(np.argmax(self.linker.embeddings @ decoded.embedding))
        identity = self._identity(getattr(encoded, "dense", None), window, shape)
        return mask_to_slice(decoded.mask, window, shape), decoded, identity

    def _kind(self) -> str:
        return "" if self.entry is None else self.linker.knowledge_base.entries[self.entry].kind

    def _identity(self, dense: np.ndarray | None, window, shape) -> np.ndarray | None:
        """By how much every pixel's token is closer to the start's entry than to any other entry of
        the knowledge base, over the temperature, within +-4; None for a runtime without tokens."""
        if dense is None or self.entry is None or self.rules.identity <= 0:
            return None
        _, depth, height, width = dense.shape
        cosine = self.linker.embeddings @ dense.reshape(depth, -1)
        own = cosine[self.entry].copy()
        cosine[self.entry] = -1.0
        margin = (own - cosine.max(axis=0)) / self.linker.runtime.calibration.temperature
        margin = np.clip(margin, -4, 4).reshape(height, width)
        return mask_to_slice(margin, window, shape)

    def step(self, index: int, mask, logits, decoded, identity, agreement, corrected) -> Step:
        probabilities, _ = entry_probabilities(
            decoded.embedding[None],
            self.linker.embeddings,
            self.linker.runtime.nothing,
            self.linker.runtime.calibration.temperature,
        )
        return Step(
            index,
            mask,
            logits,
            float(np.clip(decoded.mask_confidence, 0, 1)),
            agreement,
            probabilities[0].astype(np.float32),
            np.asarray(decoded.side, dtype=np.float32),
            np.asarray(decoded.embedding, dtype=np.float32),
            None if identity is None else float(identity[mask].mean()),
            corrected,
        )

    def first(self, index: int, box, points, mask, corrections) -> Step:
        cut = self.cut(self.plane, index)
        prompts = [*points, *corrections]
        if mask is not None:
            mask = np.asarray(mask, dtype=bool)
            if mask.shape != cut.pixels.shape:
                raise InputError("The mask and the slice differ in size.")
            if not mask.any():
                raise InputError("The mask is empty; draw the region first.")
            box = _box_of(mask)
        request = cut.request(box=box, points=prompts)
        logits, decoded, identity = self.decode(request)
        if mask is None or corrections:
            self.rules = _rules_for(self.rules, self._kind())
            if identity is not None:
                logits = logits + self.rules.identity * np.maximum(identity, -4)
            logits = sharpened(logits, cut.pixels, request, self.rules.grey)
            self.level = level_that_fills(logits, request)
            logits = logits - self.level
            mask = clean_mask(logits > 0, request)
        else:
            logits = np.where(mask, np.maximum(logits, 2.0), np.minimum(logits, -2.0))
        if not mask.any():
            raise GeometryError("Nothing was found in the region; mark the structure more closely.")
        return self.step(index, mask, logits, decoded, identity, 1.0, bool(corrections))

    def walk(
        self, steps: dict[int, Step], start: int, sign: int, given: dict[int, tuple[Point, ...]]
    ) -> str:
        """Go on from the last layer in one direction; the reason why it ended."""
        own = [i for i in steps if (i - start) * sign >= 0]
        index = max(own, key=lambda i: i * sign)
        asked = [i for i in given if (i - start) * sign > 0]
        furthest = max(asked, key=lambda i: i * sign) if asked else start
        largest = max(int(steps[i].mask.sum()) for i in own)
        while True:
            following = index + sign
            if not 0 <= following < self.count:
                return "end of the volume"
            if self.rules.limit is not None and abs(following - start) > self.rules.limit:
                return "limit of slices"
            self.done += 1
            self.progress(
                min(0.95, self.done / self.count),
                f"{self.plane} slice {following + 1} of {self.count}",
            )
            forced = (furthest - following) * sign >= 0
            found = self._next(steps[index], steps[start], following, given.get(following, ()))
            if found is None:
                if not forced:
                    return "nothing found"
                found = replace(steps[index], index=following, agreement=0.0)
            reason = "" if forced else self._stop(found, steps[index], steps[start], largest)
            if reason:
                return reason
            steps[following] = found
            largest = max(largest, int(found.mask.sum()))
            index = following

    def _next(self, near: Step, start: Step, index: int, points: Sequence[Point]) -> Step | None:
        cut = self.cut(self.plane, index)
        box = _box_of(near.mask)
        inner = [p for p in points if p[2] == 1]
        if inner:
            xs, ys = [p[0] for p in inner], [p[1] for p in inner]
            box = (
                min(box[0], min(xs) - 1),
                min(box[1], min(ys) - 1),
                max(box[2], max(xs) + 1),
                max(box[3], max(ys) + 1),
            )
        grow = 0.5 * self.rules.reach_mm * cut.thickness / cut.spacing
        box = (box[0] - grow, box[1] - grow, box[2] + grow, box[3] + grow)
        request = cut.request(box=box, points=points)
        logits, decoded, identity = self.decode(request)
        if identity is not None and not points:
            logits = logits + self.rules.identity * np.maximum(identity, -4)
        usual = grey_shares(self.cut(self.plane, near.index).pixels, near.mask)
        logits = sharpened(logits, cut.pixels, request, self.rules.grey, usual) - self.level
        weight = self.rules.smoothing ** max(1.0, cut.thickness) if not points else 0.0
        logits = (1 - weight) * logits + weight * near.logits
        mask = logits > 0
        if not points:
            mask &= _grown(near.mask, 1 + round(self.rules.reach_mm * cut.thickness / cut.spacing))
        most = int(near.mask.sum() * self.rules.growth ** max(1.0, cut.thickness)) + 2
        if not points and mask.sum() > most:
            mask &= logits >= np.partition(logits[mask], -most)[-most]
        mask = clean_mask(mask, request)
        if not mask.any():
            return None
        agreement = _dice(mask, near.mask)
        return self.step(index, mask, logits, decoded, identity, agreement, bool(points))

    def _stop(self, found: Step, near: Step, start: Step, largest: int) -> str:
        area, rules = int(found.mask.sum()), self.rules
        if found.confidence < min(rules.confidence, UNSURE * start.confidence):
            return "the model is not sure of the mask"
        if area < max(rules.least_pixels, rules.least_share * largest):
            return "the region ends"
        if area > rules.burst * max(int(near.mask.sum()), 16):
            return "the region bursts"
        if found.agreement < rules.agreement:
            return "the mask no longer agrees with its neighbour"
        if found.identity is not None and found.identity < min(
            rules.least_identity, (start.identity or 0.0) - 2.5
        ):
            return "another structure begins"
        if float(found.embedding @ start.embedding) < rules.likeness:
            return "another structure begins"
        return ""

    def voxels(self, steps: Mapping[int, Step]) -> np.ndarray:
        out = np.zeros(self.volume.array.shape, dtype=bool)
        for index, step in steps.items():
            layer = [slice(None)] * 3
            layer[2 - self.axis] = slice(index, index + 1)
            where = tuple(layer)
            out[where] = mask_to_voxels(step.mask, self.cut(self.plane, index), self.volume)[where]
        return out

    def consensus(self, voxels: np.ndarray) -> np.ndarray:
        """Majority of the three directions, the other two prompted by cross-sections of the first."""
        votes = voxels.astype(np.uint8)
        labels = voxels.astype(np.uint8)
        axes = anatomical_axes(self.volume)
        others = [plane for plane in WORLD if plane != self.plane]
        for number, plane in enumerate(others):
            axis = axes[WORLD[plane]][0]
            filled = np.flatnonzero(voxels.any(axis=tuple(a for a in range(3) if a != 2 - axis)))
            for n, index in enumerate(filled.tolist()):
                self.progress(
                    0.9 + 0.1 * (number + n / len(filled)) / len(others),
                    f"{plane} slice {index + 1}",
                )
                cut = self.cut(plane, index)
                own = labels_to_slice(labels, cut, self.volume) > 0
                if not own.any():
                    continue
                request = cut.request(box=_box_of(own))
                logits, _, _ = self.decode(request)
                found = clean_mask((logits > 0) & _grown(own, 2), request)
                layer = [slice(None)] * 3
                layer[2 - axis] = slice(index, index + 1)
                where = tuple(layer)
                votes[where] += mask_to_voxels(found, cut, self.volume)[where]
        return votes >= 2


def _finished(work: _Work, steps, start, voxels, stopped, given, started) -> Propagation:
    from .review.shapes import Shape, measure_shape

    volume, linker = work.volume, work.linker
    weights = np.array([np.sqrt(s.mask.sum()) for s in steps.values()])
    weights /= weights.sum()
    probabilities = np.einsum("n,nk->k", weights, [s.probabilities for s in steps.values()])
    entry = linker.knowledge_base.entries[int(np.argmax(probabilities))]
    sides = np.array([np.exp(s.side - s.side.max()) for s in steps.values()])
    sides = np.einsum("n,nk->k", weights, sides / sides.sum(axis=1, keepdims=True))
    side = side_of(
        entry.laterality,
        np.log(np.maximum(sides, 1e-9)),
        volume.has_position,
        linker.runtime.calibration.side_margin,
    )
    filled = np.argwhere(voxels)
    low, high = filled.min(axis=0), filled.max(axis=0) + 1
    crop = voxels[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    shape = Shape(crop, (int(low[0]), int(low[1]), int(low[2])), len(filled))
    measure_shape(shape, volume)
    return Propagation(
        work.plane,
        start,
        dict(sorted(steps.items())),
        voxels,
        stopped,
        entry.id,
        side,
        float(probabilities.max()),
        len(filled) * abs(float(np.linalg.det(volume.ijk_to_ras[:3, :3]))) / 1000,
        shape.longest_mm,
        shape.perpendicular_mm,
        time.perf_counter() - started,
        dict(given),
    )


def grey_shares(pixels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of each of 64 grey levels among the weighted pixels, smoothed, none of them zero."""
    counts = np.bincount((pixels >> 2).ravel(), weights=weights.ravel(), minlength=64)
    kernel = np.exp(-0.5 * (np.arange(-8, 9) / 2.5) ** 2)
    counts = np.convolve(counts, kernel / kernel.sum(), mode="same")
    return (counts + 0.002 * max(counts.sum(), 1.0)) / (1.128 * max(counts.sum(), 1.0))


def level_that_fills(logits: np.ndarray, request: SliceRequest) -> float:
    """The level between -3 and 3 at which the mask fits its box best (overlap of the two boxes).

    A decoder that draws a little too small or too large would, with each slice prompted by the last
    one's mask, shrink or grow on and on. 0 without a box.
    """
    if request.box is None:
        return 0.0
    best, best_overlap = 0.0, -1.0
    for level in sorted(np.arange(-3.0, 3.01, 0.5), key=abs):
        mask = clean_mask(logits > level, request)
        if not mask.any():
            continue
        overlap = _box_overlap(_box_of(mask), request.box)
        if overlap > best_overlap + 0.01:
            best, best_overlap = float(level), overlap
    return best


def _box_overlap(a: Sequence[float], b: Sequence[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0.0) * max(height, 0.0)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return both / max(sum(areas) - both, 1e-9)


def sharpened(
    logits: np.ndarray,
    pixels: np.ndarray,
    request: SliceRequest,
    weight: float,
    usual: np.ndarray | None = None,
) -> np.ndarray:
    """Mask logits brought to the image's own edges: the decoder's grid is coarser than the slice.

    Expectation maximisation of two grey-level distributions, inside and around the mask, started at
    the decoder's probabilities, which stay the prior. usual: grey shares of the neighbour's mask.
    """
    if weight <= 0:
        return logits
    x0, y0, x1, y1 = _window_of(request, logits)
    part, prior = pixels[y0:y1, x0:x1], logits[y0:y1, x0:x1].astype(np.float64)
    now = prior
    for _ in range(3):
        inside = 1 / (1 + np.exp(-np.clip(now, -20, 20)))
        if inside.sum() < 4:
            return logits
        own = grey_shares(part, inside)
        if usual is not None:
            own = 0.5 * (own + usual)
        around = grey_shares(part, 1 - inside)
        evidence = np.clip(np.log(own / around), -3, 3)[part >> 2]
        now = prior + weight * _smoothed(evidence)
    out = logits.copy()
    out[y0:y1, x0:x1] = now
    return out


def _window_of(request: SliceRequest, logits: np.ndarray) -> tuple[int, int, int, int]:
    """Pixels around the prompt that the region is compared with."""
    if request.box is not None:
        box = request.box
    else:
        box = _box_of(logits > 0) if (logits > 0).any() else (0.0, 0.0, 1.0, 1.0)
    margin = 4 + 0.25 * max(box[2] - box[0], box[3] - box[1])
    height, width = logits.shape
    return (
        int(max(0, box[0] - margin)),
        int(max(0, box[1] - margin)),
        int(min(width, box[2] + margin + 1)),
        int(min(height, box[3] + margin + 1)),
    )


def _smoothed(image: np.ndarray) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.DiscreteGaussian(sitk.GetImageFromArray(image), [0.5, 0.5]))


def _box_of(mask: np.ndarray) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return columns[0] - 0.5, rows[0] - 0.5, columns[-1] + 0.5, rows[-1] + 0.5


def _grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    grown = sitk.BinaryDilate(sitk.GetImageFromArray(mask.astype(np.uint8)), [pixels, pixels])
    return sitk.GetArrayFromImage(grown).astype(bool)


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * int(np.count_nonzero(a & b)) / max(1, int(a.sum()) + int(b.sum()))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
