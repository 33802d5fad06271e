"""Regions of expert segmentations as library items: folders laid out as DATASET/CASE/image.* +
labels.*, with DATASET/labels.json. Reading them needs the training extras (scipy)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...cases.adding import Added, item_of_link
from ...cases.record import CaseStore, Item
from ...errors import InputError, VelcroError
from ...head.frame import with_head
from ...linking.attributes import measure
from ...linking.linker import Linker
from ...linking.ranking import entry_probabilities
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

if TYPE_CHECKING:
    from .benchmark_samples import Sample

BATCH = 16
STEP_MM = 12.0


@dataclass(frozen=True)
class Region:
    """One prompt answered by the model: what `Linker.link` answers, for many prompts at once.

    mask: bool H x W, as predicted. embedding: D. probabilities: over the knowledge base. side: three
    logits.
    """

    request: SliceRequest
    mask: np.ndarray
    embedding: np.ndarray
    probabilities: np.ndarray
    side: np.ndarray


def answered(linker: Linker, requests: Sequence[SliceRequest]) -> list[Region]:
    """Regions of one slice's requests, in their order; each window is encoded once."""
    runtime = linker.runtime
    windows: dict[str, list[tuple[int, Letterbox]]] = {}
    for number, request in enumerate(requests):
        box = letterbox_of(request, runtime.size)
        windows.setdefault(input_key(request, box), []).append((number, box))
    found: list[Region | None] = [None] * len(requests)
    for members in windows.values():
        encoded = runtime.encode(model_input(requests[members[0][0]], runtime.size, members[0][1]))
        for start in range(0, len(members), BATCH):
            part = members[start : start + BATCH]
            arrays = [prompt_arrays(requests[number], box) for number, box in part]
            masks, _, vectors, sides = runtime.decode_many(
                encoded,
                np.concatenate([points for points, _ in arrays]),
                np.concatenate([labels for _, labels in arrays]),
            )
            probabilities, _ = entry_probabilities(
                vectors, linker.embeddings, runtime.nothing, runtime.calibration.temperature
            )
            for n, (number, box) in enumerate(part):
                request = requests[number]
                logits = mask_to_slice(masks[n], box, request.pixels.shape)
                mask = region_mask(logits, request)
                found[number] = Region(request, mask, vectors[n], probabilities[n], sides[n])
    return [region for region in found if region is not None]


def sample_item(
    case: str, sample: Sample, region: Region, linker: Linker, with_picture: bool = True
) -> Item:
    """The expert's region as an item: their mask, entry and side, with the model's embedding."""
    from ...messages.result import LinkResult

    known = linker.knowledge_base.entry(str(sample.label.entity))
    result = LinkResult(
        mask=sample.mask,
        entries=(),
        abstained=False,
        attributes=measure(sample.mask, region.request, known.size_mm),
        embedding=region.embedding,
    )
    return item_of_link(
        case,
        region.request,
        result,
        linker.runtime,
        linker.knowledge_base,
        known.id,
        sample.label.side,
        with_picture=with_picture,
    )


def case_items(
    linker: Linker, data: Path, key: str, case: str, step_mm: float = STEP_MM, pictures: bool = True
) -> Iterator[Item]:
    """Items of every labelled region of one case, on slices `step_mm` apart in three directions."""
    from .benchmark_samples import case_slices

    slices = case_slices(
        data, key, step_mm, prepared=lambda volume: with_head(volume, linker.runtime)
    )
    for _, cut, samples in slices:
        known = [s for s in samples if s.label.entity in linker.knowledge_base.by_id]
        requests = [cut.request(box=sample.gold) for sample in known]
        for sample, region in zip(known, answered(linker, requests), strict=True):
            yield sample_item(case, sample, region, linker, pictures)


def add_folder(
    store: CaseStore,
    data: Path,
    linker: Linker,
    prefix: str = "case",
    step_mm: float = STEP_MM,
    keys: Sequence[str] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Added:
    """Add every labelled case of a folder. Cases are numbered PREFIX-1, ...; names of folders are
    not kept. Cases that cannot be read are left out and told. Raises InputError for no cases."""
    from .case_data import case_keys

    found = list(case_keys(data, None, None) if keys is None else keys)
    if not found:
        raise InputError(
            f"No labelled case was found in '{data}'; expected DATASET/labels.json and "
            "DATASET/CASE/image.* + labels.*."
        )
    added = Added()
    for number, key in enumerate(found, start=1):
        if progress:
            progress(number - 1, len(found), key)
        try:
            items = list(case_items(linker, data, key, f"{prefix}-{number}", step_mm))
        except VelcroError as error:
            added.left_out.append(f"{key}: {error.message}")
            continue
        added.items += len(set(store.add_many(items, linker.knowledge_base)))
        added.cases += bool(items)
    return added
