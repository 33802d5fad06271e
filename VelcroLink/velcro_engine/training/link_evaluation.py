"""Linking measured as shared/design/BENCHMARK.md says: every sample linked over the whole KB."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError, VelcroError
from ..linker import Linker, clean_mask
from ..model.preprocess import Letterbox, input_key, letterbox_of, mask_to_slice, model_input
from ..model.preprocess import prompt_arrays
from ..ranking import entry_probabilities, side_of
from ..request import SliceRequest
from ..slices import Slice
from .benchmark_samples import PROMPTS, Sample, case_slices

TOP = 5
BATCH = 16


@dataclass(frozen=True)
class Row:
    """One sample linked with one kind of prompt. `ranked`: entity ids, best first."""

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


def request_of(cut: Slice, sample: Sample, prompt: str) -> SliceRequest:
    """The question of a sample: gold box, loose box or point."""
    if prompt == "point":
        return cut.request(points=[(*sample.point, 1)])
    return cut.request(box=sample.gold if prompt == "gold" else sample.loose)


def evaluate_case(
    linker: Linker, data: Path, key: str, step_mm: float, prompts: tuple[str, ...] = PROMPTS
) -> list[Row]:
    """All rows of one case."""
    rows: list[Row] = []
    for _, cut, samples in case_slices(data, key, step_mm):
        asked = [(s, p, request_of(cut, s, p)) for s in samples for p in prompts]
        windows: dict[str, list[tuple[Sample, str, SliceRequest, Letterbox]]] = {}
        for sample, prompt, request in asked:
            box = letterbox_of(request, linker.runtime.size)
            windows.setdefault(input_key(request, box), []).append((sample, prompt, request, box))
        for group in windows.values():
            started = time.perf_counter()
            encoded = linker.runtime.encode(model_input(group[0][2], linker.runtime.size, group[0][3]))
            for start in range(0, len(group), BATCH):
                part = group[start : start + BATCH]
                rows += _link_batch(linker, encoded, part, time.perf_counter() - started)
                started = time.perf_counter()
    return rows


def _link_batch(linker: Linker, encoded, part, encode_seconds: float) -> list[Row]:
    started = time.perf_counter()
    arrays = [prompt_arrays(request, box) for _, _, request, box in part]
    points = np.concatenate([a for a, _ in arrays])
    labels = np.concatenate([b for _, b in arrays])
    masks, _, regions, sides = linker.runtime.decode_many(encoded, points, labels)
    probability, nothing = entry_probabilities(
        regions,
        linker.embeddings,
        getattr(linker.runtime, "nothing", None),
        linker.runtime.calibration.temperature,
    )
    seconds = (encode_seconds + time.perf_counter() - started) / len(part)
    entries = linker.knowledge_base.entries
    rows = []
    for n, (sample, prompt, request, box) in enumerate(part):
        order = np.argsort(-probability[n], kind="stable")[:TOP]
        best = entries[int(order[0])]
        logits = mask_to_slice(masks[n], box, request.pixels.shape)
        mask = clean_mask(logits > 0, request)
        meet = float((mask & sample.mask).sum())
        rows.append(
            Row(
                sample.case,
                sample.channel,
                sample.plane,
                sample.position_mm,
                str(sample.label.entity),
                sample.label.side,
                sample.is_picture,
                prompt,
                tuple(entries[int(i)].id for i in order),
                side_of(
                    best.laterality,
                    sides[n],
                    request.pixel_to_ras is not None,
                    linker.runtime.calibration.side_margin,
                ),
                float(probability[n, order[0]]),
                float(nothing[n]),
                2 * meet / max(1.0, float(mask.sum() + sample.mask.sum())),
                seconds,
            )
        )
    return rows


def evaluate_cases(
    linker: Linker,
    data: Path,
    keys: list[str],
    step_mm: float = 4.0,
    prompts: tuple[str, ...] = PROMPTS,
    progress: Callable[[int, int, str], None] = lambda done, total, key: None,
) -> tuple[list[Row], list[str]]:
    """Rows of all cases, and one line for each case that could not be read."""
    rows: list[Row] = []
    problems: list[str] = []
    for number, key in enumerate(keys):
        progress(number, len(keys), key)
        try:
            rows += evaluate_case(linker, data, key, step_mm, prompts)
        except VelcroError as error:
            problems.append(f"{key}: {error.message}")
    if not rows:
        raise InputError(
            "No labelled region to measure was found.", "; ".join(problems) or "no cases"
        )
    return rows, problems
