"""Finding reports of the same finding in the same place, with and without a location condition.

A query is a report of the file and a location that its human codes name; the gallery is all other
coded reports; a hit has a human code of the same finding at the same location (place and side).
Unconditioned, reports are ranked by the similarity of their whole texts. Conditioned, by that of
what they say at the location (ALC-ITR); reports that say nothing of it follow, by their whole texts.
Both use the same embedding; what a report says where is read from its text, never from its codes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...reports.language.mesh_codes import Code, read_codes
from ...reports.language.regions import Location, locations, report_regions
from ...reports.language.report_file import read_report_file
from ...reports.meta_entities import read_report
from ...reports.text_embedding import embed_text as embed_words

Embed = Callable[[Sequence[str]], np.ndarray]
BOOTSTRAP = 1000


@dataclass(frozen=True)
class RankedReports:
    """(precision@5, precision@10, average precision) of each query without and with the condition,
    Q x 3 each, the report each query comes from, the number of reports, and seconds of embedding."""

    plain: np.ndarray
    conditioned: np.ndarray
    owners: np.ndarray
    reports: int
    seconds: float


def evaluate_report_retrieval(
    path: Path | str, embed_text: Embed | None = None, limit: int | None = None
) -> dict[str, Any]:
    """Precision@5, @10 and mAP, text to text, with and without the location condition.

    `embed_text` gives unit rows N x D for N strings (the bundled hashed embedding if left out).
    Queries without any hit in the gallery are left out. Intervals: 95 % bootstrap over query
    reports. Raises InputError for a file with too few coded reports.
    """
    start = time.perf_counter()
    ranked = ranked_reports(path, embed_text or embed_words, limit)
    text = _figures(ranked.plain, ranked.conditioned, ranked.owners)
    return {
        "task": "report-retrieval",
        "model": "hashed concepts" if embed_text is None else "text tower",
        "cases": ranked.reports,
        "groups": {"reports": {"text": text}},
        "entities": {},
        "seconds": {
            "embedding": round(ranked.seconds, 3),
            "total": round(time.perf_counter() - start, 3),
        },
    }


def ranked_reports(path: Path | str, embed: Embed, limit: int | None = None) -> RankedReports:
    """Every query of `evaluate_report_retrieval`, measured."""
    rows = read_report_file(path, ("MeSH",))[:limit]
    coded = [(row, codes[0]) for row in rows if (codes := read_codes(row["MeSH"])) is not None]
    if len(coded) < 2:
        raise InputError(f"'{path}' holds fewer than two reports with MeSH codes; add more.")
    start = time.perf_counter()
    truth = [code_locations(codes) for _, codes in coded]
    whole = embed([f"{row['findings']} {row['impression']}" for row, _ in coded])
    regions = [report_regions(read_report(row["findings"], row["impression"])) for row, _ in coded]
    local = embed_regions(regions, embed)
    embedded = time.perf_counter() - start

    plain, conditioned, owners = [], [], []
    for query, spots in enumerate(truth):
        similarity = whole @ whole[query]
        for spot in sorted(spots):
            hits = np.array([bool(spots[spot] & other.get(spot, set())) for other in truth])
            hits[query] = False
            if not hits.any():
                continue
            others = np.arange(len(coded)) != query
            narrowed = conditioned_similarity(similarity, spot, query, local)
            plain.append(ranking_figures(similarity[others], hits[others]))
            conditioned.append(ranking_figures(narrowed[others], hits[others]))
            owners.append(query)
    if not plain:
        raise InputError(f"No two reports of '{path}' share a finding and a place; add more.")
    return RankedReports(
        np.array(plain), np.array(conditioned), np.array(owners), len(coded), embedded
    )


def code_locations(codes: Sequence[Code]) -> dict[Location, set[str]]:
    """{location: findings there} of a report's human codes."""
    found: dict[Location, set[str]] = {}
    for code in codes:
        for spot in locations(code.finding, code.places, code.sides):
            found.setdefault(spot, set()).add(code.finding)
    return found


def embed_regions(
    regions: Sequence[dict[Location, str]], embed: Embed
) -> dict[Location, tuple[np.ndarray, np.ndarray]]:
    """{location: (numbers of the reports that speak of it, their embeddings there)}."""
    spots = [(spot, number) for number, own in enumerate(regions) for spot in own]
    if not spots:
        return {}
    distinct = {text: 0 for own in regions for text in own.values()}
    for index, text in enumerate(distinct):
        distinct[text] = index
    vectors = embed(list(distinct))
    found: dict[Location, tuple[list[int], list[int]]] = {}
    for spot, number in spots:
        numbers, positions = found.setdefault(spot, ([], []))
        numbers.append(number)
        positions.append(distinct[regions[number][spot]])
    return {spot: (np.array(a), vectors[b]) for spot, (a, b) in found.items()}


def conditioned_similarity(
    similarity: np.ndarray,
    spot: Location,
    query: int,
    local: dict[Location, tuple[np.ndarray, np.ndarray]],
) -> np.ndarray:
    """Similarity of all reports to the query at a location; where one of the two says nothing of
    it, that of the whole texts, below all that do."""
    if spot not in local:
        return similarity
    numbers, vectors = local[spot]
    own = np.flatnonzero(numbers == query)
    if not len(own):  # told by the coder alone: reports that speak of the place come first
        narrowed = similarity - 2.0
        narrowed[numbers] += 2.0
        return narrowed
    narrowed = similarity - 2.0
    # whole texts decide between reports that say the same of the place
    narrowed[numbers] = vectors @ vectors[own[0]] + 0.05 * similarity[numbers]
    return narrowed


def ranking_figures(scores: np.ndarray, hits: np.ndarray) -> tuple[float, float, float]:
    """(precision@5, precision@10, average precision) of one query; ties in order of the file."""
    order = np.argsort(-scores, kind="stable")
    ranked = hits[order]
    positions = np.flatnonzero(ranked) + 1
    average = float(np.mean(np.arange(1, len(positions) + 1) / positions))
    return float(ranked[:5].mean()), float(ranked[:10].mean()), average


def _figures(plain: np.ndarray, conditioned: np.ndarray, owners: np.ndarray) -> dict[str, Any]:
    names = ("precision_at_5", "precision_at_10", "map")
    reports = np.unique(owners)
    rows = [np.flatnonzero(owners == report) for report in reports]
    rng = np.random.default_rng(0)
    draws = [
        np.concatenate([rows[i] for i in rng.integers(0, len(rows), len(rows))])
        for _ in range(BOOTSTRAP)
    ]
    found: dict[str, Any] = {"n": len(plain), "query_reports": len(reports)}
    for column, name in enumerate(names):
        for suffix, table in (("", conditioned), ("_unconditioned", plain)):
            values = table[:, column]
            found[name + suffix] = round(float(values.mean()), 4)
            found[f"{name}{suffix}_ci"] = _interval([values[draw].mean() for draw in draws])
    gain = conditioned[:, 0] - plain[:, 0]
    found["precision_at_5_gain"] = round(float(gain.mean()), 4)
    found["precision_at_5_gain_ci"] = _interval([gain[draw].mean() for draw in draws])
    return found


def _interval(values: Sequence[float]) -> list[float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return [round(float(low), 4), round(float(high), 4)]
