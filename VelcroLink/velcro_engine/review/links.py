"""Every segment linked on several slices of the three directions, and the votes combined.

A slice is encoded once for all segments on it, their prompts are decoded in batches, and what was
decoded for a slice and a box is kept in `RegionMemory`, so that a second review of the same image
asks the model only about what has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..head.frame import with_head
from ..imaging.slice_voxels import labels_to_slice
from ..imaging.slices import Slice, anatomical_axes, cut_picture, cut_plane
from ..imaging.volume import Volume
from ..linking.linker import Linker
from ..linking.ranking import entry_probabilities, side_of
from ..linking.region_mask import region_mask
from ..messages.request import SliceRequest
from ..model.preprocess import (
    Letterbox,
    input_key,
    letterbox_of,
    mask_to_slice,
    model_input,
    prompt_arrays,
)
from ..segmentations.shapes import PLANE_OF_WORLD, Shape
from ..segmentations.stored import Segmentation

PER_DIRECTION = 3  # the largest slice and two evenly spaced ones
MANY_SEGMENTS = 250  # from here on one slice less in each direction
LARGEST = 0.92  # of the largest area: such a slice may stand for the largest one
LEAST_SHARE = 0.2  # of the largest area: smaller slices say little
BATCH = 16
CONCENTRATED = 0.5  # share of a slice's mask that its largest piece must have to stand alone
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Look:
    """One slice on which a segment is linked. index: layer along the volume's axis of the plane."""

    plane: str | None
    index: int
    area: int
    largest: bool


@dataclass(frozen=True)
class SliceLink:
    """Answer of the model on one slice. at_mm: RAS coordinate along the normal. dice: of the model's
    mask with the segment. confidence: of entry_id."""

    plane: str | None
    index: int
    at_mm: float | None
    entry_id: str
    confidence: float
    dice: float
    largest: bool


@dataclass(frozen=True)
class Picture:
    """One slice to show: the request and both masks on it."""

    request: SliceRequest
    segment: np.ndarray
    model: np.ndarray


@dataclass
class Votes:
    """All answers for one segment. probabilities: mean over slices, over the knowledge base."""

    slices: list[SliceLink] = field(default_factory=list)
    probabilities: np.ndarray | None = None
    nothing: float = 0.0
    side: np.ndarray | None = None
    dice: float | None = None
    picture: Picture | None = None


@dataclass(frozen=True)
class _Asked:
    segment: int
    look: Look
    request: SliceRequest
    mask: np.ndarray
    box: Letterbox


@dataclass(frozen=True)
class _Answer:
    probabilities: np.ndarray
    nothing: float
    side: np.ndarray
    mask: np.ndarray


class RegionMemory(dict):
    """Answers by (slice and window, box), for repeated reviews of one image with one model.
    told: the image with its head found."""

    told: Volume | None = None


def choose_looks(shape: Shape, volume: Volume, per_direction: int) -> list[Look]:
    """The slices of a segment: in each direction the largest and evenly spaced others.

    Layers are preferred whose number is divisible by a high power of two, so that the segments of a
    volume share slices and fewer have to be encoded.
    """
    if not shape.voxels:
        return []
    if volume.is_picture:
        return [Look(None, 0, shape.voxels, True)]
    axes = anatomical_axes(volume)
    looks = []
    for world, plane in enumerate(PLANE_OF_WORLD):
        axis = axes[world][0]
        if np.delete(volume.shape_ijk, axis).min() < 2:
            continue
        areas = np.count_nonzero(np.moveaxis(shape.mask, 2 - axis, 0), axis=(1, 2))
        start = int(shape.start[2 - axis])
        top = int(areas.max())
        chosen = [_roundest(np.flatnonzero(areas >= LARGEST * top), start)]
        good = np.flatnonzero(areas >= max(LEAST_SHARE * top, 1))
        for part in range(1, per_direction):
            where = good[0] + (good[-1] - good[0]) * part / per_direction
            reach = max(1.0, (good[-1] - good[0]) / (3 * per_direction))
            near = good[np.abs(good - where) <= reach]
            if len(near):
                chosen.append(_roundest(near, start))
        for n in dict.fromkeys(chosen):
            looks.append(Look(plane, int(n) + start, int(areas[n]), n == chosen[0]))
    return looks


def _roundest(candidates: np.ndarray, start: int) -> int:
    """The layer whose number is divisible by the highest power of two, the middle one of equals."""
    numbers = candidates + start
    power = np.where(numbers > 0, numbers & -numbers, 1 << 30)
    best = candidates[power == power.max()]
    return int(best[len(best) // 2])


def link_segments(
    linker: Linker,
    volume: Volume,
    segmentation: Segmentation,
    shapes: Sequence[Shape],
    progress: Progress = lambda fraction, message: None,
    single_piece: Sequence[bool] = (),
    pictures: bool = True,
    memory: RegionMemory | None = None,
) -> list[Votes]:
    """Link every segment on its slices. single_piece: segments of which, on each slice, only the
    largest piece is asked about (findings that lie scattered). progress may raise Cancelled."""
    volume = _with_head(volume, linker, progress, memory)
    per_direction = PER_DIRECTION if len(shapes) <= MANY_SEGMENTS else PER_DIRECTION - 1
    wanted: dict[tuple[str | None, int], list[tuple[int, Look]]] = {}
    for number, shape in enumerate(shapes):
        for look in choose_looks(shape, volume, per_direction):
            wanted.setdefault((look.plane, look.index), []).append((number, look))
    votes = [Votes() for _ in shapes]
    sums: list[list[tuple[float, _Answer]]] = [[] for _ in shapes]
    dices: list[list[tuple[float, float]]] = [[] for _ in shapes]
    for done, ((plane, index), members) in enumerate(sorted(wanted.items(), key=str)):
        fraction, message = done / len(wanted), f"linking slice {done + 1} of {len(wanted)}"
        check = partial(progress, fraction, message)
        check()
        cut = cut_picture(volume) if plane is None else cut_plane(volume, plane, index=index)
        asked = _questions(linker, cut, volume, segmentation, members, single_piece)
        for question, answer in _answers(linker, asked, {} if memory is None else memory, check):
            weight = float(np.sqrt(question.mask.sum()))
            sums[question.segment].append((weight, answer))
            both = int(np.count_nonzero(answer.mask & question.mask))
            dice = 2 * both / max(1, int(answer.mask.sum()) + int(question.mask.sum()))
            dices[question.segment].append((weight, dice))
            own = votes[question.segment]
            best = int(np.argmax(answer.probabilities))
            own.slices.append(
                SliceLink(
                    plane,
                    index,
                    _level(cut, plane),
                    linker.knowledge_base.entries[best].id,
                    round(float(answer.probabilities[best]), 4),
                    round(dice, 4),
                    question.look.largest,
                )
            )
            if pictures and _better_picture(own.picture, question):
                own.picture = Picture(question.request, question.mask, answer.mask)
    for own, answers, values in zip(votes, sums, dices, strict=True):
        if answers:
            _combine(own, answers, values)
    progress(1.0, "slices linked")
    return votes


def _better_picture(picture: Picture | None, question: _Asked) -> bool:
    """Axial slices are what a reader looks at first; among them the one with most of the segment."""
    if picture is None:
        return True
    old, new = picture.request.plane == "axial", question.request.plane == "axial"
    return (new, question.mask.sum()) > (old, picture.segment.sum())


def _combine(
    own: Votes, answers: list[tuple[float, _Answer]], dices: list[tuple[float, float]]
) -> None:
    weights = np.array([weight for weight, _ in answers])
    weights /= weights.sum()
    own.probabilities = np.einsum("n,nk->k", weights, [a.probabilities for _, a in answers])
    own.nothing = float(weights @ [a.nothing for _, a in answers])
    own.side = np.einsum("n,nk->k", weights, [a.side for _, a in answers])
    own.dice = float(weights @ [dice for _, dice in dices])


def _level(cut: Slice, plane: str | None) -> float | None:
    """RAS coordinate (mm) of the slice's middle along its anatomical axis."""
    if plane is None or not cut.has_position:
        return None
    height, width = cut.pixels.shape
    middle = cut.pixel_to_ras @ [(width - 1) / 2, (height - 1) / 2, 0, 1]
    return round(float(middle[PLANE_OF_WORLD.index(plane)]), 2)


def _with_head(
    volume: Volume, linker: Linker, progress: Progress, memory: RegionMemory | None
) -> Volume:
    """The volume, told how its head lies; looked for once when regions are remembered."""
    if memory is not None and memory.told is not None:
        return memory.told
    told = with_head(volume, linker.runtime, lambda: progress(0.0, "looking how the head lies"))
    if memory is not None:
        memory.told = told
    return told


def _questions(
    linker: Linker,
    cut: Slice,
    volume: Volume,
    segmentation: Segmentation,
    members: list[tuple[int, Look]],
    single_piece: Sequence[bool],
) -> list[_Asked]:
    on_slice: dict[int, np.ndarray] = {}
    asked = []
    for number, look in members:
        segment = segmentation.segments[number]
        if segment.layer not in on_slice:
            layer = segmentation.layers[segment.layer]
            on_slice[segment.layer] = labels_to_slice(layer, cut, volume)
        mask = on_slice[segment.layer] == segment.value
        if not mask.any():
            continue
        if len(single_piece) and single_piece[number]:
            mask = largest_piece(mask)
        request = cut.request(box=box_of(mask))
        asked.append(
            _Asked(number, look, request, mask, letterbox_of(request, linker.runtime.size))
        )
    return asked


def box_of(mask: np.ndarray) -> tuple[float, float, float, float]:
    """XYXY around the edges of a mask's pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return columns[0] - 0.5, rows[0] - 0.5, columns[-1] + 0.5, rows[-1] + 0.5


def largest_piece(mask: np.ndarray) -> np.ndarray:
    """The largest connected piece of a mask (bool, H x W)."""
    labelled = sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), True)
    pieces = sitk.GetArrayFromImage(labelled)
    area = np.bincount(pieces.ravel())
    area[0] = 0
    return pieces == int(np.argmax(area))


def _answers(linker: Linker, asked: list[_Asked], memory: dict, check: Callable[[], None]):
    """(question, answer) for all questions on one slice; windows that agree share an encoding.

    check is called before every batch and may raise Cancelled."""
    windows: dict[str, list[_Asked]] = {}
    for question in asked:
        windows.setdefault(input_key(question.request, question.box), []).append(question)
    for key, group in windows.items():
        new = [q for q in group if (key, q.request.box) not in memory]
        if new:
            runtime = linker.runtime
            encoded = runtime.encode(model_input(new[0].request, runtime.size, new[0].box))
            for start in range(0, len(new), BATCH):
                check()
                part = new[start : start + BATCH]
                for question, answer in zip(part, decode(linker, encoded, part), strict=True):
                    memory[key, question.request.box] = answer
        for question in group:
            yield question, memory[key, question.request.box]


def decode(linker: Linker, encoded: Any, part: Sequence[_Asked]) -> list[_Answer]:
    """Decode several prompts on one encoded slice."""
    arrays = [prompt_arrays(q.request, q.box) for q in part]
    runtime: Any = linker.runtime
    if hasattr(runtime, "decode_many"):
        points = np.concatenate([points for points, _ in arrays])
        labels = np.concatenate([labels for _, labels in arrays])
        masks, _, regions, sides = runtime.decode_many(encoded, points, labels)
    else:
        decoded = [runtime.decode(encoded, *pair) for pair in arrays]
        masks = [d.mask for d in decoded]
        regions = np.stack([d.embedding for d in decoded])
        sides = np.stack([d.side for d in decoded])
    probabilities, nothing = entry_probabilities(
        regions, linker.embeddings, runtime.nothing, runtime.calibration.temperature
    )
    answers = []
    for n, question in enumerate(part):
        logits = mask_to_slice(masks[n], question.box, question.request.pixels.shape)
        weights = np.exp(sides[n] - np.max(sides[n]))
        answers.append(
            _Answer(
                probabilities[n].astype(np.float32),
                float(nothing[n]),
                weights / weights.sum(),
                region_mask(logits, question.request),
            )
        )
    return answers


def linked_side(linker: Linker, votes: Votes, laterality: str, has_position: bool) -> str | None:
    """Side by vote, told under the same rules as for a single slice."""
    if votes.side is None:
        return None
    logits = np.log(np.maximum(votes.side, 1e-9))
    return side_of(laterality, logits, has_position, linker.runtime.calibration.side_margin)
