"""`velcrolink evaluate --task ober | report-retrieval`: reports against their human MeSH codes.

OBER: micro-averaged precision, recall and F1 over reports of three kinds of tuples:
(finding); (finding, side), a bilateral finding being one on the left and one on the right; and
(finding, qualifier), qualifiers being all other words of a code: place, size, severity, extent,
shape, time. A finding without a side (qualifier) gives one tuple (finding, none); the figures
"..._stated_f1" leave these out. Reports coded "normal" count through what is wrongly found in them;
reports left unindexed do not count. The mapping table is `reports/language/data/mesh_*.csv`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...errors import InputError
from ...reports.language.coder import CodedFinding, coded_findings, load_habits
from ...reports.language.mesh_codes import implied_values, read_codes
from ...reports.language.ontology import load_ontology
from ...reports.language.published import read_report_published
from ...reports.language.report_file import read_report_file
from ...reports.meta_entities import read_report
from .report_retrieval import evaluate_report_retrieval

BASELINES = ("published", "uncoded")
BOOTSTRAP = 1000
NONE = "none"
KINDS = ("finding", "finding_side", "finding_qualifier")
STATED = ("finding_side_stated", "finding_qualifier_stated")


class Attributed(Protocol):
    """A code or a read finding."""

    @property
    def finding(self) -> str: ...
    @property
    def sides(self) -> frozenset[str]: ...
    @property
    def places(self) -> frozenset[str]: ...
    @property
    def qualifiers(self) -> frozenset[str]: ...


@dataclass
class Tally:
    """Counts of right, predicted and reference tuples."""

    right: int = 0
    predicted: int = 0
    reference: int = 0

    def add(self, reference: set, predicted: set) -> None:
        """Count one report."""
        self.right += len(reference & predicted)
        self.predicted += len(predicted)
        self.reference += len(reference)

    @property
    def precision(self) -> float:
        return self.right / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        return self.right / self.reference if self.reference else 0.0

    @property
    def f1(self) -> float:
        total = self.predicted + self.reference
        return 2 * self.right / total if total else 0.0


def tuples_of(items: Iterable[Attributed]) -> dict[str, set[tuple[str, str]]]:
    """The tuples of each kind of a report's codes or findings."""
    sides: dict[str, set[str]] = {}
    qualifiers: dict[str, set[str]] = {}
    for item in items:
        given = sides.setdefault(item.finding, set())
        for side in item.sides:
            given |= {"left", "right"} if side == "bilateral" else {side}
        qualifiers.setdefault(item.finding, set()).update(item.places, item.qualifiers)
    found = {
        "finding": {(finding, "") for finding in sides},
        "finding_side": _paired(sides),
        "finding_qualifier": _paired(qualifiers),
    }
    for kind in ("finding_side", "finding_qualifier"):
        found[f"{kind}_stated"] = {pair for pair in found[kind] if pair[1] != NONE}
    return found


def _paired(values: dict[str, set[str]]) -> set[tuple[str, str]]:
    return {(finding, value) for finding, given in values.items() for value in given or {NONE}}


def read_published(findings: str, impression: str) -> list[CodedFinding]:
    """The published rules on a report. Only attributes that a code of the finding could carry are
    kept, so that words of the vocabulary which MeSH lacks do not count against them."""
    values = load_habits()["values"]
    read = []
    for mention in read_report_published(findings, impression, load_ontology()):
        silent = implied_values(mention.finding)
        read.append(
            CodedFinding(
                mention.finding,
                frozenset(mention.sides),
                frozenset((mention.places & values) - silent),
                frozenset((mention.qualifiers & values) - silent),
                1.0,
            )
        )
    return read


def read_uncoded(findings: str, impression: str) -> list[CodedFinding]:
    """OBER without the coder's habits: every finding that the text does not deny."""
    values = load_habits()["values"]
    return [
        CodedFinding(
            finding,
            frozenset(given["sides"]),
            frozenset(given["places"]) & values - implied_values(finding),
            frozenset(given["qualifiers"]) & values - implied_values(finding),
            1.0,
        )
        for finding, given in read_report(findings, impression).summary.items()
    ]


def read_ours(findings: str, impression: str) -> list[CodedFinding]:
    """OBER and the coder's habits on a report."""
    return coded_findings(read_report(findings, impression))


READERS: dict[str | None, Callable[[str, str], list[CodedFinding]]] = {
    None: read_ours,
    "published": read_published,
    "uncoded": read_uncoded,
}


def evaluate_ober(
    path: Path | str, baseline: str | None = None, limit: int | None = None
) -> dict[str, Any]:
    """Figures of OBER on a CSV of reports with MeSH codes.

    `baseline`: "published", the published rules with our vocabulary; "uncoded", our rules without
    the habits of coders, which shows what these add.

    Columns as in `reports_indiana`. Raises InputError for a file without reports that carry codes.
    """
    if baseline not in (None, *BASELINES):
        raise InputError(
            f"There is no baseline '{baseline}' for ober; use {' or '.join(BASELINES)}."
        )
    read = READERS[baseline]
    rows = read_report_file(path, ("MeSH",))[:limit]
    coded = [(row, codes) for row in rows if (codes := read_codes(row["MeSH"])) is not None]
    if not coded:
        raise InputError(f"'{path}' holds no report with MeSH codes; check the column MeSH.")
    load_habits()
    load_ontology()
    start = time.perf_counter()
    predicted = [read(row["findings"], row["impression"]) for row, _ in coded]
    seconds = time.perf_counter() - start

    counts = {kind: np.zeros((len(coded), 3)) for kind in (*KINDS, *STATED)}
    entities: dict[str, Tally] = {}
    unknown: set[str] = set()
    for index, ((_, codes), found) in enumerate(zip(coded, predicted, strict=True)):
        reference_codes, unmapped = codes
        unknown.update(unmapped)
        reference, got = tuples_of(reference_codes), tuples_of(found)
        for kind, table in counts.items():
            a, b = reference[kind], got[kind]
            table[index] = len(a & b), len(b), len(a)
        for name in {f for f, _ in reference["finding"] | got["finding"]}:
            tally = entities.setdefault(name, Tally())
            key = {(name, "")}
            tally.add(reference["finding"] & key, got["finding"] & key)
    figures: dict[str, Any] = {"n": len(coded)}
    for kind, table in counts.items():
        figures |= _figures(kind, table)
    return {
        "task": "ober",
        "model": baseline or "ober",
        "cases": len(coded),
        "groups": {"reports": {"text": figures}},
        "entities": {
            name: {
                "n": tally.reference,
                "precision": round(tally.precision, 4),
                "recall": round(tally.recall, 4),
                "f1": round(tally.f1, 4),
            }
            for name, tally in sorted(entities.items(), key=lambda item: -item[1].reference)
        },
        "unmapped_headings": sorted(unknown),
        "seconds": {
            "total": round(seconds, 3),
            "per_report_ms": round(1000 * seconds / len(coded), 3),
        },
        "memory_mb": peak_memory_mb(),
    }


def _figures(kind: str, table: np.ndarray) -> dict[str, Any]:
    """Precision, recall, F1 and its 95 % bootstrap interval over reports of counts N x 3."""
    right, predicted, reference = table.sum(0)
    draws = np.random.default_rng(0).multinomial(
        len(table), [1 / len(table)] * len(table), BOOTSTRAP
    )
    sums = draws @ table
    f1 = 2 * sums[:, 0] / np.maximum(sums[:, 1] + sums[:, 2], 1)
    low, high = np.percentile(f1, [2.5, 97.5])
    return {
        f"{kind}_precision": round(float(right / max(predicted, 1)), 4),
        f"{kind}_recall": round(float(right / max(reference, 1)), 4),
        f"{kind}_f1": round(float(2 * right / max(predicted + reference, 1)), 4),
        f"{kind}_f1_ci": [round(float(low), 4), round(float(high), 4)],
    }


def peak_memory_mb() -> float | None:
    """Peak resident memory of this process in MB, None where the platform does not tell."""
    try:
        import resource
        import sys
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)


def evaluate_ober_command(args: Any, folder: Path, progress: Any) -> dict[str, Any]:
    """For `velcrolink evaluate --task ober`."""
    return evaluate_ober(args.data, args.baseline, args.limit)


def evaluate_retrieval_command(args: Any, folder: Path, progress: Any) -> dict[str, Any]:
    """For `velcrolink evaluate --task report-retrieval`."""
    if args.baseline:
        raise InputError("report-retrieval has no baselines: it reports both rankings itself.")
    embed = None
    if args.model:  # the model's text tower in place of the hashed embedding
        from ...model.opening import open_runtime

        embed = open_runtime(args.model).embed_text
    return evaluate_report_retrieval(args.data, embed, args.limit)


__all__: Sequence[str] = [
    "Tally",
    "evaluate_ober",
    "evaluate_ober_command",
    "evaluate_report_retrieval",
    "evaluate_retrieval_command",
    "tuples_of",
]
