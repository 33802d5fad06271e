"""The benchmark's mapping: human MeSH codes of a report -> (finding, side, qualifier).

The table (`data/mesh_findings.csv`, `data/mesh_qualifiers.csv`) was made from the training reports
only. Of the rows of a heading the first whose required qualifiers are all there is taken; required
and implied qualifiers say nothing beyond the finding and are left out. A place that exists on one
side only (the lingula, the middle lobe) says the side where the code does not.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

FOLDER = Path(__file__).parent / "data"
NO_FINDING, NOT_INDEXED, NOT_A_FINDING = "no_finding", "not_indexed", "not_a_finding"
SIDE_PLACE = ("side", "place")


@dataclass(frozen=True)
class Code:
    """One human code. `sides`, `places` and `qualifiers` may be empty."""

    finding: str
    sides: frozenset[str]
    places: frozenset[str]
    qualifiers: frozenset[str]


@lru_cache(maxsize=1)
def _tables() -> tuple[dict[str, list[dict[str, str]]], dict[str, tuple[str, str, str]]]:
    by_heading: dict[str, list[dict[str, str]]] = {}
    with open(FOLDER / "mesh_findings.csv", encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            by_heading.setdefault(row["heading"].strip().lower(), []).append(row)
    with open(FOLDER / "mesh_qualifiers.csv", encoding="utf-8", newline="") as stream:
        qualifiers = {
            row["qualifier"].lower(): (row["family"], row["value"], row["side"])
            for row in csv.DictReader(stream)
        }
    return by_heading, qualifiers


def read_codes(text: str) -> tuple[list[Code], list[str]] | None:
    """(codes, headings the table does not know) of a MeSH cell; None for a report left uncoded.

    An unknown heading gives a code of its own, "mesh HEADING", which no reading meets. A report coded "normal" has no codes.
    """
    by_heading, table = _tables()
    codes, unknown = [], []
    for part in text.split(";"):
        heading, *given = (" ".join(word.lower().split()) for word in part.split("/"))
        if not heading:
            continue
        for row in by_heading.get(heading, ()):
            required = [q.lower() for q in row["requires"].split("|") if q]
            if all(q in given for q in required):
                break
        else:
            unknown.append(heading)
            empty: frozenset[str] = frozenset()
            codes.append(Code(f"mesh {heading}", empty, empty, empty))
            continue
        finding = row["finding"]
        if finding == NOT_INDEXED:
            return None
        if finding in (NO_FINDING, NOT_A_FINDING):
            continue
        silent = {*required, *(q.lower() for q in row["implied"].split("|"))}
        values = [table[q] for q in given if q in table and q not in silent]
        codes.append(
            Code(
                finding,
                frozenset(v for family, v, _ in values if family == "side")
                or frozenset(side for _, _, side in values if side),
                frozenset(v for family, v, _ in values if family == "place"),
                frozenset(f"{family}/{v}" for family, v, _ in values if family not in SIDE_PLACE),
            )
        )
    return (codes, unknown) if codes or unknown or text.strip() else None


@lru_cache(maxsize=256)
def implied_values(finding: str) -> frozenset[str]:
    """Attribute values that the table leaves out of codes of `finding`, in OBER's spelling."""
    by_heading, table = _tables()
    silent = set()
    for rows in by_heading.values():
        for row in rows:
            if row["finding"] == finding:
                names = f"{row['requires']}|{row['implied']}".lower().split("|")
                silent |= {_value(table[name]) for name in names if name in table}
    return frozenset(silent)


def _value(entry: tuple[str, str, str]) -> str:
    family, value, _ = entry
    return value if family in SIDE_PLACE else f"{family}/{value}"
