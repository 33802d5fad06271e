"""A review as CSV and JSON, and as the header of a worker's answer."""

from __future__ import annotations

import csv
import io
from typing import Any

from .rows import Row
from .run import Review

COLUMNS = (
    "flagged", "score", "name", "terminology", "own_entry", "own_side", "linked", "linked_side",
    "confidence", "agreement", "dice", "volume_ml", "longest_diameter_mm", "perpendicular_mm",
    "components", "holes", "missing_slices", "side_lies", "side_contradiction_mm", "overlaps",
    "findings",
)  # fmt: skip


def row_document(row: Row) -> dict[str, Any]:
    """One row as a JSON-able dict; centre in RAS mm, where a click jumps to."""
    first = row.linked[0] if row.linked else None
    return {
        "id": row.segment.identifier,
        "name": row.segment.name,
        "terminology": [f"{c.scheme}:{c.value} {c.meaning}".strip() for c in row.segment.codes],
        "own_entry": row.meaning.entry_id,
        "own_name": row.own_name,
        "own_side": row.meaning.side,
        "matched_by": row.meaning.how,
        "linked": [{"id": i, "name": n, "confidence": c} for i, n, c in row.linked],
        "linked_side": row.linked_side,
        "confidence": None if first is None else first[2],
        "abstained": row.abstained,
        "agreement": row.agreement,
        "dice": row.dice,
        "voxels": row.voxels,
        "volume_ml": round(row.segment.volume_ml, 4),
        "longest_diameter_mm": row.longest_mm,
        "perpendicular_mm": row.perpendicular_mm,
        "components": row.components,
        "holes": row.holes,
        "missing_slices": list(row.gaps),
        "side_lies": row.side_lies,
        "side_contradiction_mm": row.side_mm,
        "overlaps": [{"name": n, "share": round(s, 4)} for n, s in row.overlaps],
        "centre": None if row.centre is None else list(row.centre),
        "slices": [vars(link) for link in row.slices],
        "flagged": row.flagged,
        "score": round(row.judgement.score, 3),
        "findings": [vars(finding) for finding in row.judgement.findings],
    }


def review_document(review: Review) -> dict[str, Any]:
    """The whole review as a JSON-able dict."""
    return {
        "volume": review.volume,
        "segmentation": review.segmentation,
        "model": review.model,
        "kb": review.knowledge_base,
        "notices": list(review.notices),
        "flagged": sum(row.flagged for row in review.rows),
        "seconds": {key: round(value, 2) for key, value in review.seconds.items()},
        "rows": [row_document(row) for row in review.rows],
    }


def review_csv(review: Review) -> str:
    """One line per segment, those that need a look first. Text that a spreadsheet would take for a
    formula is marked as text."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in review.rows:
        document = row_document(row)
        document["linked"] = document["linked"][0]["name"] if document["linked"] else ""
        document["overlaps"] = "; ".join(f"{n} {100 * s:.0f} %" for n, s in row.overlaps)
        document["findings"] = " ".join(f.text for f in row.judgement.findings)
        document["missing_slices"] = " ".join(row.gaps)
        document["terminology"] = "; ".join(document["terminology"])
        writer.writerow([_plain(document[column]) for column in COLUMNS])
    return out.getvalue()


def _plain(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t"):
        return "'" + value
    return value
