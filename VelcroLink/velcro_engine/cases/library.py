"""The case library on one machine: an SQLite file in the user's data folder, searched in memory.

Every item is one transaction of its own (write-ahead log, synced): a process killed at any moment
loses at most the item it was writing. The file is readable by its owner only.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..knowledge_base import KnowledgeBase
from ..resources import user_data_folder
from .places import places_of_entry
from .reading import KEPT_DTYPE, item_of, read_closure, read_rows
from .record import Hit, Item, Place, Query, closure
from .schema import damaged, open_file, sqlite_errors, transaction
from .search import ExactIndex

_ITEM = (
    "SELECT items.id, cases.pseudonym, kind, entry, side, plane, modality, accepted, attributes, "
    "text FROM items JOIN cases ON cases.id = case_id"
)


def library_path(folder: str | os.PathLike[str] | None = None) -> Path:
    """Where the user's library lies: `cases/library.sqlite3` in the data folder (None: the usual
    one)."""
    base = user_data_folder() if folder is None else Path(folder)
    return base / "cases" / "library.sqlite3"


class CaseLibrary:
    """`record.CaseStore` over one SQLite file. Not for several threads at once; several processes
    may use one file."""

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        """Open or make a library (None: the user's own). Raises InputError when it is damaged, of a
        newer version, no library, or cannot be written."""
        self.path = library_path() if path is None else Path(path)
        self._connection = open_file(self.path)
        self._indexes: dict[str, ExactIndex] = {}
        self._seen = (-1, -1)  # (SQLite's data version, our counter of edits)

    @classmethod
    def over(cls, path: Path, connection: sqlite3.Connection) -> CaseLibrary:
        """A library over an open connection, whatever state its file is in (for `rescue`)."""
        made = cls.__new__(cls)
        made.path, made._connection = path, connection
        made._indexes, made._seen = {}, (-1, -1)
        return made

    # writing

    def add(self, item: Item, base: KnowledgeBase | None = None) -> int:
        """See `CaseStore.add`."""
        checked = item.checked()
        with sqlite_errors(self.path), transaction(self._connection):
            return self._insert(checked, base)

    def add_many(
        self, items: Iterable[Item], base: KnowledgeBase | None = None, batch: int = 1
    ) -> list[int]:
        """See `CaseStore.add_many`. batch: items in one transaction; a killed process loses at most
        so many, and large ones are written faster."""
        found: list[int] = []
        waiting: list[Item] = []
        for item in items:
            waiting.append(item.checked())
            if len(waiting) >= batch:
                found += self._insert_all(waiting, base)
                waiting = []
        return found + self._insert_all(waiting, base)

    def _insert_all(self, items: Sequence[Item], base: KnowledgeBase | None) -> list[int]:
        if not items:
            return []
        with sqlite_errors(self.path), transaction(self._connection):
            return [self._insert(item, base) for item in items]

    def correct(self, identifier: int, entry: str, side: str | None, base: KnowledgeBase) -> Item:
        """Give an item another entry, accepted by a person. Raises KnowledgeBaseError for an
        unknown entry, InputError when there is no such item."""
        old = self.item(identifier)
        zone = old.places[0].zone if old.places else ""
        places = places_of_entry(base.entry(entry), side, zone)
        # the digest stays that of the added content, so that adding it again finds this item
        new = replace(old, entry=entry, side=side, accepted=True, places=places).checked()
        with sqlite_errors(self.path), transaction(self._connection):
            self._execute(
                "UPDATE items SET entry = ?, side = ?, accepted = 1 WHERE id = ?",
                entry,
                side,
                identifier,
            )
            self._execute("DELETE FROM places WHERE item_id = ?", identifier)
            self._insert_places(identifier, new.places, base)
            self._count_edit()
        return new

    def remove(self, identifier: int) -> None:
        """Remove an item, and its case when it was the last one."""
        if not 0 < identifier < 1 << 63:  # what SQLite can number
            raise InputError(f"The library has no item {identifier}; see 'cases list'.")
        with sqlite_errors(self.path), transaction(self._connection):
            if not self._execute("DELETE FROM items WHERE id = ?", identifier).rowcount:
                raise InputError(f"The library has no item {identifier}; see 'cases list'.")
            self._execute("DELETE FROM cases WHERE id NOT IN (SELECT case_id FROM items)")
            self._count_edit()

    def remove_case(self, case: str) -> int:
        """Remove a case with all its items; how many they were."""
        with sqlite_errors(self.path), transaction(self._connection):
            (count,) = self._execute(
                "SELECT COUNT(*) FROM items JOIN cases ON cases.id = case_id WHERE pseudonym = ?",
                case,
            ).fetchone()
            if not count:
                raise InputError(f"The library has no case '{case[:80]}'; see 'cases list'.")
            self._execute("DELETE FROM cases WHERE pseudonym = ?", case)
            self._count_edit()
        return int(count)

    # reading

    def item(self, identifier: int) -> Item:
        """One item with everything kept of it."""
        found = self._items([identifier])
        if not found:
            raise InputError(f"The library has no item {identifier}; see 'cases list'.")
        return found[0]

    def search(self, query: Query) -> list[Hit]:
        """See `CaseStore.search`. Raises InputError for embeddings of another size."""
        with sqlite_errors(self.path):
            ranked = self._index(query.model).search(query)
        items = {item.identifier: item for item in self._items([i for i, _ in ranked])}
        return [Hit(items[i], score) for i, score in ranked if i in items]

    def ranked(self, query: Query) -> list[tuple[int, float]]:
        """[(item number, score)], best first, without reading the items themselves."""
        with sqlite_errors(self.path):
            return self._index(query.model).search(query)

    def cases(self) -> dict[str, int]:
        """{pseudonym: number of items}, sorted."""
        with sqlite_errors(self.path):
            return dict(
                self._execute(
                    "SELECT pseudonym, COUNT(*) FROM items JOIN cases ON cases.id = case_id "
                    "GROUP BY pseudonym ORDER BY pseudonym"
                ).fetchall()
            )

    def models(self) -> dict[str, int]:
        """{fingerprint of a model: number of its embeddings}."""
        with sqlite_errors(self.path):
            return dict(
                self._execute(
                    "SELECT fingerprint, COUNT(*) FROM embeddings "
                    "JOIN models ON models.id = model_id GROUP BY fingerprint"
                ).fetchall()
            )

    def check(self) -> None:
        """Read the file through. Raises InputError when anything in it is damaged."""
        with sqlite_errors(self.path):
            problems = self._execute("PRAGMA integrity_check(5)").fetchall()
            if problems != [("ok",)]:
                raise damaged(self.path, problems)
            identifiers = [i for (i,) in self._execute("SELECT id FROM items")]
        for start in range(0, len(identifiers), 500):
            self._items(identifiers[start : start + 500])

    def readable_numbers(self) -> tuple[list[int], int]:
        """(numbers of the items that can be reached one by one, 1 if the list broke off else 0)."""
        found: list[int] = []
        after = -(2**62)
        while True:
            try:
                row = self._execute(
                    "SELECT id FROM items WHERE id > ? ORDER BY id LIMIT 1", after
                ).fetchone()
            except (sqlite3.Error, UnicodeDecodeError):
                return found, 1
            if row is None:
                return found, 0
            after = int(row[0])
            found.append(after)

    def __len__(self) -> int:
        with sqlite_errors(self.path):
            return int(self._execute("SELECT COUNT(*) FROM items").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
        self._indexes.clear()

    def __enter__(self) -> CaseLibrary:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # one item in the tables

    def _execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        return self._connection.execute(statement, values)

    def _insert(self, item: Item, base: KnowledgeBase | None) -> int:
        digest = item.digest()
        old = self._execute("SELECT id FROM items WHERE digest = ?", digest).fetchone()
        if old is not None:
            return int(old[0])
        self._execute("INSERT OR IGNORE INTO cases (pseudonym) VALUES (?)", item.case)
        identifier = self._execute(
            "INSERT INTO items (case_id, kind, entry, side, plane, modality, accepted, attributes, "
            "text, digest) VALUES ((SELECT id FROM cases WHERE pseudonym = ?), "
            "?, ?, ?, ?, ?, ?, ?, ?, ?)",
            item.case,
            item.kind,
            item.entry,
            item.side,
            item.plane,
            item.modality,
            int(item.accepted),
            json.dumps(item.attributes, ensure_ascii=False, allow_nan=False),
            item.text,
            digest,
        ).lastrowid
        assert identifier is not None
        self._insert_places(identifier, item.places, base)
        for finding in item.findings:
            self._execute(
                "INSERT INTO findings VALUES (?, ?, ?, ?)",
                identifier,
                finding.entry,
                finding.side,
                json.dumps(list(finding.qualifiers), ensure_ascii=False),
            )
        if item.embedding is not None:
            self._insert_embedding(identifier, item)
        if item.thumbnail:
            self._execute("INSERT INTO thumbnails VALUES (?, ?)", identifier, item.thumbnail)
        return int(identifier)

    def _insert_places(
        self, identifier: int, places: Sequence[Place], base: KnowledgeBase | None
    ) -> None:
        for place in places:
            self._execute(
                "INSERT INTO places VALUES (?, ?, ?, ?)",
                identifier,
                place.entry,
                place.side,
                place.zone,
            )
            above = closure(base, place.entry)
            known = self._execute(
                "SELECT COUNT(*) FROM closure WHERE entry = ?", place.entry
            ).fetchone()[0]
            if known == len(above) or (known and base is None):
                continue
            self._execute("DELETE FROM closure WHERE entry = ?", place.entry)
            self._connection.executemany(
                "INSERT INTO closure VALUES (?, ?, ?)",
                [(place.entry, ancestor, steps) for ancestor, steps in above.items()],
            )

    def _insert_embedding(self, identifier: int, item: Item) -> None:
        vector = np.asarray(item.embedding, dtype=KEPT_DTYPE)
        self._execute("INSERT OR IGNORE INTO models (fingerprint, dimension) VALUES (?, ?)",
                      item.model, len(vector))  # fmt: skip
        number, dimension = self._execute(
            "SELECT id, dimension FROM models WHERE fingerprint = ?", item.model
        ).fetchone()
        if dimension != len(vector):
            raise InputError(
                f"This model's embeddings have {dimension} numbers in the library, not "
                f"{len(vector)}; use another library for another model."
            )
        self._execute(
            "INSERT INTO embeddings VALUES (?, ?, ?)", identifier, number, vector.tobytes()
        )

    def _count_edit(self) -> None:
        self._execute("UPDATE changes SET edits = edits + 1")

    def _items(self, identifiers: Sequence[int]) -> list[Item]:
        """The items that are there, in the order of their numbers."""
        if not identifiers:
            return []
        numbers = ",".join(str(int(i)) for i in identifiers)
        with sqlite_errors(self.path):
            rows = self._execute(f"{_ITEM} WHERE items.id IN ({numbers})").fetchall()
            places = self._grouped(f"SELECT * FROM places WHERE item_id IN ({numbers})")
            findings = self._grouped(f"SELECT * FROM findings WHERE item_id IN ({numbers})")
            pictures = dict(
                self._execute(f"SELECT * FROM thumbnails WHERE item_id IN ({numbers})").fetchall()
            )
            vectors = {
                item: (fingerprint, vector)
                for item, fingerprint, vector in self._execute(
                    "SELECT item_id, fingerprint, vector FROM embeddings "
                    f"JOIN models ON models.id = model_id WHERE item_id IN ({numbers})"
                )
            }
        try:
            return [
                item_of(row, places, findings, pictures, vectors)
                for row in sorted(rows, key=lambda row: row[0])
            ]
        except (TypeError, ValueError, RecursionError, InputError) as error:
            raise damaged(self.path, error) from error

    def _grouped(self, statement: str) -> dict[int, list[tuple]]:
        found: dict[int, list[tuple]] = {}
        for item, *values in self._execute(statement):
            found.setdefault(item, []).append(tuple(values))
        return found

    # the index in memory

    def _index(self, model: str) -> ExactIndex:
        """Index of a model's items, or for "" of all items without their embeddings."""
        (outside,) = self._execute("PRAGMA data_version").fetchone()
        (edits,) = self._execute("SELECT edits FROM changes").fetchone()
        if edits != self._seen[1]:
            self._indexes.clear()
        self._seen = (outside, edits)
        index = self._indexes.setdefault(model, ExactIndex())
        last = int(index.ids[-1]) if len(index) else 0
        (newest,) = self._execute("SELECT MAX(id) FROM items").fetchone()
        if newest is not None and newest > last:
            try:
                index.extend(
                    read_rows(self._connection, model, last), read_closure(self._connection)
                )
            except (TypeError, ValueError) as error:
                self._indexes.clear()
                raise damaged(self.path, error) from error
        return index
