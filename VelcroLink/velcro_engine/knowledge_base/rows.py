"""What every importer shares: rows with their place in the file, and all bad rows at once."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import KnowledgeBaseError
from .entry import Entry, EntryError, entry_from_dict
from .spelling import fold
from .store import KnowledgeBase, find_cycle

ROOT_OF_KIND = {
    "anatomy": "anatomical_structure",
    "pathology": "imaging_finding",
    "device": "device",
}
MAXIMUM_BYTES = 4 * 1024**3


class BadRows(KnowledgeBaseError):
    """Rows of a file that cannot be imported; `rows` has one line for each, with its number."""

    def __init__(self, file: str, rows: Sequence[str]) -> None:
        more = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
        super().__init__(f"{file}: {rows[0]}{more}. Nothing was imported.", "\n".join(rows))
        self.rows = tuple(f"{file}: {row}" for row in rows)


@dataclass(frozen=True)
class ImportResult:
    """Entries read from a file, in its order. notes: what was left out on purpose.

    updates: ids of entries that are an entry of the active knowledge base with something added;
    they take its place without being asked about. places: where in the file each id stands.
    """

    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()
    updates: frozenset[str] = frozenset()
    places: dict[str, str] = field(default_factory=dict)
    file: str = ""


class Rows:
    """Collects entries and faults while a file is read; `finish` raises if there was any fault."""

    def __init__(self, path: Path, kb: KnowledgeBase) -> None:
        self.file = path.name
        self.kb = kb
        self.entries: dict[str, Entry] = {}
        self.places: dict[str, str] = {}
        self.notes: list[str] = []
        self.updates: set[str] = set()
        self._bad: list[str] = []

    def bad(self, place: str, reason: str) -> None:
        """Note a fault, for instance at "line 12"."""
        self._bad.append(one_line(f"{place}: {reason}"))

    @property
    def bad_rows(self) -> list[str]:
        """The faults noted so far."""
        return list(self._bad)

    @property
    def bad_count(self) -> int:
        """How many faults there are so far."""
        return len(self._bad)

    def add(self, place: str, record: dict[str, Any] | Any) -> None:
        """Check one record and keep it, or note what is wrong with it."""
        try:
            entry = entry_from_dict(record)
        except EntryError as error:
            self.bad(place, f"field {error.field} {error.reason}")
            return
        if entry.id in self.entries:
            self.bad(place, f"entry '{entry.id}' already stands at {self.places[entry.id]}")
            return
        self.entries[entry.id] = entry
        self.places[entry.id] = place

    def finish(self) -> ImportResult:
        """All entries. Raises BadRows on faults, unknown parents and cycles; each is listed."""
        for entry in self.entries.values():
            for name in ("is_a", "part_of", "places"):
                for other in getattr(entry, name):
                    if other not in self.entries and other not in self.kb.by_id:
                        self.bad(
                            self.places[entry.id],
                            f"entry '{entry.id}', field {name}: there is no entry '{other}'",
                        )
        known = {entry.id: entry.parents for entry in self.kb.entries}
        cycle = find_cycle(known | {entry.id: entry.parents for entry in self.entries.values()})
        if cycle:
            place = next((self.places[i] for i in cycle if i in self.places), "file")
            self.bad(place, f"'{cycle[0]}' would be its own ancestor: {' > '.join(cycle)}")
        if self._bad:
            raise BadRows(self.file, self._bad)
        if not self.entries:
            raise KnowledgeBaseError(f"{self.file}: holds no entries. Nothing was imported.")
        return ImportResult(
            tuple(self.entries.values()),
            tuple(self.notes),
            frozenset(self.updates),
            self.places,
            self.file,
        )


def one_line(message: str) -> str:
    """A message that may quote a damaged file, without line breaks and control characters."""
    plain = " ".join(message.split())
    return "".join("?" if unicodedata.category(c) in ("Cc", "Cf") else c for c in plain)


def slug(name: str, taken: Collection[str] = ()) -> str:
    """Lower snake case id of a name, numbered when it is taken."""
    base = re.sub(r"[^a-z0-9]+", "_", fold_to_ascii(name)).strip("_")[:150] or "entry"
    if base not in taken:
        return base
    number = 2
    while f"{base}_{number}" in taken:
        number += 1
    return f"{base}_{number}"


def fold_to_ascii(name: str) -> str:
    """Lower case with accents taken off; words keep their spelling."""

    plain = unicodedata.normalize("NFKD", name.casefold().replace("æ", "ae").replace("œ", "oe"))
    return plain.encode("ascii", "ignore").decode("ascii")


def sentence_case(name: str) -> str:
    """First letter upper case, unless the first word has capitals of its own (pH, mRNA)."""
    first = name.split(" ", 1)[0]
    return name[:1].upper() + name[1:] if first == first.lower() else name


def root_parent(kind: str, kb: KnowledgeBase) -> list[str]:
    """Parent of an entry that names none: the root of its kind, where the knowledge base has it."""
    root = ROOT_OF_KIND[kind]
    return [root] if root in kb.by_id else []


def by_name(kb: KnowledgeBase) -> dict[str, Entry]:
    """Entry of each folded name, without names that several entries share."""
    found: dict[str, Entry] = {}
    shared: set[str] = set()
    for entry in kb.entries:
        for name in {fold(term) for term in (entry.name, *entry.synonyms, *entry.latin)}:
            if name in found:
                shared.add(name)
            found[name] = entry
    return {name: entry for name, entry in found.items() if name not in shared}


def read_text(path: Path) -> str:
    """Whole UTF-8 file. Raises KnowledgeBaseError when it cannot be read as such."""
    try:
        if path.stat().st_size > MAXIMUM_BYTES:
            raise KnowledgeBaseError(f"{path.name}: is larger than 4 GiB; split it.")
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise KnowledgeBaseError(
            f"{path.name}: line {line} is not UTF-8 text; save the file as UTF-8."
        ) from None
    except OSError as error:
        reason = "cannot be read" if path.exists() else "does not exist"
        raise KnowledgeBaseError(f"'{path}' {reason}.", repr(error)) from None
