"""Exact search in memory over one model's items: conditions first, then one matrix product.

Vectors are one float32 matrix; every condition is a lookup over small integer codes, so a query
costs a few passes over N integers and the product with the rows that are left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError
from .record import LocationCondition, Query

GATHER_BELOW = 0.3  # share of rows up to which copying them is faster than multiplying all


class Codes:
    """Texts to small numbers and back; 0 is None."""

    def __init__(self) -> None:
        self.texts: list[str | None] = [None]
        self._numbers: dict[str | None, int] = {None: 0}

    def number(self, text: str | None) -> int:
        """Number of a text, a new one if it is new."""
        found = self._numbers.get(text)
        if found is None:
            found = self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return found

    def numbers(self, texts: Iterable[str | None]) -> np.ndarray:
        return np.fromiter((self.number(t) for t in texts), dtype=np.int32)

    def chosen(self, texts: Iterable[str | None]) -> np.ndarray:
        """Bool for each number: is it one of these texts?"""
        wanted = np.zeros(len(self.texts), dtype=bool)
        for text in texts:
            if text in self._numbers:
                wanted[self._numbers[text]] = True
        return wanted


@dataclass
class Rows:
    """New rows for an index, as columns. place_row and finding_row count from the first new row."""

    ids: Sequence[int]
    cases: Sequence[str]
    kinds: Sequence[str]
    entries: Sequence[str | None]
    planes: Sequence[str | None]
    modalities: Sequence[str | None]
    accepted: Sequence[int]
    vectors: np.ndarray | None
    place_row: Sequence[int] = field(default_factory=list)
    place_entry: Sequence[str] = field(default_factory=list)
    place_side: Sequence[str | None] = field(default_factory=list)
    place_zone: Sequence[str] = field(default_factory=list)
    finding_row: Sequence[int] = field(default_factory=list)
    finding_entry: Sequence[str] = field(default_factory=list)


class ExactIndex:
    """Items of one model, in the order of their ids."""

    def __init__(self) -> None:
        self.names, self.case_names, self.words = Codes(), Codes(), Codes()
        self.ids = np.zeros(0, dtype=np.int64)
        self.matrix: np.ndarray | None = None
        self._columns = {
            key: np.zeros(0, dtype=np.int32)
            for key in ("case", "kind", "entry", "plane", "modality", "accepted")
        }
        self._places = np.zeros((4, 0), dtype=np.int32)  # row, entry, side, zone
        self._findings = np.zeros((2, 0), dtype=np.int32)  # row, entry
        self._ancestors: dict[str, dict[str, int]] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def extend(self, rows: Rows, ancestors: dict[str, dict[str, int]]) -> None:
        """Append rows. ancestors: {entry: {what it is part or kind of: steps}} of all places."""
        first = len(self.ids)
        count = len(rows.ids)
        if rows.vectors is not None and rows.vectors.shape[0] != count:
            raise InputError("The case library is damaged: items and embeddings do not agree.")
        self._ancestors = ancestors
        self.ids = np.concatenate([self.ids, np.asarray(rows.ids, dtype=np.int64)])
        new = {
            "case": self.case_names.numbers(rows.cases),
            "kind": self.words.numbers(rows.kinds),
            "entry": self.names.numbers(rows.entries),
            "plane": self.words.numbers(rows.planes),
            "modality": self.words.numbers(rows.modalities),
            "accepted": np.asarray(rows.accepted, dtype=np.int32),
        }
        for key, values in new.items():
            self._columns[key] = np.concatenate([self._columns[key], values])
        if rows.vectors is not None and count:
            vectors = np.ascontiguousarray(rows.vectors, dtype=np.float32)
            old = self.matrix
            self.matrix = vectors if old is None else np.concatenate([old, vectors])
        places = [
            np.asarray(rows.place_row, dtype=np.int32) + first,
            self.names.numbers(rows.place_entry),
            self.words.numbers(rows.place_side),
            self.words.numbers(rows.place_zone),
        ]
        self._places = np.concatenate([self._places, np.stack(places)], axis=1)
        findings = [
            np.asarray(rows.finding_row, dtype=np.int32) + first,
            self.names.numbers(rows.finding_entry),
        ]
        self._findings = np.concatenate([self._findings, np.stack(findings)], axis=1)

    def search(self, query: Query) -> list[tuple[int, float]]:
        """[(item id, score)], best first, at most `query.limit`."""
        passing = self._passing(query)
        rows = np.arange(len(self)) if passing is None else np.flatnonzero(passing)
        if query.limit < 1 or not len(rows):
            return []
        vector = query.vector()
        if vector is None:
            return [(int(self.ids[r]), 0.0) for r in rows[: query.limit]]
        if self.matrix is None:
            return []
        if len(vector) != self.matrix.shape[1]:
            raise InputError(
                f"The library's embeddings have {self.matrix.shape[1]} numbers, the query "
                f"{len(vector)}; they are of two different models."
            )
        if len(rows) < GATHER_BELOW * len(self):
            scores = self.matrix[rows] @ vector
        else:
            scores = (self.matrix @ vector)[rows]
        best = _top(scores, query.limit)
        return [(int(self.ids[rows[b]]), float(scores[b])) for b in best]

    def _passing(self, query: Query) -> np.ndarray | None:
        """Bool for each row; None when nothing is asked for."""
        tests: list[np.ndarray] = []
        column = self._columns
        if query.kind is not None:
            tests.append(self.words.chosen([query.kind])[column["kind"]])
        if query.modality is not None:
            tests.append(self.words.chosen([query.modality])[column["modality"]])
        if query.plane is not None:
            tests.append(self.words.chosen([query.plane])[column["plane"]])
        if query.entries:
            tests.append(self.names.chosen(query.entries)[column["entry"]])
        if query.cases:
            tests.append(self.case_names.chosen(query.cases)[column["case"]])
        if query.without_cases:
            tests.append(~self.case_names.chosen(query.without_cases)[column["case"]])
        if query.accepted_only:
            tests.append(column["accepted"] > 0)
        if query.findings:
            row, entry = self._findings
            tests.append(self._marked(row[self.names.chosen(query.findings)[entry]]))
        if query.location is not None:
            tests.append(self._located(query.location))
        if not tests:
            return None
        return np.logical_and.reduce(tests)

    def _located(self, condition: LocationCondition) -> np.ndarray:
        row, entry, side, zone = self._places
        inside = [
            name for name in self.names.texts if name is not None and self._within(name, condition)
        ]
        hit = self.names.chosen(inside)[entry]
        if condition.sides is not None:
            hit &= self.words.chosen(condition.sides)[side]
        if condition.zone:
            hit &= self.words.chosen([condition.zone])[zone]
        return self._marked(row[hit])

    def _within(self, name: str, condition: LocationCondition) -> bool:
        above = self._ancestors.get(name, {name: 0})
        return any(
            wanted in above and (condition.depth is None or above[wanted] <= condition.depth)
            for wanted in condition.entries
        )

    def _marked(self, rows: np.ndarray) -> np.ndarray:
        marked = np.zeros(len(self), dtype=bool)
        marked[rows] = True
        return marked


def _top(scores: np.ndarray, limit: int) -> np.ndarray:
    """Positions of the best scores, best first; of equal ones the earlier comes first."""
    if len(scores) <= limit:
        return np.argsort(-scores, kind="stable")
    threshold = np.partition(scores, len(scores) - limit)[len(scores) - limit]
    candidates = np.flatnonzero(scores >= threshold)
    return candidates[np.argsort(-scores[candidates], kind="stable")][:limit]
