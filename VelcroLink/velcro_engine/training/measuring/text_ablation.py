"""Rows of the ablation table for the text tower: fitted for a few steps with and without each
objective on report sentences, from the same start."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from ...knowledge_base import KnowledgeBase, text
from ...model.text_tokenizer import TextTokenizer
from ...model.text_tower import TextGraph, TextTower
from ..learning.report_alignment import ReportAlignment, ReportWeights, Spoken
from ..learning.text_training import entry_tokens, fit_text_tower
from ..learning.training_state import TrainingState
from ..losses.alignment_objectives import SIDE_NAMES
from .head_ablation import compared_figure
from .region_features import RegionFeatures
from .report_retrieval import ranked_reports

FIRST = 5
LEARNING_RATE = 5e-4
NONE = ReportWeights(0, 0, 0, 0)
# name of a row -> weights of the objectives on reports
ROWS = {
    "without": NONE,
    "sentences": ReportWeights(1.0, 0, 0, 0),
    "sentences and words": ReportWeights(1.0, 0.5, 0, 0),
    "medtrim": ReportWeights(0, 0, 1.0, 0),
    "location contrast": ReportWeights(0, 0, 0, 0.5),
    "all": ReportWeights(),
}
FIGURES = {
    "linking": "region's entry right, among the whole knowledge base",
    "text-roi": "precision@5 of the entry's name among regions",
    "text-text": "reports, precision@5, same finding and place, unconditioned",
    "text-text in place": "reports, precision@5 within the place",
}


def embed_all(tower: TextTower, tokenizer: TextTokenizer, texts: list[str]) -> np.ndarray:
    """N x D unit vectors; texts of like length go together."""
    order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
    graph = TextGraph(tower.eval())
    found = np.zeros((len(texts), tower.config.embedding), dtype=np.float32)
    with torch.no_grad():
        for start in range(0, len(order), 32):
            part = order[start : start + 32]
            found[part] = graph(entry_tokens(tokenizer, [texts[n] or "." for n in part])).numpy()
    return found


def measure_tower(
    tower: TextTower,
    tokenizer: TextTokenizer,
    base: KnowledgeBase,
    entities: list[str],
    library: tuple[np.ndarray, RegionFeatures],
    queries: tuple[np.ndarray, RegionFeatures],
    reports: Path,
) -> dict[str, tuple[np.ndarray, list[str]]]:
    """{figure: (value of each query, the case or report it comes from)}."""
    vectors, known = queries
    answers = (vectors @ embed_all(tower, tokenizer, [text(e) for e in base.entries]).T).argmax(1)
    right = [
        base.entries[int(a)].id == entities[int(e)]
        for a, e in zip(answers, known.entity, strict=True)
    ]
    found = {"linking": (np.array(right, dtype=float), known.case)}
    asked: dict[tuple[str, int, int], None] = dict.fromkeys(
        zip(known.case, known.entity.tolist(), known.side.tolist(), strict=True)
    )
    phrases = [
        f"{SIDE_NAMES[side] or ''} {base.entry(entities[entity]).name}".strip()
        for _, entity, side in asked
    ]
    kept, shown = library
    best = np.argsort(-(embed_all(tower, tokenizer, phrases) @ kept.T), axis=1)[:, :FIRST]
    values, owners = [], []
    for row, (case, entity, side) in zip(best, asked, strict=True):
        same = (shown.entity == entity) & (shown.side == side)
        if same.any():
            values.append(float(same[row].sum()) / min(FIRST, int(same.sum())))
            owners.append(case)
    found["text-roi"] = (np.array(values), owners)
    ranked = ranked_reports(reports, lambda texts: embed_all(tower, tokenizer, list(texts)))
    owners = [str(n) for n in ranked.owners.tolist()]
    found["text-text"] = (ranked.plain[:, 0], owners)
    found["text-text in place"] = (ranked.conditioned[:, 0], owners)
    return found


def ablate_text(
    start: tuple[TextTower, TextTokenizer],
    spoken: list[Spoken],
    base: KnowledgeBase,
    targets: dict[str, np.ndarray],
    entities: list[str],
    library: tuple[np.ndarray, RegionFeatures],
    queries: tuple[np.ndarray, RegionFeatures],
    reports: Path,
    steps: int,
    seeds: int,
    progress: Callable[[int, int, str], None],
) -> dict[str, dict[str, dict[str, object]]]:
    """{row: {figure: {"value", "ci", "seeds", "gain", "gain_ci"}}}, gains against the first row.

    `library` and `queries`: unit region embeddings with what they show. Intervals: over cases or
    reports. `reports`: CSV with MeSH codes.
    """
    tower, tokenizer = start
    measured: dict[str, list[dict[str, tuple[np.ndarray, list[str]]]]] = {}
    for number, (row, weights) in enumerate(ROWS.items()):
        measured[row] = []
        for seed in range(seeds):
            progress(number * seeds + seed, len(ROWS) * seeds, f"text: {row}")
            own = copy.deepcopy(tower)
            more = None
            if weights != NONE:
                more = ReportAlignment(spoken, base, targets, tokenizer, weights, seed=seed)
            fit_text_tower(
                own, tokenizer, base.entries, targets, steps=steps, seed=seed,
                learning_rate=LEARNING_RATE, log=lambda _: None, more=more,
            )  # fmt: skip
            measured[row].append(
                measure_tower(own, tokenizer, base, entities, library, queries, reports)
            )
    tables = {row: [{k: v for k, (v, _) in run.items()} for run in runs]
              for row, runs in measured.items()}  # fmt: skip
    owners = {k: cases for k, (_, cases) in measured["without"][0].items()}
    return {
        row: {
            name: compared_figure(
                np.stack([run[name] for run in runs]),
                np.stack([run[name] for run in tables["without"]]),
                owners[name],
            )
            for name in FIGURES
        }
        for row, runs in tables.items()
    }


def unit_embeddings(features: RegionFeatures, state: TrainingState) -> np.ndarray:
    """The run's own embeddings of kept regions, N x D."""
    network = state.average
    with torch.no_grad():
        own, _ = network.region_head(
            torch.from_numpy(features.token), torch.from_numpy(features.pooled)
        )
        whole = own + network.region_gain * torch.from_numpy(features.pixels)
        return F.normalize(whole, dim=1).numpy()
