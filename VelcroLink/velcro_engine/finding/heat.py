"""Where on a slice a phrase is likely: the heat map over the encoder's image tokens.

Every image token carries an embedding in the space of the entries' texts; compared with the whole
knowledge base it gives, token by token, the probability that the phrase's entry lies there. Where the
model also links single pixels (decision 11) and was trained on the entry, both shares are averaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..linking.linker import Linker
from ..messages.request import SliceRequest
from .phrases import Phrase, entry_rows


@dataclass(frozen=True)
class Targets:
    """Columns of the comparison: the knowledge base (and the phrase itself last, if it is new)."""

    embeddings: np.ndarray
    rows: np.ndarray
    sided: bool


def targets_of(linker: Linker, request: SliceRequest, phrase: Phrase) -> Targets:
    base = linker.knowledge_base
    if phrase.entries:
        rows = entry_rows(base, phrase.entries)
        lateral = base.entry(phrase.entries[0]).laterality
        sided = lateral in ("paired", "any")
        embeddings = linker.embeddings
    else:
        own = linker.runtime.embed_text([phrase.rest])
        embeddings = np.concatenate([linker.embeddings, own])
        rows, sided = np.array([len(base)]), True
    return Targets(embeddings, rows, sided and request.pixel_to_ras is not None)


def probability(vectors: np.ndarray, targets: Targets, linker: Linker) -> np.ndarray:
    """N x D unit -> N: probability that each is what the phrase means."""
    temperature = linker.runtime.calibration.temperature
    logits = vectors.astype(np.float32) @ targets.embeddings.T / np.float32(temperature)
    if linker.runtime.nothing is not None:
        nothing = vectors @ linker.runtime.nothing / np.float32(temperature)
        logits = np.concatenate([logits, nothing[:, None]], axis=1)
    logits -= logits.max(axis=1, keepdims=True)
    weights = np.exp(logits)
    return weights[:, targets.rows].sum(1) / weights.sum(1)


def agreement(side_logits: np.ndarray, phrase: Phrase, targets: Targets) -> np.ndarray:
    """N x 3 (left, right, neither) -> N: share of the asked side among left and right."""
    if phrase.side is None or not targets.sided:
        return np.ones(len(side_logits), dtype=np.float32)
    weights = np.exp(side_logits - side_logits.max(axis=1, keepdims=True))
    asked = weights[:, 0 if phrase.side == "left" else 1]
    return asked / np.maximum(weights[:, 0] + weights[:, 1], 1e-9)


def heat_map(
    encoded: Any, targets: Targets, linker: Linker, phrase: Phrase, request: SliceRequest
) -> np.ndarray:
    """h x w: probability at every image token."""
    _, d, h, w = encoded.dense.shape
    tokens = encoded.dense[0].reshape(d, h * w).T
    sides = encoded.dense_side[0].reshape(3, h * w).T
    share = probability(tokens, targets, linker)
    of_pixels = _pixel_share(encoded, targets, linker, (h, w))
    if of_pixels is not None:
        share = (share + of_pixels.ravel()) / 2
    heat = share * agreement(sides, phrase, targets)
    return heat.reshape(h, w).astype(np.float32)


def _pixel_share(
    encoded: Any, targets: Targets, linker: Linker, grid: tuple[int, int]
) -> np.ndarray | None:
    """h x w: mean share of the phrase's trained entries among the pixels of every image token; None
    when there is none, or the model links no pixels."""
    posterior = getattr(encoded, "maps", {}).get("posterior")
    names = getattr(linker.runtime, "entities", ())
    entries = linker.knowledge_base.entries
    wanted = {entries[row].id for row in targets.rows if row < len(entries)}
    columns = [n for n, name in enumerate(names) if name in wanted]
    if posterior is None or not columns:
        return None
    share = posterior[0, columns].sum(axis=0)
    h, w = grid
    step = share.shape[0] // h
    return share[: h * step, : w * step].reshape(h, step, w, step).mean((1, 3))
