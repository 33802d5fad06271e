"""Fitting the text tower to what the image side has learnt.

VELCRO freezes a pretrained language model and moves the image encoder towards it. Nothing pretrained
may be shipped here, so it goes the other way round: the region embeddings of the trained entities
are fixed and the tower learns to say, from an entry's text alone, where its regions lie. Entries that
were never seen take part as texts that must not be confused with the others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...knowledge_base.entry import Entry
from ...model.text_tokenizer import TextTokenizer
from ...model.text_tower import TextConfig, TextGraph, TextTower

_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def random_text(entry: Entry, rng: np.random.Generator) -> str:
    """One way of saying an entry: its full text most often, else a synonym, a part of the
    definition, the bare name, or a phrase as a user types it ("left hippocampus")."""
    names = [entry.name, *entry.synonyms, *entry.latin, *entry.abbreviations]
    weights = np.array([len(names), *[1.0] * (len(names) - 1)])
    title = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    draw = rng.random()
    if draw < 0.35:
        return f"[TITLE]{entry.name}[BODY]{entry.definition}"
    if draw < 0.55:
        side = str(rng.choice(["left ", "right ", "", ""]))
        return f"{side}{title}" if rng.random() < 0.5 else f"[TITLE]{title}[BODY]"
    sentences = _SENTENCE.split(entry.definition)
    if draw < 0.65:
        return f"[TITLE][BODY]{entry.definition}"
    keep = [s for s in sentences if rng.random() < 0.6] or sentences[:1]
    return f"[TITLE]{title}[BODY]{' '.join(keep)}"


def entry_tokens(tokenizer: TextTokenizer, texts: Sequence[str]) -> Tensor:
    """Tokens cut to the longest text."""
    tokens = tokenizer(texts)
    longest = int(np.count_nonzero(tokens, axis=1).max())
    return torch.from_numpy(tokens[:, :longest])


def embed_texts(tower: TextTower, tokenizer: TextTokenizer, texts: Sequence[str]) -> Tensor:
    """N x D unit embeddings, without gradients."""
    graph = TextGraph(tower.eval())
    with torch.no_grad():
        parts = [
            graph(entry_tokens(tokenizer, texts[i : i + 32])) for i in range(0, len(texts), 32)
        ]
    return torch.cat(parts)


def fit_text_tower(
    tower: TextTower,
    tokenizer: TextTokenizer,
    entries: Sequence[Entry],
    targets: dict[str, np.ndarray],
    *,
    steps: int = 1200,
    batch: int = 64,
    learning_rate: float = 1e-3,
    seed: int = 0,
    log: Callable[[str], None] = print,
    more: Callable[[TextGraph], Tensor] | None = None,
) -> TextTower:
    """Train `tower`. `targets`: id of each trained entity -> unit region embedding (D). `more`: a
    further loss of each step, for instance `report_alignment.ReportAlignment`.

    Losses: text to trained entities (softmax over all of them), trained entity to the batch's texts,
    cosine to the target, and two texts of one entry to each other.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    trained = [e for e in entries if e.id in targets]
    others = [e for e in entries if e.id not in targets]
    columns = F.normalize(
        torch.from_numpy(np.stack([targets[e.id] for e in trained])).float(), dim=1
    )
    graph = TextGraph(tower)
    optimizer = torch.optim.AdamW(tower.parameters(), lr=learning_rate, weight_decay=0.02)
    figures: list[tuple[float, float]] = []
    for step in range(steps):
        warm = min(1.0, (step + 1) / 50)
        rate = learning_rate * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        known = rng.choice(len(trained), min(batch // 2, len(trained)), replace=False)
        free = rng.choice(len(others), min(batch // 4, len(others)), replace=False)
        chosen = [trained[i] for i in known] + [others[i] for i in free]
        first = [random_text(e, rng) for e in chosen]
        second = [random_text(e, rng) for e in chosen[: len(known) // 2] + chosen[len(known) :]]
        twin_rows = [*range(len(known) // 2), *range(len(known), len(chosen))]
        graph.train()
        tokens = entry_tokens(tokenizer, first + second)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            embedded = graph(tokens).float()
        mine, twins = embedded[: len(first)], embedded[len(first) :]
        known_t = torch.from_numpy(known)
        to_entity = 20.0 * mine[: len(known)] @ columns.T
        loss = F.cross_entropy(to_entity, known_t)
        noisy = F.normalize(
            columns[known_t] + 0.03 * torch.randn(len(known), columns.shape[1]), dim=1
        )
        loss = loss + F.cross_entropy(20.0 * noisy @ mine.T, torch.arange(len(known)))
        loss = loss + 2.0 * (1 - (mine[: len(known)] * columns[known_t]).sum(1)).mean()
        if len(twins):
            pair = 20.0 * twins @ mine.T
            loss = loss + 0.5 * F.cross_entropy(pair, torch.tensor(twin_rows))
        if more is not None:
            loss = loss + more(graph)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimizer.step()
        figures.append(
            (float(loss.detach()), float((to_entity.argmax(1) == known_t).float().mean()))
        )
        if (step + 1) % 50 == 0:
            mean = np.mean(figures[-50:], axis=0)
            log(f"text step {step + 1}/{steps}: loss {mean[0]:.3f}, entity right {mean[1]:.3f}")
    return tower.eval()


def new_tower(tokenizer: TextTokenizer, embedding: int, seed: int = 0) -> TextTower:
    """Untrained tower for a vocabulary."""
    torch.manual_seed(seed)
    config = TextConfig(
        vocabulary=tokenizer.size, context_length=tokenizer.context_length, embedding=embedding
    )
    return TextTower(config)
