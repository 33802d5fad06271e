"""`velcrolink evaluate --task propagate` (shared/design/BENCHMARK.md).

Every large structure is carried from its middle axial slice with its gold box, and compared with
the whole label.
"""

from __future__ import annotations

import argparse
import time
from collections import OrderedDict, defaultdict
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...imaging.reading import read_volume
from ...imaging.slice_voxels import labels_to_slice
from ...imaging.slices import anatomical_axes, cut_plane
from ...imaging.volume import Volume
from ...linking.linker import Linker, open_linker
from ...propagation.propagate import Propagation, propagate
from ...review.links import box_of
from ...segmentations.reading import read_segmentation
from ...segmentations.shapes import cut_out
from ..data.benchmark_samples import benchmark_table
from ..data.case_data import image_files, label_files
from ..data.volume_cases import Progress, interval, volume_keys, write_rows
from .case_loop import readable_cases
from .evaluate_linking import peak_memory_mb

LARGE_ML = 2.0
MANY, EVERY = 30, 3  # of a case with more large structures than MANY, every third is measured


def evaluate_propagate(
    args: argparse.Namespace, folder: Path, progress: Progress
) -> dict[str, Any]:
    """Propagate every labelled structure above 2 ml (lesions of any size) from its middle slice."""
    started = time.monotonic()
    linker = open_linker(args.model, args.kb, examples=False)
    lesions = set(benchmark_table()["lesion"])
    keys = volume_keys(args)
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    turn = {key: number for number, key in enumerate(keys)}

    def measured(key: str) -> list[dict[str, Any]]:
        return propagated_case(linker, Path(args.data), key, lesions, turn[key])

    for _, found in readable_cases(keys, measured, progress, problems):
        rows += found
    if not rows:
        raise InputError("No labelled structure to propagate was found.", "; ".join(problems))
    write_rows(folder / "rows.csv", rows)
    groups: dict[str, dict[str, dict[str, Any]]] = {}
    for name, members in _propagation_groups(rows).items():
        dice = [row["dice_3d"] for row in members]
        low, high = interval(dice, [row["case"] for row in members])
        groups[name] = {
            "gold": {
                "n": len(members),
                "dice_3d": round(float(np.mean(dice)), 4),
                "dice_3d_ci": [round(low, 4), round(high, 4)],
                "dice_start": round(float(np.mean([r["dice_start"] for r in members])), 4),
                "seconds": round(float(np.mean([r["seconds"] for r in members])), 2),
            }
        }
    return {
        "task": "propagate",
        "model": linker.runtime.name,
        "kb": linker.knowledge_base.version,
        "cases": len({row["case"] for row in rows}),
        "left_out": problems,
        "sampled": f"every {EVERY}rd structure of cases with more than {MANY}",
        "groups": groups,
        "entities": _by_entity(rows),
        "seconds": {
            "per_structure": round(float(np.mean([row["seconds"] for row in rows])), 2),
            "total": round(time.monotonic() - started, 1),
        },
        "memory_mb": peak_memory_mb(),
    }


MOST_SLICES = 500  # kept encoded, 6 GB: those of a brain in three directions


class Remembering:
    """A runtime that encodes each slice of a volume once for all of its structures. saved: seconds
    that encoding would have taken again, so that times can be told as for a single structure."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self._known: OrderedDict[str, tuple[Any, float]] = OrderedDict()
        self.saved = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def encode(self, model_input: Any) -> Any:
        if model_input.key in self._known:
            self._known.move_to_end(model_input.key)
            encoded, seconds = self._known[model_input.key]
            self.saved += seconds
            return encoded
        start = time.perf_counter()
        encoded = self._runtime.encode(model_input)
        self._known[model_input.key] = encoded, time.perf_counter() - start
        if len(self._known) > MOST_SLICES:
            self._known.popitem(last=False)
        return encoded


def propagated_case(
    linker: Linker, data: Path, key: str, lesions: set[str], turn: int = 0
) -> list[dict[str, Any]]:
    """One row for each structure and channel of a case."""
    rows = []
    for path in image_files(data / key):
        volume = read_volume(path)
        if volume.is_picture or min(volume.array.shape) < 3:
            raise InputError("not a volume")
        segmentation = read_segmentation(label_files(data / key)[0], volume)
        own = copy(linker)
        runtime = Remembering(linker.runtime)
        own.runtime = runtime  # slices of different volumes may share a name
        own._slices = OrderedDict()
        wanted = [
            (segment, shape)
            for segment, shape in zip(segmentation.segments, cut_out(segmentation), strict=True)
            if segment.entry_id is not None
            and (segment.volume_ml >= LARGE_ML or segment.entry_id in lesions)
        ]
        if len(wanted) > MANY:  # another third in every case
            wanted = wanted[turn % EVERY :: EVERY]
        for segment, shape in wanted:
            entity = segment.entry_id
            truth = np.zeros(volume.array.shape, dtype=bool)
            truth[shape.box] = shape.mask
            runtime.saved = 0.0
            found, start = propagated(own, volume, truth)
            if found is None:
                continue
            rows.append(
                {
                    "case": key,
                    "channel": path.name.split(".")[0],
                    "segment": segment.name,
                    "entity": entity,
                    "lesion": entity in lesions,
                    "volume_ml": round(segment.volume_ml, 2),
                    "dice_3d": round(dice(found.voxels, truth), 4),
                    "dice_start": round(start, 4),
                    "slices": len(found.areas),
                    "seconds": round(found.seconds + runtime.saved, 2),
                }
            )
    return rows


def propagated(
    linker: Linker, volume: Volume, truth: np.ndarray
) -> tuple[Propagation | None, float]:
    """(result from the middle filled axial slice with the gold box, Dice on that slice)."""
    axis = anatomical_axes(volume)[2][0]
    filled = np.flatnonzero(truth.any(axis=tuple(a for a in range(3) if a != 2 - axis)))
    index = int(filled[len(filled) // 2])
    cut = cut_plane(volume, "axial", index=index)
    gold = labels_to_slice(truth.astype(np.uint8), cut, volume) > 0
    if not gold.any():
        return None, 0.0
    found = propagate(linker, volume, "axial", index, box=box_of(gold))
    return found, dice(found.steps[index].mask, gold)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Dice overlap of two masks."""
    return 2 * int(np.count_nonzero(a & b)) / max(1, int(a.sum()) + int(b.sum()))


def _propagation_groups(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    large = [row for row in rows if row["volume_ml"] >= LARGE_ML and not row["lesion"]]
    glioma = [row for row in rows if row["lesion"]]
    if large:
        groups["large structures"] = large
    if glioma:
        groups["lesion"] = glioma
        big = [row for row in glioma if row["volume_ml"] >= LARGE_ML]
        if big:
            groups["lesion above 2 ml"] = big
    return groups


def _by_entity(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    parts = defaultdict(list)
    for row in rows:
        parts[row["entity"]].append(row["dice_3d"])
    return {
        entity: {"n": len(values), "dice_3d": round(float(np.mean(values)), 4)}
        for entity, values in sorted(parts.items())
    }
