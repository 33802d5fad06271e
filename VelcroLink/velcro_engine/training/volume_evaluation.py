"""`velcrolink evaluate --task review` and `--task propagate` (shared/design/BENCHMARK.md).

Review: errors are planted into the labels of every 3-D case (`planted_errors.py`, seeded), each
damaged label map is reviewed, and it is counted how many of the wrong segments and how many of the
untouched ones are flagged. Propagate: every large structure is carried from its middle axial slice
with its gold box, and compared with the whole label.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, VelcroError
from ..knowledge_base import active_paths, load_knowledge_base
from ..linker import Linker, open_linker
from ..propagate import Propagation, propagate
from ..reading import read_volume
from ..review import read_segmentation, review_segmentation
from ..review.links import RegionMemory, box_of
from ..review.names import NameReader
from ..review.segmentation import Segmentation
from ..review.shapes import cut_out
from ..slices import anatomical_axes, cut_plane, labels_to_slice
from ..volume import Volume
from .benchmark_samples import benchmark_table
from .case_data import case_keys, image_files, label_files
from .evaluate_linking import peak_memory_mb
from .planted_errors import plant

ERRORS = 200  # planted at least, over all cases; whole rounds over all cases only
SHARE = 0.1  # of a case's segments that are damaged at once, at least one
MOST_ROUNDS = 40
LARGE_ML = 2.0
MANY, EVERY = 30, 3  # of a case with more large structures than MANY, every third is measured
BOOTSTRAPS = 1000
NO_MODEL = "none"  # --model none: by geometry alone
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Judged:
    """One segment of one damaged case. kind: of the error, "untouched", or "changed"."""

    case: str
    round: int
    segment: str
    kind: str
    flagged: bool
    score: float
    findings: str


def evaluate_review(args: argparse.Namespace, folder: Path, progress: Progress) -> dict[str, Any]:
    """Plant, review and count; rows.csv goes into `folder`. Figures with 95 % intervals over cases."""
    started = time.monotonic()
    keys = _keys(args)
    without = getattr(args, "model", None) == NO_MODEL
    linker = None if without else open_linker(args.model, args.kb, examples=False)
    base = (
        load_knowledge_base(args.kb or active_paths()) if linker is None else linker.knowledge_base
    )
    reader = NameReader(base)
    rows: list[Judged] = []
    problems: list[str] = []
    planted = number = 0
    memories: dict[str, RegionMemory] = {}
    seconds: list[float] = []
    usable = list(keys)
    for turn in range(MOST_ROUNDS):
        for key in list(usable):
            progress(min(planted, ERRORS), ERRORS, f"errors planted; {key}")
            try:
                volume, segmentation = _labelled(Path(args.data), key)
            except VelcroError as error:
                problems.append(f"{key}: {error.message}")
                usable.remove(key)
                continue
            meanings = [reader.read(s) for s in segmentation.segments]
            rng = np.random.default_rng([2026, turn, number])
            count = max(1, round(SHARE * len(segmentation.segments)))
            damaged = plant(segmentation, meanings, volume, rng, count, first=planted)
            number += 1
            if not damaged.planted:
                usable.remove(key)
                continue
            review = review_segmentation(
                volume,
                damaged.segmentation,
                base,
                linker,
                pictures=False,
                memory=memories.setdefault(key, RegionMemory()),
            )
            seconds.append(review.seconds["total"])
            rows += _judged(key, turn, damaged, review)
            planted += len(damaged.planted)
        if planted >= ERRORS or not usable:
            break
    if not rows:
        raise InputError("No 3-D case with labels was found.", "; ".join(problems))
    _write(folder / "rows.csv", [vars(row) for row in rows])
    for line in problems:
        print(f"left out: {line}", file=sys.stderr)
    return {
        "task": "review",
        "model": NO_MODEL if linker is None else linker.runtime.name,
        "kb": base.version,
        "cases": len({row.case for row in rows}),
        "left_out": problems,
        "errors_planted": planted,
        "groups": review_figures(rows),
        "seconds": {
            "per_review": round(float(np.mean(seconds)), 2),
            "total": round(time.monotonic() - started, 1),
        },
        "memory_mb": peak_memory_mb(),
    }


def _keys(args: argparse.Namespace) -> list[str]:
    data = Path(args.data)
    keys = case_keys(data, Path(args.splits) if args.splits else None, args.split)
    keys = [key for key in keys if not label_files(data / key)[0].name.endswith(".png")]
    if args.limit:
        keys = keys[: args.limit]
    if not keys:
        raise InputError(f"No labelled 3-D case was found in '{data}'.")
    return keys


def _labelled(data: Path, key: str) -> tuple[Volume, Segmentation]:
    folder = data / key
    volume = read_volume(image_files(folder)[0])
    if volume.is_picture or min(volume.array.shape) < 3:
        raise InputError("not a volume")
    return volume, read_segmentation(label_files(folder)[0], volume)


def _judged(key: str, turn: int, damaged, review) -> list[Judged]:
    kind = {n: error.kind for error in damaged.planted for n in error.segments}
    place = {(s.layer, s.value): n for n, s in enumerate(damaged.segmentation.segments)}
    rows = []
    for row in review.rows:
        n = place[row.segment.layer, row.segment.value]
        told = kind.get(n, "changed" if n in damaged.changed else "untouched")
        findings = " ".join(finding.text for finding in row.judgement.findings)
        score = round(float(row.judgement.score), 3)
        rows.append(Judged(key, turn, row.segment.name, told, row.flagged, score, findings))
    return rows


def review_figures(rows: Sequence[Judged]) -> dict[str, dict[str, dict[str, Any]]]:
    """{group: {"planted": {...}}} for all cases, for each data set and for each kind of error."""
    groups: dict[str, list[Judged]] = {"all": list(rows)}
    for row in rows:
        groups.setdefault(row.case.split("/")[0], []).append(row)
    out: dict[str, dict[str, dict[str, Any]]] = {}
    for name, members in groups.items():
        wrong = [r for r in members if r.kind not in ("untouched", "changed")]
        right = [r for r in members if r.kind == "untouched"]
        figures: dict[str, Any] = {"n": len(wrong), "untouched": len(right)}
        figures |= _rate("flagged", wrong) | _rate("false_flagged", right)
        out[name] = {"planted": figures}
    for kind in sorted({r.kind for r in rows} - {"untouched", "changed"}):
        own = [r for r in rows if r.kind == kind]
        out[f"kind {kind}"] = {"planted": {"n": len(own)} | _rate("flagged", own)}
    return out


def _rate(name: str, rows: Sequence[Judged]) -> dict[str, Any]:
    if not rows:
        return {name: None, f"{name}_ci": None}
    values = [float(r.flagged) for r in rows]
    low, high = interval(values, [r.case for r in rows])
    return {name: round(float(np.mean(values)), 4), f"{name}_ci": [round(low, 4), round(high, 4)]}


def interval(values: Sequence[float], cases: Sequence[str], seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean when whole cases are drawn with replacement."""
    names, index = np.unique(list(cases), return_inverse=True)
    sums = np.bincount(index, weights=np.asarray(values, dtype=float))
    counts = np.bincount(index).astype(float)
    picks = np.random.default_rng(seed).integers(len(names), size=(BOOTSTRAPS, len(names)))
    means = sums[picks].sum(axis=1) / counts[picks].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def evaluate_propagate(
    args: argparse.Namespace, folder: Path, progress: Progress
) -> dict[str, Any]:
    """Propagate every labelled structure above 2 ml (lesions of any size) from its middle slice."""
    started = time.monotonic()
    linker = open_linker(args.model, args.kb, examples=False)
    lesions = set(benchmark_table()["lesion"])
    keys = _keys(args)
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for number, key in enumerate(keys):
        progress(number, len(keys), key)
        try:
            rows += propagated_case(linker, Path(args.data), key, lesions, number)
        except VelcroError as error:
            problems.append(f"{key}: {error.message}")
    if not rows:
        raise InputError("No labelled structure to propagate was found.", "; ".join(problems))
    _write(folder / "rows.csv", rows)
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


class _Remembering:
    """A runtime that encodes each slice of a volume once for all of its structures. saved: seconds
    that encoding would have taken again, so that times can be told as for a single structure."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self._known: dict[str, tuple[Any, float]] = {}
        self.saved = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def encode(self, model_input: Any) -> Any:
        if model_input.key in self._known:
            encoded, seconds = self._known[model_input.key]
            self.saved += seconds
            return encoded
        start = time.perf_counter()
        encoded = self._runtime.encode(model_input)
        self._known[model_input.key] = encoded, time.perf_counter() - start
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
        runtime = _Remembering(linker.runtime)
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
                    "slices": len(found.steps),
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


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
