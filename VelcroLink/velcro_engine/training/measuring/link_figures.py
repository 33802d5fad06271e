"""From linked samples to the figures of the benchmark, with bootstrap intervals over cases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_auc_score

from ..data.benchmark_samples import benchmark_table
from .link_evaluation import Row

BOOTSTRAPS = 1000
BINS = 15


@dataclass(frozen=True)
class Sampled:
    """What `Benchmark` asks of a sample; a `Row` says it too."""

    entity: str
    is_picture: bool
    ranked: tuple[str, ...] = ()


class Benchmark:
    """The table that maps entities to headline concepts and groups."""

    def __init__(
        self,
        ancestors: dict[str, set[str]] | None = None,
        trained: frozenset[str] | None = None,
    ) -> None:
        """`ancestors`: of every KB entry; only what is part of the brain counts as brain. `trained`:
        entities the model has learnt from images; the others are its `zero_shot` group."""
        table = benchmark_table()
        self.concept = {e: c for c, members in table["headline"].items() for e in members}
        self.lesion = set(table["lesion"])
        self.cxr = set(table["cxr"])
        self.us = set(table["us"])
        self.brain_roots = set(table["brain_roots"])
        self.ancestors = ancestors or {}
        self.trained = trained

    def groups(self, row: Row | Sampled) -> list[str]:
        """Groups a sample belongs to. `fine` holds every sample."""
        found = ["fine"]
        if row.entity in self.concept:
            found.append("headline")
        if self.trained is not None and row.entity not in self.trained:
            found.append("zero_shot")
        if row.entity in self.lesion:
            found.append("lesion")
        elif row.entity in self.us:
            found.append("us")
        elif row.entity in self.cxr or (row.entity == "lung" and row.is_picture):
            found.append("cxr")
        elif self.brain_roots & self.ancestors.get(row.entity, set()):
            found.append("brain")
        else:
            found.append("ct")
        return found

    def right(self, row: Row | Sampled, group: str, depth: int = 1) -> bool:
        """Whether the answer is among the first `depth`; by concept in `headline`."""
        if group != "headline":
            return row.entity in row.ranked[:depth]
        wanted = self.concept[row.entity]
        return any(self.concept.get(answer) == wanted for answer in row.ranked[:depth])


def figures(rows: list[Row], bench: Benchmark, seed: int = 0) -> dict[str, dict[str, dict]]:
    """{group: {prompt: {figure: value}}}."""
    parts: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        for group in bench.groups(row):
            parts[(group, row.prompt)].append(row)
    out: dict[str, dict[str, dict]] = defaultdict(dict)
    for (group, prompt), members in sorted(parts.items()):
        out[group][prompt] = _figures(members, group, bench, seed)
    return dict(out)


def _figures(rows: list[Row], group: str, bench: Benchmark, seed: int) -> dict:
    right = np.array([bench.right(r, group) for r in rows], dtype=float)
    third = np.array([bench.right(r, group, 3) for r in rows], dtype=float)
    fifth = np.array([bench.right(r, group, 5) for r in rows], dtype=float)
    confidence = np.array([r.confidence for r in rows])
    by_entity = defaultdict(list)
    for row, hit in zip(rows, right, strict=True):
        by_entity[row.entity if group != "headline" else bench.concept[row.entity]].append(hit)
    sided = [
        r.answered_side == r.side for r in rows if r.side in ("left", "right") and not r.is_picture
    ]
    low, high = bootstrap(right, [r.case for r in rows], seed)
    return {
        "n": len(rows),
        "cases": len({r.case for r in rows}),
        "top1": round(float(right.mean()), 4),
        "top1_ci": [round(low, 4), round(high, 4)],
        "top3": round(float(third.mean()), 4),
        "top5": round(float(fifth.mean()), 4),
        "macro": round(float(np.mean([np.mean(v) for v in by_entity.values()])), 4),
        "side": round(float(np.mean(sided)), 4) if sided else None,
        "side_n": len(sided),
        "dice": mean_dice(rows),
        "ece": round(calibration_error(confidence, right), 4),
        "auroc": _auroc(confidence, right),
        "top1_at_90_coverage": round(accuracy_at_coverage(confidence, right, 0.9), 4),
    }


def mean_dice(rows: list[Row]) -> float | None:
    """Mean over the answers that draw a mask; None when none does (some baselines)."""
    drawn = [r.dice for r in rows if not np.isnan(r.dice)]
    return round(float(np.mean(drawn)), 4) if drawn else None


def bootstrap(right: np.ndarray, cases: list[str], seed: int) -> tuple[float, float]:
    """95 % interval of the mean when whole cases are drawn with replacement."""
    names, index = np.unique(cases, return_inverse=True)
    hits = np.bincount(index, weights=right)
    counts = np.bincount(index).astype(float)
    rng = np.random.default_rng(seed)
    picks = rng.integers(len(names), size=(BOOTSTRAPS, len(names)))
    means = hits[picks].sum(1) / counts[picks].sum(1)
    return float(np.percentile(means, 2.5)), float(np.percentile(means, 97.5))


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error over 15 bins of equal width."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    total = 0.0
    for b in np.unique(bins):
        use = bins == b
        total += use.mean() * abs(right[use].mean() - confidence[use].mean())
    return float(total)


def _auroc(confidence: np.ndarray, right: np.ndarray) -> float | None:
    if right.min() == right.max():
        return None
    return round(float(roc_auc_score(right, confidence)), 4)


def accuracy_at_coverage(confidence: np.ndarray, right: np.ndarray, coverage: float) -> float:
    """Accuracy of the most confident share of the samples."""
    keep = max(1, round(coverage * len(right)))
    return float(right[np.argsort(-confidence, kind="stable")[:keep]].mean())


def entity_figures(rows: Iterable[Row], prompt: str = "gold") -> dict[str, dict]:
    """{entity: {n, top1, dice}} for one kind of prompt."""
    parts: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.prompt == prompt:
            parts[row.entity].append(row)
    return {
        entity: {
            "n": len(members),
            "top1": round(float(np.mean([r.ranked[0] == entity for r in members])), 4),
            "dice": mean_dice(members),
        }
        for entity, members in sorted(parts.items())
    }
