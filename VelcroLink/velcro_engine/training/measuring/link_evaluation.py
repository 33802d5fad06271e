"""Linking measured as shared/design/BENCHMARK.md says: every sample linked over the whole KB.

VELCRO and the baselines answer through the same loop, so they see the same slices and prompts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...errors import InputError, VelcroError
from ...head.frame import with_head
from ...imaging.slices import Slice
from ...imaging.volume import Volume
from ...knowledge_base import KnowledgeBase
from ...linking.linker import Linker
from ...linking.ranking import entry_probabilities, right_of_middle, side_of
from ...linking.region_mask import region_mask
from ...messages.request import SliceRequest
from ...model.preprocess import (
    Letterbox,
    input_key,
    letterbox_of,
    mask_to_slice,
    model_input,
    prompt_arrays,
)
from ..data.benchmark_samples import PROMPTS, Sample, case_slices

TOP = 5
BATCH = 16


@dataclass(frozen=True)
class Row:
    """One sample linked with one kind of prompt. `ranked`: entity ids, best first. `dice` is NaN
    where a baseline draws no mask."""

    case: str
    channel: str
    plane: str | None
    position_mm: float
    entity: str
    side: str | None
    is_picture: bool
    prompt: str
    ranked: tuple[str, ...]
    answered_side: str | None
    confidence: float
    nothing: float
    dice: float
    seconds: float


@dataclass(frozen=True)
class Answers:
    """Answers to N prompts on one slice.

    probability: N x K over the knowledge base. nothing: N, of no entry. sides: N x 3 logits.
    masks: N x m x m logits over the square input, or None. regions: N x D, or None.
    """

    probability: np.ndarray
    nothing: np.ndarray
    sides: np.ndarray
    masks: np.ndarray | None = None
    regions: np.ndarray | None = None


class Answerer(Protocol):
    """What is measured: a linker, or a baseline."""

    knowledge_base: KnowledgeBase
    size: int
    side_margin: float

    def prepared(self, volume: Volume) -> Volume:
        """The volume before it is cut into slices."""

    def encode(self, request: SliceRequest, box: Letterbox) -> Any:
        """Whatever `answer` needs of the slice in the window `box`."""

    def answer(self, encoded: Any, requests: Sequence[SliceRequest], box: Letterbox) -> Answers:
        """Answers to prompts on that slice."""


class LinkerAnswers:
    """A linker as `Answerer`."""

    def __init__(self, linker: Linker) -> None:
        self.linker = linker
        self.knowledge_base = linker.knowledge_base
        self.size = linker.runtime.size
        self.side_margin = linker.runtime.calibration.side_margin

    def prepared(self, volume: Volume) -> Volume:
        return with_head(volume, self.linker.runtime)

    def encode(self, request: SliceRequest, box: Letterbox) -> Any:
        return self.linker.runtime.encode(model_input(request, self.size, box))

    def answer(self, encoded: Any, requests: Sequence[SliceRequest], box: Letterbox) -> Answers:
        runtime = self.linker.runtime
        masks, _, regions, sides = runtime.decode_many(encoded, *stacked_prompts(requests, box))
        probability, nothing = entry_probabilities(
            regions, self.linker.embeddings, runtime.nothing, runtime.calibration.temperature
        )
        heeded = [
            self.linker.clicks.heed(encoded, request, box, p, m)
            for request, p, m in zip(requests, probability, masks, strict=True)
        ]
        probability, masks = (np.stack(parts) for parts in zip(*heeded, strict=True))
        return Answers(probability, nothing, sides, masks, regions)


def stacked_prompts(
    requests: Sequence[SliceRequest], box: Letterbox
) -> tuple[np.ndarray, np.ndarray]:
    """points N x 8 x 2 (input pixels) and labels N x 8 of several requests on one slice."""
    arrays = [prompt_arrays(request, box) for request in requests]
    return np.concatenate([a for a, _ in arrays]), np.concatenate([b for _, b in arrays])


def request_of(cut: Slice, sample: Sample, prompt: str) -> SliceRequest:
    """The question of a sample: gold box, loose box or point."""
    if prompt == "point":
        return cut.request(points=[(*sample.point, 1)])
    return cut.request(box=sample.gold if prompt == "gold" else sample.loose)


Asked = tuple[Sample, str, SliceRequest]


def windows_of(asked: Sequence[Asked], size: int) -> list[tuple[Letterbox, list[Asked]]]:
    """Questions about one slice grouped by the window that the network sees of it."""
    windows: dict[str, tuple[Letterbox, list[Asked]]] = {}
    for question in asked:
        box = letterbox_of(question[2], size)
        windows.setdefault(input_key(question[2], box), (box, []))[1].append(question)
    return list(windows.values())


def evaluate_case(
    answerer: Answerer,
    data: Path,
    key: str,
    step_mm: float,
    prompts: tuple[str, ...] = PROMPTS,
    skull: bool = False,
) -> list[Row]:
    """All rows of one case. `skull`: stripped brains get an artificial one first."""
    rows: list[Row] = []
    for _, cut, samples in case_slices(data, key, step_mm, skull, answerer.prepared):
        asked = [(s, p, request_of(cut, s, p)) for s in samples for p in prompts]
        for box, group in windows_of(asked, answerer.size):
            started = time.perf_counter()
            encoded = answerer.encode(group[0][2], box)
            for start in range(0, len(group), BATCH):
                part = group[start : start + BATCH]
                answers = answerer.answer(encoded, [request for _, _, request in part], box)
                seconds = (time.perf_counter() - started) / len(part)
                rows += [
                    _row(answerer, answers, n, *question, box, seconds)
                    for n, question in enumerate(part)
                ]
                started = time.perf_counter()
    return rows


def _row(
    answerer: Answerer,
    answers: Answers,
    n: int,
    sample: Sample,
    prompt: str,
    request: SliceRequest,
    box: Letterbox,
    seconds: float,
) -> Row:
    entries = answerer.knowledge_base.entries
    order = np.argsort(-answers.probability[n], kind="stable")[:TOP]
    best = entries[int(order[0])]
    has_position = request.pixel_to_ras is not None
    dice, right_mm = float("nan"), None
    if answers.masks is not None:
        logits = mask_to_slice(answers.masks[n], box, request.pixels.shape)
        mask = region_mask(logits, request)
        meet = float((mask & sample.mask).sum())
        dice = 2 * meet / max(1.0, float(mask.sum() + sample.mask.sum()))
        right_mm = right_of_middle(mask, request)
    sides = answers.sides[n]
    side = side_of(best.laterality, sides, has_position, answerer.side_margin, right_mm)
    return Row(
        sample.case,
        sample.channel,
        sample.plane,
        sample.position_mm,
        str(sample.label.entity),
        sample.label.side,
        sample.is_picture,
        prompt,
        tuple(entries[int(i)].id for i in order),
        side,
        float(answers.probability[n, order[0]]),
        float(answers.nothing[n]),
        dice,
        seconds,
    )


def evaluate_cases(
    linker: Linker,
    data: Path,
    keys: list[str],
    step_mm: float = 4.0,
    prompts: tuple[str, ...] = PROMPTS,
    progress: Callable[[int, int, str], None] = lambda done, total, key: None,
    skull: bool = False,
) -> tuple[list[Row], list[str]]:
    """Rows of all cases, and one line for each case that could not be read."""
    return measure_cases(LinkerAnswers(linker), data, keys, step_mm, prompts, progress, skull)


def measure_cases(
    answerer: Answerer,
    data: Path,
    keys: list[str],
    step_mm: float = 4.0,
    prompts: tuple[str, ...] = PROMPTS,
    progress: Callable[[int, int, str], None] = lambda done, total, key: None,
    skull: bool = False,
) -> tuple[list[Row], list[str]]:
    """`evaluate_cases` for anything that answers.

    Raises InputError when no case holds a sample.
    """
    rows: list[Row] = []
    problems: list[str] = []
    for number, key in enumerate(keys):
        progress(number, len(keys), key)
        try:
            rows += evaluate_case(answerer, data, key, step_mm, prompts, skull)
        except VelcroError as error:
            problems.append(f"{key}: {error.message}")
    if not rows:
        raise InputError(
            "No labelled region to measure was found.", "; ".join(problems) or "no cases"
        )
    return rows, problems
