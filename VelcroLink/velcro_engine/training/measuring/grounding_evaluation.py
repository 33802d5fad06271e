"""Grounding: does a phrase find its region, and does the phrase of what is not there find nothing?

Present phrases: entities labelled on the slice, by name, with the side where the label has one and
the image has a position. Absent phrases, as many: half from the same label table but on no label of
this slice ("near"), half from other tables and another body region ("far"); nothing that is a kind
or part of a labelled entity, or that one is a kind or part of, counts as absent.
"""

from __future__ import annotations

import argparse
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...finding.grounding import PRESENT_ABOVE, Grounding, ground, view_slice
from ...finding.phrases import read_phrase
from ...knowledge_base import KnowledgeBase
from ...knowledge_base.search import SearchIndex
from ...linking.linker import Linker, open_linker
from ..data.benchmark_samples import Sample, case_slices, interior_point
from ..data.case_data import read_labels
from .case_loop import check_measured, readable_cases, write_dataclass_rows
from .region_samples import SEED, benchmark_of, groups_of, interval, query_keys

STEP_MM = 16.0  # at least, between slices
PHRASES_PER_CASE = 24


@dataclass
class Row:
    """One phrase on one slice. kind: "present", "near" or "far". iou, pointing: of present ones."""

    case: str
    phrase: str
    entity: str
    is_picture: bool
    kind: str
    score: float
    found: bool
    pointing: float = 0.0
    pointing_any: float = 0.0
    iou: float = 0.0
    seconds: float = 0.0


def measured_phrases(
    linker: Linker, args: argparse.Namespace, keys: list[str], progress: Any, problems: list[str]
) -> list[Row]:
    """Present and absent phrases of cases, each looked for; cases that cannot be read go into
    `problems`. Raises InputError when none can."""
    index = SearchIndex(linker.knowledge_base)
    tables = _tables(Path(args.data), keys)
    rows: list[Row] = []

    def measured(key: str) -> list[Row]:
        return _case_rows(linker, index, args, key, tables)

    for _, found in readable_cases(keys, measured, progress, problems):
        rows += found
    check_measured(rows, problems)
    return rows


def evaluate_grounding(args: argparse.Namespace, folder: Path, progress: Any) -> dict[str, Any]:
    """Figures of grounding; writes grounding.csv."""
    started = time.monotonic()
    linker = open_linker(args.model, args.kb, examples=False)
    problems: list[str] = []
    rows = measured_phrases(linker, args, query_keys(args), progress, problems)
    write_dataclass_rows(folder / "grounding.csv", Row, rows)
    return {
        "task": "grounding",
        "model": linker.runtime.name,
        "kb": linker.knowledge_base.version,
        "cases": len({row.case for row in rows}),
        "left_out": problems,
        "present_above": {
            "others": PRESENT_ABOVE,
            **getattr(linker.runtime, "present_above", {}),
        },
        "groups": figures(rows, linker.knowledge_base),
        "seconds": {
            "per_phrase": round(sum(r.seconds for r in rows) / max(1, len(rows)), 3),
            "total": round(time.monotonic() - started, 1),
        },
    }


def _tables(data: Path, keys: list[str]) -> dict[str, set[str]]:
    """{data set: entities of its label table}, of every data set beside the measured ones too."""
    del keys
    found = {}
    for folder in sorted(data.iterdir()):
        if (folder / "labels.json").is_file():
            labels = read_labels(folder).values()
            found[folder.name] = {label.entity for label in labels if label.entity is not None}
    return found


def _case_rows(
    linker: Linker, index: SearchIndex, args: argparse.Namespace, key: str, tables: dict
) -> list[Row]:
    base = linker.knowledge_base
    rng = np.random.default_rng(zlib.crc32(f"{key}|{SEED}".encode()))
    step = max(float(args.step_mm), STEP_MM)
    slices = [(cut, samples) for _, cut, samples in case_slices(Path(args.data), key, step)]
    rng.shuffle(slices)
    rows: list[Row] = []
    each = max(2, PHRASES_PER_CASE // max(1, len(slices)))
    for cut, samples in slices:
        if len(rows) >= PHRASES_PER_CASE:
            break
        asked = _present(samples, base, cut.has_position)
        rng.shuffle(asked)
        asked = asked[: max(1, each // 2)]
        entities = {str(s.label.entity) for s in samples}
        table = tables.get(key.split("/")[0], entities)
        absent = [
            ("near", _one(rng, _unrelated(table - entities, entities, base))),
            ("far", _one(rng, _far(tables, table, entities, base))),
        ][: len(asked) + 1]
        view = view_slice(linker, cut.request(points=[(0.0, 0.0, 1)]))
        for entity, text, mask in asked:
            before = time.perf_counter()
            found = ground(linker, view, read_phrase(text, base, index))
            row = Row(key, text, entity, samples[0].is_picture, "present", found.score,
                      found.present, seconds=time.perf_counter() - before)  # fmt: skip
            _score(row, found, mask)
            rows.append(row)
        for kind, entity_or_none in absent:
            if entity_or_none is None:
                continue
            text = phrase_of(entity_or_none, None, base)
            before = time.perf_counter()
            found = ground(linker, view, read_phrase(text, base, index))
            rows.append(
                Row(key, text, entity_or_none, samples[0].is_picture, kind, found.score,
                    found.present, seconds=time.perf_counter() - before)
            )  # fmt: skip
    return rows


def _present(
    samples: list[Sample], base: KnowledgeBase, has_position: bool
) -> list[tuple[str, str, np.ndarray]]:
    """(entity, phrase, mask of all its labels) of what is labelled on a slice."""
    masks: dict[tuple[str, str | None], np.ndarray] = {}
    for sample in samples:
        entity = str(sample.label.entity)
        if entity not in base.by_id:
            continue
        key = (entity, sample.label.side if has_position else None)
        masks[key] = masks[key] | sample.mask if key in masks else sample.mask
    return [(e, phrase_of(e, side, base), mask) for (e, side), mask in masks.items()]


def phrase_of(entity: str, side: str | None, base: KnowledgeBase) -> str:
    """As a user types it: "left hippocampus"."""
    name = base.entry(entity).name.lower()
    return f"{side} {name}" if side else name


def _related(a: str, b: str, base: KnowledgeBase) -> bool:
    return a == b or a in base.ancestors(b) or b in base.ancestors(a)


def _unrelated(candidates: set[str], entities: set[str], base: KnowledgeBase) -> list[str]:
    return sorted(
        c
        for c in candidates
        if c in base.by_id and not any(_related(c, e, base) for e in entities if e in base.by_id)
    )


def _far(
    tables: dict[str, set[str]], table: set[str], entities: set[str], base: KnowledgeBase
) -> list[str]:
    regions = {base.by_id[e].region for e in table | entities if e in base.by_id}
    others = set().union(*tables.values()) - table if tables else set()
    return [c for c in _unrelated(others, entities, base) if base.by_id[c].region not in regions]


def _one(rng: np.random.Generator, candidates: list[str]) -> str | None:
    return candidates[int(rng.integers(len(candidates)))] if candidates else None


def _score(row: Row, found: Grounding, mask: np.ndarray) -> None:
    if not found.regions:
        return
    x, y = interior_point(found.regions[0].mask)
    row.pointing_any = float(mask[int(y), int(x)])
    if found.present:
        row.pointing = row.pointing_any
        union = np.any([region.mask for region in found.regions], axis=0)
        row.iou = float((union & mask).sum() / (union | mask).sum())


def figures(rows: list[Row], base: KnowledgeBase) -> dict[str, dict[str, dict[str, Any]]]:
    """{group: {"phrase": figures}}; pointing and IoU count a phrase that was not found as a miss."""
    bench = benchmark_of(base)
    members: dict[str, list[Row]] = {}
    for row in rows:
        for group in groups_of(bench, base, row.entity, row.is_picture):
            members.setdefault(group, []).append(row)
    return {group: {"phrase": _figures(found)} for group, found in sorted(members.items())}


def _figures(rows: list[Row]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    present = [row for row in rows if row.kind == "present"]
    if present:
        cases = [row.case for row in present]
        pointing = np.array([row.pointing for row in present])
        iou = np.array([row.iou for row in present])
        found |= {
            "n": len(present),
            "cases": len(set(cases)),
            "pointing": round(float(pointing.mean()), 4),
            "pointing_ci": interval(pointing, cases),
            "pointing_any_score": round(float(np.mean([r.pointing_any for r in present])), 4),
            "miou": round(float(iou.mean()), 4),
            "miou_ci": interval(iou, cases),
        }
    absent = [row for row in rows if row.kind != "present"]
    if absent:
        rejected = np.array([float(not row.found) for row in absent])
        found |= {
            "absent_n": len(absent),
            "absent_rejected": round(float(rejected.mean()), 4),
            "absent_rejected_ci": interval(rejected, [row.case for row in absent]),
        }
        for kind in ("near", "far"):
            those = [float(not row.found) for row in absent if row.kind == kind]
            if those:
                found[f"absent_rejected_{kind}"] = round(float(np.mean(those)), 4)
    return found
