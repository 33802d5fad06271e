"""Labelled regions for measuring retrieval and grounding: a fixed, even choice from each case."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...imaging.slices import Slice
from ...knowledge_base import KnowledgeBase
from ..data.benchmark_samples import Sample, case_slices
from ..data.case_data import case_keys
from .link_figures import BOOTSTRAPS, Benchmark, Sampled

SEED = 7


@dataclass(frozen=True)
class SliceSamples:
    """One slice and labelled regions on it."""

    cut: Slice
    samples: list[Sample]


def chosen_samples(
    data: Path, key: str, step_mm: float, most: int, base: KnowledgeBase
) -> list[SliceSamples]:
    """At most `most` regions of a case, taken in turn from its labels and planes, in a seeded
    order; only entities that the knowledge base has."""
    slices = [SliceSamples(cut, samples) for _, cut, samples in case_slices(data, key, step_mm)]
    rng = np.random.default_rng(zlib.crc32(f"{key}|{SEED}".encode()))
    turns: dict[tuple[int, str | None], list[tuple[int, int]]] = {}
    for s, found in enumerate(slices):
        for n, sample in enumerate(found.samples):
            if sample.label.entity in base.by_id:
                turns.setdefault((sample.value, sample.plane), []).append((s, n))
    for members in turns.values():
        rng.shuffle(members)
    order = [members[turn] for turn in range(most) for members in turns.values()
             if turn < len(members)]  # fmt: skip
    kept: dict[int, list[Sample]] = {}
    for s, n in order[:most]:
        kept.setdefault(int(s), []).append(slices[int(s)].samples[int(n)])
    return [SliceSamples(slices[s].cut, kept[s]) for s in sorted(kept)]


def query_keys(args: Any) -> list[str]:
    """Cases to measure. Raises InputError when there is none."""
    data = Path(args.data)
    keys = case_keys(data, Path(args.splits) if args.splits else None, args.split)
    if args.limit:
        keys = spread(keys, args.limit)
    if not keys:
        raise InputError(
            f"No labelled case was found in '{data}'; expected DATASET/labels.json and "
            "DATASET/CASE/image.* + labels.*."
        )
    return keys


def spread(keys: list[str], count: int) -> list[str]:
    """The first `count` keys when taken in turn from each data set, in their old order."""
    seen: dict[str, int] = {}
    turn = {}
    for number, key in enumerate(keys):
        folder = key.split("/")[0]
        turn[key] = (seen.get(folder, 0), number)
        seen[folder] = turn[key][0] + 1
    chosen = set(sorted(keys, key=lambda key: turn[key])[:count])
    return [key for key in keys if key in chosen]


def interval(values: np.ndarray, cases: list[str]) -> list[float]:
    """95 % bootstrap interval of the mean over whole cases."""
    _, index = np.unique(cases, return_inverse=True)
    sums = np.bincount(index, weights=values)
    counts = np.bincount(index).astype(float)
    picks = np.random.default_rng(0).integers(len(sums), size=(BOOTSTRAPS, len(sums)))
    means = sums[picks].sum(1) / counts[picks].sum(1)
    return [round(float(v), 4) for v in np.percentile(means, [2.5, 97.5])]


def groups_of(bench: Benchmark, base: KnowledgeBase, entity: str, is_picture: bool) -> list[str]:
    """ "all", "anatomy" or "finding", and the groups of the linking benchmark."""
    kind = "anatomy" if base.by_id[entity].kind == "anatomy" else "finding"
    found = bench.groups(Sampled(entity, is_picture))
    return ["all", kind, *found]


def benchmark_of(base: KnowledgeBase) -> Benchmark:
    """The benchmark's groups over a knowledge base."""
    return Benchmark({e.id: set(base.ancestors(e.id)) for e in base.entries})
