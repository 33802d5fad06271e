"""Retrieval of similar regions: how much the condition on the place adds (after 2503.07456).

The library holds the cases of the other splits of `--splits`; without a splits file every case asks
all others. A hit has the same entity and the same place: for anatomy its side, for a finding the
side and zone that its expert mask lies in. The query knows nothing but its prompt: its condition is
the place that the model links and measures, never the label's.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..attributes import measure
from ..cases import CaseLibrary, Item, LocationCondition, Query
from ..cases.labelled_folder import Region, answered, sample_item
from ..cases.places import condition_of_link, picture_zone
from ..errors import VelcroError
from ..linker import Linker, open_linker
from ..ranking import side_of
from ..result import LinkedEntry, LinkResult
from .benchmark_samples import Sample
from .region_samples import (
    SliceSamples,
    benchmark_of,
    chosen_samples,
    groups_of,
    interval,
    query_keys,
    spread,
)

STEP_MM = 12.0  # at least, between slices
QUERIES_PER_CASE = 40
LIBRARY_PER_CASE = 60
FIRST = 5
RANKED = 10
Truth = tuple[str, str | None, str]


@dataclass
class Row:
    """One query: case, what it is, and the figures with and without the condition."""

    case: str
    entity: str
    is_picture: bool
    relevant: int
    linked: str
    p5: float = 0.0
    p10: float = 0.0
    ap: float = 0.0
    p5_without: float = 0.0
    p10_without: float = 0.0
    ap_without: float = 0.0


def evaluate_retrieval(args: argparse.Namespace, folder: Path, progress: Any) -> dict[str, Any]:
    """Figures of region-to-region retrieval; writes retrieval.csv."""
    started = time.monotonic()
    data = Path(args.data)
    keys = query_keys(args)
    others = library_keys(args, keys)
    linker = open_linker(args.model, args.kb)
    step = max(float(args.step_mm), STEP_MM)
    problems: list[str] = []
    names = {key: f"case-{n}" for n, key in enumerate(dict.fromkeys([*others, *keys]), start=1)}
    with tempfile.TemporaryDirectory() as place:
        library = CaseLibrary(Path(place) / "library.sqlite3")
        truths: dict[int, Truth] = {}
        for number, key in enumerate(others):
            progress(number, len(others), f"library {key}")
            try:
                found = _regions(linker, data, key, step, LIBRARY_PER_CASE)
            except VelcroError as error:
                problems.append(f"{key}: {error.message}")
                continue
            items = [sample_item(names[key], s, r, linker, False) for s, r in found]
            numbers = library.add_many(items, linker.knowledge_base, batch=max(1, len(items)))
            for identifier, item, (sample, region) in zip(numbers, items, found, strict=True):
                truths[identifier] = truth(sample, region, item, linker)
        rows: list[Row] = []
        for number, key in enumerate(keys):
            progress(number, len(keys), f"query {key}")
            try:
                found = _regions(linker, data, key, step, QUERIES_PER_CASE)
            except VelcroError as error:
                problems.append(f"{key}: {error.message}")
                continue
            rows += [
                row
                for sample, region in found
                if (row := _ask(library, truths, names[key], sample, region, linker)) is not None
            ]
        size = len(library)
        library.close()
    _write_rows(folder / "retrieval.csv", rows)
    return {
        "task": "retrieval",
        "model": linker.runtime.name,
        "kb": linker.knowledge_base.version,
        "cases": len({row.case for row in rows}),
        "library": {"items": size, "cases": len(others)},
        "left_out": problems,
        "groups": figures(rows, linker),
        "seconds": {"total": round(time.monotonic() - started, 1)},
    }


def library_keys(args: argparse.Namespace, keys: list[str]) -> list[str]:
    """Cases of the other splits; without splits, or when there are none, the queries themselves."""
    if args.splits:
        table = json.loads(Path(args.splits).read_text(encoding="utf-8"))
        found = [
            str(key)
            for name, members in table.items()
            if name != args.split and isinstance(members, list)
            for key in members
        ]
        there = [k for k in dict.fromkeys(found) if (Path(args.data) / k).is_dir()]
        if there:
            return spread(there, 4 * args.limit) if args.limit else there
    return keys


def _regions(
    linker: Linker, data: Path, key: str, step: float, most: int
) -> list[tuple[Sample, Region]]:
    found: list[tuple[Sample, Region]] = []
    parts: list[SliceSamples] = chosen_samples(data, key, step, most, linker.knowledge_base)
    for part in parts:
        requests = [part.cut.request(box=sample.loose) for sample in part.samples]
        found += zip(part.samples, answered(linker, requests), strict=True)
    return found


def truth(sample: Sample, region: Region, item: Item, linker: Linker) -> Truth:
    """(entity, side, zone) that a hit must share."""
    entry = linker.knowledge_base.entry(str(sample.label.entity))
    if entry.kind == "anatomy":
        return entry.id, sample.label.side, ""
    return entry.id, item.places[0].side, item.places[0].zone


def linked(region: Region, linker: Linker) -> LinkResult:
    """What the linker would answer for the region."""
    order = np.argsort(-region.probabilities, kind="stable")[:RANKED]
    ranked = [linker.knowledge_base.entries[int(n)] for n in order]
    entry = ranked[0]
    runtime = linker.runtime
    has_position = region.request.pixel_to_ras is not None
    side = side_of(entry.laterality, region.side, has_position, runtime.calibration.side_margin)
    attributes = measure(region.mask, region.request, entry.size_mm)
    zone = picture_zone(region.mask, region.request)
    if zone:
        attributes["picture_zone"] = zone
    entries = tuple(
        LinkedEntry(e.id, e.name, side, float(region.probabilities[n]))
        for e, n in zip(ranked, order, strict=True)
    )
    return LinkResult(region.mask, entries, False, attributes, region.embedding)


def condition_of(region: Region, linker: Linker) -> tuple[LocationCondition, str]:
    """(the condition on the place as linked, entity as linked)."""
    result = linked(region, linker)
    condition = condition_of_link(result, linker.knowledge_base, region.request)
    return condition, result.entries[0].id


def _ask(
    library: CaseLibrary,
    truths: dict[int, Truth],
    case: str,
    sample: Sample,
    region: Region,
    linker: Linker,
) -> Row | None:
    item = sample_item(case, sample, region, linker, False)
    wanted = truth(sample, region, item, linker)
    plain = Query(
        region.embedding,
        model=linker.runtime.fingerprint,
        without_cases=(case,),
        limit=len(truths),
    )
    without = [i for i, _ in library.ranked(plain)]
    relevant = sum(truths[i] == wanted for i in without)
    if not relevant:
        return None
    condition, entity = condition_of(region, linker)
    within = [i for i, _ in library.ranked(replace(plain, location=condition))]
    row = Row(case, str(sample.label.entity), sample.is_picture, relevant, entity)
    row.p5, row.p10, row.ap = precision(within, truths, wanted, relevant)
    row.p5_without, row.p10_without, row.ap_without = precision(without, truths, wanted, relevant)
    return row


def precision(
    ranking: list[int], truths: dict[int, Truth], wanted: Truth, relevant: int
) -> tuple[float, float, float]:
    """(precision at 5, at 10, average precision); a query with fewer relevant items than 5 (10) is
    measured against as many as there are."""
    hits = np.array([truths[i] == wanted for i in ranking], dtype=float)
    at = [float(hits[:k].sum()) / min(k, relevant) for k in (FIRST, 2 * FIRST)]
    ranks = np.flatnonzero(hits) + 1
    ap = float((np.arange(1, len(ranks) + 1) / ranks).sum()) / relevant if len(ranks) else 0.0
    return at[0], at[1], ap


def figures(rows: list[Row], linker: Linker) -> dict[str, dict[str, dict[str, Any]]]:
    """{group: {"roi-roi": figures}}."""
    base = linker.knowledge_base
    bench = benchmark_of(base)
    members: dict[str, list[Row]] = {}
    for row in rows:
        for group in groups_of(bench, base, row.entity, row.is_picture):
            members.setdefault(group, []).append(row)
    return {group: {"roi-roi": _figures(found)} for group, found in sorted(members.items())}


def _figures(rows: list[Row]) -> dict[str, Any]:
    cases = [row.case for row in rows]
    columns = {
        key: np.array([getattr(row, key) for row in rows])
        for key in ("p5", "p10", "ap", "p5_without", "p10_without", "ap_without")
    }

    def mean(key: str) -> float:
        return round(float(columns[key].mean()), 4)

    gain = columns["p5"] - columns["p5_without"]
    return {
        "n": len(rows),
        "cases": len(set(cases)),
        "precision_at_5": mean("p5"),
        "precision_at_5_ci": interval(columns["p5"], cases),
        "precision_at_5_unconditioned": mean("p5_without"),
        "precision_at_5_unconditioned_ci": interval(columns["p5_without"], cases),
        "gain": round(float(gain.mean()), 4),
        "gain_ci": interval(gain, cases),
        "precision_at_10": mean("p10"),
        "precision_at_10_unconditioned": mean("p10_without"),
        "map": mean("ap"),
        "map_unconditioned": mean("ap_without"),
    }


def _write_rows(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        names = list(Row.__dataclass_fields__)
        writer.writerow(names)
        writer.writerows([getattr(row, name) for name in names] for row in rows)
