"""Retrieval in four directions: how much the condition on the place adds (after 2503.07456).

Regions and texts ask, regions and texts are found (RoI->RoI, RoI->text, text->RoI, text->text). No
report belongs to these images: the text of a region is a phrase with its entry and place, in one of
the entry's names, another one from case to case (`region_phrases.py`).

The library holds the cases of the other splits of `--splits`; without a splits file every case asks
all others. A hit has the same entity and the same place: for anatomy its side, for a finding the
side and zone that its expert mask lies in. A region that asks knows nothing but its prompt: its
condition is the place that the model links and measures, never the label's. A text's condition is the
place it names, which for anatomy is nearly the answer: there only the figures without say what the
text embedding does.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...cases import CaseLibrary, Item, LocationCondition, Query
from ...cases.places import condition_of_link, picture_zone
from ...linking.attributes import measure
from ...linking.linker import Linker, open_linker
from ...linking.ranking import side_of
from ...messages.result import LinkedEntry, LinkResult
from ..data.benchmark_samples import Sample
from ..data.labelled_folder import Region, answered, sample_item
from ..data.region_phrases import RegionPhrases, Truth
from .case_loop import check_measured, readable_cases, write_dataclass_rows
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
DIRECTIONS = ("roi-roi", "roi-text", "text-roi", "text-text")


@dataclass
class Row:
    """One query: case, what it is, and the figures with and without the condition. linked: the
    entity as the model links it; of a text, as it is named."""

    case: str
    entity: str
    is_picture: bool
    relevant: int
    linked: str
    direction: str = "roi-roi"
    p5: float = 0.0
    p10: float = 0.0
    ap: float = 0.0
    p5_without: float = 0.0
    p10_without: float = 0.0
    ap_without: float = 0.0


def evaluate_retrieval(args: argparse.Namespace, folder: Path, progress: Any) -> dict[str, Any]:
    """Figures of retrieval in all directions; writes retrieval.csv."""
    started = time.monotonic()
    data = Path(args.data)
    keys = query_keys(args)
    others = library_keys(args, keys)
    linker = open_linker(args.model, args.kb, examples=False)
    step = max(float(args.step_mm), STEP_MM)
    problems: list[str] = []
    names = {key: f"case-{n}" for n, key in enumerate(dict.fromkeys([*others, *keys]), start=1)}
    with tempfile.TemporaryDirectory() as place:
        library = CaseLibrary(Path(place) / "library.sqlite3")
        truths: dict[int, Truth] = {}
        phrases = RegionPhrases(linker)

        def kept(key: str) -> list[tuple[Sample, Region]]:
            return _regions(linker, data, key, step, LIBRARY_PER_CASE)

        for key, found in readable_cases(others, kept, progress, problems, "library "):
            items = [sample_item(names[key], s, r, linker, False) for s, r in found]
            numbers = library.add_many(items, linker.knowledge_base, batch=max(1, len(items)))
            said: dict[Truth, Item] = {}
            for identifier, item, (sample, _) in zip(numbers, items, found, strict=True):
                truths[identifier] = truth(sample, item, linker)
                said.setdefault(truths[identifier], item)
            texts = phrases.items(names[key], said)
            numbers = library.add_many(texts, linker.knowledge_base, batch=max(1, len(texts)))
            truths |= zip(numbers, said, strict=True)
        rows: list[Row] = []

        def queries(key: str) -> list[tuple[Sample, Region]]:
            return _regions(linker, data, key, step, QUERIES_PER_CASE)

        for key, found in readable_cases(keys, queries, progress, problems, "query "):
            asked: dict[Truth, tuple[Sample, Item]] = {}
            for sample, region in found:
                item = sample_item(names[key], sample, region, linker, False)
                wanted = truth(sample, item, linker)
                asked.setdefault(wanted, (sample, item))
                condition, entity = condition_of(region, linker)
                query = _query(region.embedding, names[key], linker, len(truths))
                rows += _ask(library, truths, sample, wanted, query, condition, entity, "roi")
            for wanted, (sample, item) in asked.items():
                query = _query(phrases.vector(names[key], item), names[key], linker, len(truths))
                condition = phrases.condition(item)
                rows += _ask(library, truths, sample, wanted, query, condition, wanted[0], "text")
        size = len(library)
        library.close()
    check_measured(rows, problems)
    write_dataclass_rows(folder / "retrieval.csv", Row, rows)
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


def truth(sample: Sample, item: Item, linker: Linker) -> Truth:
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


def _query(vector: np.ndarray, case: str, linker: Linker, limit: int) -> Query:
    model = linker.runtime.fingerprint
    return Query(vector, model=model, without_cases=(case,), limit=limit)


def _ask(
    library: CaseLibrary,
    truths: dict[int, Truth],
    sample: Sample,
    wanted: Truth,
    query: Query,
    condition: LocationCondition,
    entity: str,
    by: str,
) -> list[Row]:
    """Rows of one query, for what it finds among regions and among texts."""
    rows = []
    for kind in ("roi", "text"):
        plain = replace(query, kind=kind)
        without = [i for i, _ in library.ranked(plain)]
        relevant = sum(truths[i] == wanted for i in without)
        if not relevant:
            continue
        within = [i for i, _ in library.ranked(replace(plain, location=condition))]
        case, named = query.without_cases[0], str(sample.label.entity)
        row = Row(case, named, sample.is_picture, relevant, entity, f"{by}-{kind}")
        row.p5, row.p10, row.ap = precision(within, truths, wanted, relevant)
        row.p5_without, row.p10_without, row.ap_without = precision(
            without, truths, wanted, relevant
        )
        rows.append(row)
    return rows


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
    """{group: {direction: figures}}."""
    base = linker.knowledge_base
    bench = benchmark_of(base)
    members: dict[str, dict[str, list[Row]]] = {}
    for row in sorted(rows, key=lambda row: DIRECTIONS.index(row.direction)):
        for group in groups_of(bench, base, row.entity, row.is_picture):
            members.setdefault(group, {}).setdefault(row.direction, []).append(row)
    return {
        group: {direction: _figures(asked) for direction, asked in found.items()}
        for group, found in sorted(members.items())
    }


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
