"""`velcrolink evaluate --task review` (shared/design/BENCHMARK.md).

Errors are planted into the labels of every 3-D case (`planted_errors.py`, seeded), each damaged
label map is reviewed, and it is counted how many of the wrong segments and how many of the
untouched ones are flagged.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError, VelcroError
from ...knowledge_base import active_paths, load_knowledge_base
from ...linking.linker import open_linker
from ...review import review_segmentation
from ...review.links import RegionMemory
from ...segmentations.names import NameReader
from ..data.volume_cases import Progress, interval, labelled_volume, volume_keys, write_rows
from .evaluate_linking import peak_memory_mb
from .planted_errors import plant

ERRORS = 200  # planted at least, over all cases; whole rounds over all cases only
SHARE = 0.1  # of a case's segments that are damaged at once, at least one
MOST_ROUNDS = 40
NO_MODEL = "none"  # --model none: by geometry alone


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
    keys = volume_keys(args)
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
                volume, segmentation = labelled_volume(Path(args.data), key)
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
    write_rows(folder / "rows.csv", [vars(row) for row in rows])
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
