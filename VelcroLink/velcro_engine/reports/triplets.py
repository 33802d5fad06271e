"""Triplets by meta-entities (MedTrim, 2504.15929): score and mining.

What is compared is a `MetaEntities`: findings (or the entity of a RoI) with their adjectives and
directions. The score of a reference for an anchor is `0.85 J + 0.10 A + 0.05 D`: J the Jaccard index
of the findings, A and D the overlap (IoU) of adjectives and directions summed over the findings both
have and divided by the anchor's number of findings; two empty sets agree fully. Pools are scored by
`MetaTable`, all pairs at once. The loss: `training/losses/triplets.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import InputError
from .language.findings import ReportFindings

FINDINGS_WEIGHT, ADJECTIVES_WEIGHT, DIRECTIONS_WEIGHT = 0.85, 0.10, 0.05
POOL, BATCH = 512, 32
NEGATIVE_BELOW, SEMI_HARD_FROM = 0.6, 0.25
_COUNT_UNIT = 1024.0  # above any sum of word scores: 0.15 for each shared finding
Words = frozenset[str]


@dataclass(frozen=True)
class MetaEntities:
    """{finding: (adjectives, directions)} of a report, a sentence or a RoI; empty: no finding."""

    findings: Mapping[str, tuple[Words, Words]] = field(default_factory=dict)


def meta_of_report(report: ReportFindings) -> MetaEntities:
    """Meta-entities of a read report. Places and qualifiers are adjectives, sides directions."""
    return MetaEntities(
        {
            finding: (frozenset(entry["places"] + entry["qualifiers"]), frozenset(entry["sides"]))
            for finding, entry in report.summary.items()
        }
    )


def meta_of_roi(
    entity: str, side: str | None = None, attributes: Mapping[str, Any] | None = None
) -> MetaEntities:
    """Meta-entities of a RoI: its entity, its side, and the words among its attributes.

    `attributes` as `attributes.measure` gives them: "zone" and "size" become adjectives, numbers
    are left out; without `side`, "body_side" is the direction.
    """
    given = attributes or {}
    adjectives = {word for key in ("zone", "size") for word in str(given.get(key, "")).split()}
    direction = side or given.get("body_side")
    return MetaEntities(
        {entity: (frozenset(adjectives), frozenset([str(direction)] if direction else []))}
    )


def score_pair(anchor: MetaEntities, reference: MetaEntities) -> float:
    """The published score of one pair; `score_matrix` gives the same for many at once."""
    a, r = anchor.findings, reference.findings
    if not a and not r:
        return FINDINGS_WEIGHT + ADJECTIVES_WEIGHT + DIRECTIONS_WEIGHT
    shared = a.keys() & r.keys()
    if not shared:
        return 0.0
    adjectives = sum(_iou(a[name][0], r[name][0]) for name in shared) / len(a)
    directions = sum(_iou(a[name][1], r[name][1]) for name in shared) / len(a)
    jaccard = len(shared) / len(a.keys() | r.keys())
    return (
        FINDINGS_WEIGHT * jaccard + ADJECTIVES_WEIGHT * adjectives + DIRECTIONS_WEIGHT * directions
    )


def _iou(a: Words, b: Words) -> float:
    union = len(a | b)
    return len(a & b) / union if union else 1.0


def score_matrix(
    anchors: Sequence[MetaEntities], references: Sequence[MetaEntities] | None = None
) -> np.ndarray:
    """Scores, float32, anchors x references (x anchors where these are left out)."""
    if references is None:
        return MetaTable(anchors).scores()
    table = MetaTable([*anchors, *references])
    count = len(anchors)
    return table.scores(np.arange(count), np.arange(count, len(table)))


class MetaTable:
    """Meta-entities of a corpus in arrays, from which any pool is scored at once.

    Each item is a run of slots (finding, word set). Equal word sets of a finding are compared once,
    when the table is made; scoring a pool lists the pairs of slots that share a finding, looks their
    word scores up and sums them per pair of items. What shares nothing costs nothing.
    """

    def __init__(self, metas: Sequence[MetaEntities]) -> None:
        names: dict[str, int] = {}
        distinct: list[dict[tuple[Words, Words], int]] = []
        counts, findings, sets = [], [], []
        for meta in metas:
            counts.append(len(meta.findings))
            for name, words in meta.findings.items():
                number = names.setdefault(name, len(names))
                if number == len(distinct):
                    distinct.append({})
                findings.append(number)
                sets.append(distinct[number].setdefault(words, len(distinct[number])))
        self._count = np.array(counts, np.int64)
        self._first = np.concatenate([[0], np.cumsum(self._count)])
        self._finding = np.array(findings, np.int64)
        self._set = np.array(sets, np.int64)
        blocks = [_word_scores(list(known)) for known in distinct]
        self._width = np.array([len(block) for block in blocks], np.int64)
        self._offset = np.concatenate([[0], np.cumsum(self._width**2)])
        self._words = np.concatenate([block.ravel() for block in blocks]) if blocks else np.zeros(0)

    def __len__(self) -> int:
        return len(self._count)

    def scores(self, rows: np.ndarray | None = None, columns: np.ndarray | None = None):
        """Scores, float32, of items `rows` as anchors x items `columns` (both: all; then rows)."""
        rows = np.arange(len(self)) if rows is None else np.asarray(rows)
        columns = rows if columns is None else np.asarray(columns)
        shape = (len(rows), len(columns))
        count_a, count_r = self._count[rows], self._count[columns]
        pair, words = self._shared_slots(rows, columns)
        cells = shape[0] * shape[1]
        # count and word scores in one sum, the count in the upper digits: one pass over the cells
        sums = np.bincount(pair, words + _COUNT_UNIT, minlength=cells)
        at = np.flatnonzero(sums)
        of_row, of_column = np.divmod(at, max(shape[1], 1))
        both = np.floor(sums[at] / _COUNT_UNIT)
        overlap = sums[at] - _COUNT_UNIT * both
        own = count_a[of_row]
        scores = np.zeros(cells, np.float32)
        scores[at] = FINDINGS_WEIGHT * both / (own + count_r[of_column] - both) + overlap / own
        scores = scores.reshape(shape)
        nothing_a, nothing_r = np.flatnonzero(count_a == 0), np.flatnonzero(count_r == 0)
        scores[nothing_a[:, None], nothing_r] = (
            FINDINGS_WEIGHT + ADJECTIVES_WEIGHT + DIRECTIONS_WEIGHT
        )
        return scores

    def _shared_slots(self, rows, columns) -> tuple[np.ndarray, np.ndarray]:
        """Flat cell (row, column) and word score of every pair of slots that share a finding."""
        item_a, slot_a = self._slots(rows)
        item_r, slot_r = self._slots(columns)
        order = np.argsort(self._finding[slot_r], kind="stable")
        item_r, slot_r = item_r[order], slot_r[order]
        size = np.bincount(self._finding[slot_r], minlength=len(self._width))
        start = np.cumsum(size) - size
        finding = self._finding[slot_a]
        partners = size[finding]
        pair_a = np.repeat(np.arange(len(slot_a)), partners)
        before = np.cumsum(partners) - partners
        pair_r = np.arange(len(pair_a)) + np.repeat(start[finding] - before, partners)
        base = self._offset[finding] + self._set[slot_a] * self._width[finding]
        words = self._words[base[pair_a] + self._set[slot_r][pair_r]]
        return (item_a * len(columns))[pair_a] + item_r[pair_r], words

    def _slots(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions in `items` and slot numbers of all their slots."""
        count = self._count[items]
        position = np.repeat(np.arange(len(items)), count)
        before = np.cumsum(count) - count
        return position, np.arange(len(position)) + np.repeat(self._first[items] - before, count)


def _word_scores(distinct: Sequence[tuple[Words, Words]]) -> np.ndarray:
    """Weighted IoU of adjectives and of directions between the distinct word sets of a finding."""
    table = np.zeros((len(distinct), len(distinct)))
    for part, weight in ((0, ADJECTIVES_WEIGHT), (1, DIRECTIONS_WEIGHT)):
        words = sorted({word for pair in distinct for word in pair[part]})
        place = {word: index for index, word in enumerate(words)}
        sets = np.zeros((len(distinct), len(words)))
        for index, pair in enumerate(distinct):
            sets[index, [place[word] for word in pair[part]]] = 1
        both = sets @ sets.T
        size = sets.sum(1)
        union = size[:, None] + size[None, :] - both
        table += weight * np.divide(both, union, out=np.ones_like(both), where=union > 0)
    return table


@dataclass(frozen=True)
class Triplets:
    """Positions of anchors, positives and negatives, int arrays of the same length."""

    anchor: np.ndarray
    positive: np.ndarray
    negative: np.ndarray

    def __len__(self) -> int:
        return len(self.anchor)


def mine(
    scores: np.ndarray,
    anchors: np.ndarray,
    rng: np.random.Generator,
    semi_hard_probability: float = 0.5,
) -> Triplets:
    """A triplet for each anchor that has one, chosen from a pool.

    `scores`: pool x pool; `anchors`: positions in the pool. Positive: the highest score, never the
    anchor itself. Negatives score below 0.6. Semi-hard: the lowest score that is still 0.25 or
    more, if there is none the highest below that; otherwise (probability 1 - p) an easy one, the
    lowest score. Equal scores are drawn by chance. Anchors without a positive above their negative
    are left out.
    """
    anchors = np.asarray(anchors)
    own = scores[anchors].astype(np.float64)
    jitter = rng.random(own.shape) * 1e-7
    own[np.arange(len(anchors)), anchors] = np.nan
    candidate = own + jitter
    positive = np.nanargmax(candidate, axis=1)

    allowed = own < NEGATIVE_BELOW  # NaN, the anchor itself, is not
    hard = allowed & (own >= SEMI_HARD_FROM)
    lowest_hard = np.where(hard, candidate, np.inf).argmin(1)
    highest_below = np.where(allowed & ~hard, candidate, -np.inf).argmax(1)
    semi_hard = np.where(hard.any(1), lowest_hard, highest_below)
    easy = np.where(allowed, candidate, np.inf).argmin(1)
    negative = np.where(rng.random(len(anchors)) < semi_hard_probability, semi_hard, easy)

    at = np.arange(len(anchors))
    valid = allowed.any(1) & (own[at, positive] > own[at, negative])
    return Triplets(anchors[valid], positive[valid], negative[valid])


def triplet_batches(
    metas: Sequence[MetaEntities],
    rng: np.random.Generator,
    pool: int = POOL,
    batch: int = BATCH,
    semi_hard_probability: float = 0.5,
) -> Iterator[Triplets]:
    """Endless mini-batches of triplets, positions into `metas`.

    A pool is drawn without repetition and scored once; its members are the anchors of successive
    batches and the candidates for each other. Raises InputError for fewer than three items.
    """
    if len(metas) < 3:
        raise InputError("Triplets need at least three cases; add more to the training folder.")
    table = MetaTable(metas)
    while True:
        members = rng.permutation(len(metas))[:pool]
        scores = table.scores(members)
        for start in range(0, len(members), batch):
            found = mine(
                scores,
                np.arange(start, min(start + batch, len(members))),
                rng,
                semi_hard_probability,
            )
            if len(found):
                yield Triplets(
                    members[found.anchor], members[found.positive], members[found.negative]
                )
        if len({frozenset(metas[i].findings) for i in members}) < 2 and pool >= len(metas):
            raise InputError("All cases show the same entity; triplets need at least two.")
