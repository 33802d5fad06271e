"""What the case library is spoken to in: items, places, queries, hits. Nothing here touches a disk.

An item is one region of interest ("roi") or one sentence of a report ("text"). No name, date, id or
DICOM tag has a field to lie in; a case is known by a pseudonym the user chose.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from ..errors import InputError
from ..knowledge_base import KnowledgeBase
from .deidentify import check_pseudonym

KINDS = ("roi", "text")
SIDES = ("left", "right", "midline", "bilateral")
LONGEST_TEXT = 100_000  # characters; more is not a sentence, nor a report
LARGEST_THUMBNAIL = 256 * 1024
LARGEST_DIMENSION = 4096
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Place:
    """Where an item lies: a knowledge-base entry, a side of the patient and a zone of the body.

    side: one of SIDES or None when unknown. zone: e.g. "upper posterior", "" when unknown.
    """

    entry: str
    side: str | None = None
    zone: str = ""


@dataclass(frozen=True)
class Finding:
    """A finding an item shows or names, with its qualifiers ("small", "chronic")."""

    entry: str
    side: str | None = None
    qualifiers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """One region or sentence of one case.

    case: pseudonym. entry: what the region is linked to. embedding: float32 D, unit length, of the
    model whose fingerprint is `model`. attributes: measured, JSON-able. thumbnail: PNG bytes or b"".
    accepted: a person agreed with the entry. identifier: given by the library, 0 before.
    """

    case: str
    kind: str
    entry: str | None = None
    side: str | None = None
    embedding: np.ndarray | None = None
    model: str = ""
    places: tuple[Place, ...] = ()
    findings: tuple[Finding, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    thumbnail: bytes = b""
    plane: str | None = None
    modality: str | None = None
    accepted: bool = False
    identifier: int = 0

    def checked(self) -> Item:
        """The item with a unit float32 embedding. Raises InputError for what cannot be kept."""
        check_pseudonym(self.case)
        if self.kind not in KINDS:
            raise InputError(f"A library item is a 'roi' or a 'text', not '{self.kind}'.")
        for side in (self.side, *(p.side for p in self.places), *(f.side for f in self.findings)):
            if side is not None and side not in SIDES:
                raise InputError(f"Unknown side '{side}'; use one of {', '.join(SIDES)}.")
        if len(self.text) > LONGEST_TEXT:
            raise InputError(
                f"The text has {len(self.text):,} characters; the library keeps at most "
                f"{LONGEST_TEXT:,}."
            )
        if self.thumbnail and not self.thumbnail.startswith(PNG):
            raise InputError("A thumbnail must be a PNG picture.")
        if len(self.thumbnail) > LARGEST_THUMBNAIL:
            raise InputError("The thumbnail is too large; keep it below 256 kB.")
        try:
            json.dumps(self.attributes, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError("The item's attributes cannot be written.", repr(error)) from error
        if self.embedding is not None and not self.model:
            raise InputError("An embedding needs the fingerprint of the model that made it.")
        return replace(self, embedding=unit_vector(self.embedding))

    def digest(self) -> bytes:
        """16 bytes that are equal for equal content of one case: nothing is added twice."""
        hashed = hashlib.blake2b(digest_size=16)
        head = (self.case, self.kind, self.entry, self.side, self.model, self.text, self.plane)
        hashed.update(json.dumps([*head, self.attributes], sort_keys=True).encode())
        if self.embedding is not None:
            hashed.update(np.asarray(self.embedding, dtype="<f2").tobytes())
        return hashed.digest()


@dataclass(frozen=True)
class LocationCondition:
    """Only items that lie in one of `entries`.

    depth: how many steps of part-of or is-a below an entry still count; None counts all parts, 0 the
    entry alone. side: only this side ("bilateral" counts as both). zone: only this zone.
    unknown_side: items of unknown side count as well.
    """

    entries: tuple[str, ...]
    side: str | None = None
    zone: str = ""
    depth: int | None = None
    unknown_side: bool = False

    def __post_init__(self) -> None:
        if not self.entries:
            raise InputError("A location condition needs at least one knowledge-base entry.")
        if self.side is not None and self.side not in SIDES:
            raise InputError(f"Unknown side '{self.side}'; use one of {', '.join(SIDES)}.")
        if self.depth is not None and self.depth < 0:
            raise InputError("The depth of a location condition is 0 or more.")

    def widened(self, base: KnowledgeBase, steps: int = 1) -> LocationCondition:
        """The condition on what the entries are a part of, `steps` up; stops below the roots."""
        entries = self.entries
        for _ in range(steps):
            up: list[str] = []
            for entry in entries:
                found = base.by_id[entry].part_of if entry in base.by_id else ()
                up += found or (entry,)
            entries = tuple(dict.fromkeys(up))
        return replace(self, entries=entries)

    @property
    def sides(self) -> tuple[str | None, ...] | None:
        """Sides that pass, None for all."""
        if self.side is None:
            return None
        passing: tuple[str | None, ...] = (self.side,)
        if self.side in ("left", "right"):
            passing += ("bilateral",)
        return (*passing, None) if self.unknown_side else passing


@dataclass(frozen=True)
class Query:
    """What to look for.

    embedding, text_embedding: D; of a region and of a phrase; with both, their similarities are
    averaged. Without any, items that pass the conditions come in the order of their adding.
    model: fingerprint of the model that made them; items of other models cannot be compared.
    entries, findings, modality, plane, cases, without_cases: filters; empty or None means any.
    """

    embedding: np.ndarray | None = None
    text_embedding: np.ndarray | None = None
    model: str = ""
    location: LocationCondition | None = None
    kind: str | None = None
    entries: tuple[str, ...] = ()
    findings: tuple[str, ...] = ()
    modality: str | None = None
    plane: str | None = None
    cases: tuple[str, ...] = ()
    without_cases: tuple[str, ...] = ()
    accepted_only: bool = False
    limit: int = 10

    def vector(self) -> np.ndarray | None:
        """D float32 whose product with a unit embedding is the item's score; None without any."""
        given = [unit_vector(v) for v in (self.embedding, self.text_embedding) if v is not None]
        if not given:
            return None
        if len({len(v) for v in given if v is not None}) != 1:
            raise InputError("The embeddings of region and text are of two different models.")
        if not self.model:
            raise InputError("A query by embedding needs the fingerprint of its model.")
        return np.mean([v for v in given if v is not None], axis=0).astype(np.float32)


@dataclass(frozen=True)
class Hit:
    """One found item; score is the cosine with the query, 0 without a query embedding."""

    item: Item
    score: float


class CaseStore(Protocol):
    """What a case library does, on one machine (SQLite) or for several (Qdrant)."""

    def add(self, item: Item, base: KnowledgeBase | None = None) -> int:
        """Keep an item, durably when this returns; its number. Content already there is not
        added again, its old number is returned. `base` gives the part-of of its places."""

    def add_many(self, items: Iterable[Item], base: KnowledgeBase | None = None) -> list[int]:
        """`add` one after the other."""

    def item(self, identifier: int) -> Item:
        """One item. Raises InputError when there is none."""

    def search(self, query: Query) -> list[Hit]:
        """Best first, exact."""

    def correct(self, identifier: int, entry: str, side: str | None, base: KnowledgeBase) -> Item:
        """Give an item another entry, accepted by a person."""

    def remove(self, identifier: int) -> None:
        """Remove an item. Raises InputError when there is none."""

    def remove_case(self, case: str) -> int:
        """Remove all items of a case; how many. Raises InputError when there is none."""

    def cases(self) -> dict[str, int]:
        """{pseudonym: number of items}, sorted."""

    def __len__(self) -> int:
        """Number of items."""

    def close(self) -> None:
        """Let go of files and connections."""


def unit_vector(vector: Any) -> np.ndarray | None:
    """D float32, unit length; None for None. Raises InputError for anything else than that."""
    if vector is None:
        return None
    found = np.asarray(vector, dtype=np.float32)
    length = float(np.linalg.norm(found)) if found.ndim == 1 else float("nan")
    if found.ndim != 1 or not 1 <= len(found) <= LARGEST_DIMENSION or not 0 < length < np.inf:
        raise InputError("An embedding must be one row of finite numbers, not all zero.")
    return found / length


def closure(base: KnowledgeBase | None, entry: str) -> dict[str, int]:
    """{entry or something it is a part or kind of: steps up to it}, the entry itself with 0."""
    if base is None or entry not in base.by_id:
        return {entry: 0}
    found = {entry: 0}
    level: Sequence[str] = [entry]
    while level:
        above = [p for e in level for p in (base.by_id[e].parents if e in base.by_id else ())]
        steps = max(found.values()) + 1
        level = [p for p in dict.fromkeys(above) if p not in found]
        found |= dict.fromkeys(level, steps)
    return found


def location_condition(
    base: KnowledgeBase,
    entry: str,
    side: str | None = None,
    zone: str = "",
    parts: bool = True,
    widen: int = 0,
) -> LocationCondition:
    """The condition "in this entry". parts: its parts count too; widen: steps up the part-of.

    Raises KnowledgeBaseError for an unknown entry, InputError for an unknown side.
    """
    base.entry(entry)
    condition = LocationCondition((entry,), side, zone, None if parts else 0)
    return condition.widened(base, widen) if widen else condition


Progress = Callable[[int, int, str], None]
