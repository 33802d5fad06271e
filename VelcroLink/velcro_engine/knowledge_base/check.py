"""`kb check`: everything a machine can find wrong with a knowledge base, all of it at once.

Loading stops at the first fault; this lists them all, and looks further: names that two entries
share, entries nobody leads to, codes, links, reading length, spelling, sentences used twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..resources import resource_path
from .check_codes import Terminology, check_codes, check_links
from .check_text import check_reading, check_spelling, check_templates
from .entry import Entry, EntryError, entry_from_dict
from .reading import Source, read_records
from .spelling import fold
from .store import BUNDLED, ROOTS, find_cycle


@dataclass(frozen=True)
class Problem:
    """One fault. severity: "error" breaks a rule; "warning" deserves a look."""

    severity: str
    file: str
    entry: str
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.file}: {self.entry}: {self.field}: {self.message}"


def check(
    paths: Sequence[Path | str] | None = None, terminology: Path | str | None = None
) -> list[Problem]:
    """Problems of one or more knowledge bases taken together, errors first; empty: all is well.

    terminology: folder with the DICOM lists as 3D Slicer ships them; then every SNOMED CT and UMLS
    code is looked up there. Raises KnowledgeBaseError only when a file cannot be read at all.
    """
    chosen = [resource_path(BUNDLED)] if paths is None else [Path(path) for path in paths]
    problems: list[Problem] = []
    entries: dict[str, Entry] = {}
    files: dict[str, str] = {}
    ambiguous: set[str] = set()
    for path in chosen:
        source, records = read_records(path)
        ambiguous.update(source.ambiguous)
        problems += _read(source, records, entries, files)
    listed = list(entries.values())
    lists = Terminology.read(Path(terminology)) if terminology else None
    findings = [
        *_check_graph(entries),
        *_check_names(listed, ambiguous),
        *_check_facts(entries),
        *check_codes(listed, lists),
        *check_links(listed),
        *check_reading(listed, ROOTS),
        *check_spelling(listed),
        *check_templates(listed),
    ]
    problems += [
        Problem(severity, files.get(entry, chosen[0].name), entry, field, message)
        for severity, entry, field, message in findings
    ]
    return sorted(problems, key=lambda p: (p.severity, p.file, p.entry, p.field))


def files_of(path: Path | str) -> set[str]:
    """Names of the files whose entries a knowledge base holds, as `Problem.file` has them."""
    path = Path(path)
    return {path.name, *(file for file, _ in read_records(path)[1])}


Finding = tuple[str, str, str, str]  # severity, entry id, field, message


def _read(
    source: Source,
    records: list,
    entries: dict[str, Entry],
    files: dict[str, str],
) -> Iterator[Problem]:
    own: set[str] = set()
    for file, record in records:
        try:
            entry = entry_from_dict(record)
        except EntryError as error:
            shown = str(record.get("id", "?")) if isinstance(record, dict) else "?"
            yield Problem("error", file, shown, error.field, error.reason)
            continue
        if entry.id in own:
            yield Problem("error", file, entry.id, "id", f"also stands in {files[entry.id]}")
            continue
        if entry.id in entries and not source.overrides:
            yield Problem("error", file, entry.id, "id", f"is already in {files[entry.id]}")
        own.add(entry.id)
        entries[entry.id] = entry
        files[entry.id] = file


def _check_graph(entries: dict[str, Entry]) -> Iterator[Finding]:
    for entry in entries.values():
        for field in ("is_a", "part_of", "places"):
            for other in getattr(entry, field):
                if other not in entries:
                    yield "error", entry.id, field, f"there is no entry '{other}'"
        if not entry.parents and entry.id not in ROOTS:
            yield "error", entry.id, "part_of", "is an orphan: name a parent in is_a or part_of"
        for other in entry.is_a:
            if other in entries and entries[other].kind != entry.kind:
                yield "error", entry.id, "is_a", f"'{other}' is of another kind"
        for other in entry.part_of:
            if other in entries and entries[other].kind not in (entry.kind, "anatomy"):
                yield "error", entry.id, "part_of", f"'{other}' is of another kind"
    cycle = find_cycle({entry.id: entry.parents for entry in entries.values()})
    if cycle:
        yield "error", cycle[0], "is_a", f"is its own ancestor: {' > '.join(cycle)}"


def _check_names(entries: list[Entry], ambiguous: set[str]) -> Iterator[Finding]:
    owners: dict[str, dict[str, str]] = defaultdict(dict)
    for entry in entries:
        for name in entry.terms:
            owners[fold(name)].setdefault(entry.id, name)
        english = [entry.name.casefold(), *(name.casefold() for name in entry.synonyms)]
        for name in sorted({name for name in english if english.count(name) > 1}):
            yield "error", entry.id, "synonyms", f"'{name}' stands twice"
        if entry.laterality == "paired":
            for name in (entry.name, *entry.synonyms):
                if name.casefold().startswith(("left ", "right ")):
                    yield "error", entry.id, "synonyms", f"'{name}' names a side"
    allowed = {fold(name) for name in ambiguous}
    for folded, who in owners.items():
        if len(who) > 1 and folded not in allowed:
            for identifier, name in who.items():
                others = ", ".join(sorted(set(who) - {identifier}))
                message = f"'{name}' is also a name of {others}; declare it ambiguous or drop it"
                yield "error", identifier, "synonyms", message
    shared = {folded for folded, who in owners.items() if len(who) > 1}
    for name in sorted(ambiguous):
        if fold(name) not in shared:
            yield "warning", "(manifest)", "ambiguous", f"'{name}' is not shared by two entries"


def _check_facts(entries: dict[str, Entry]) -> Iterator[Finding]:
    parents = {other for entry in entries.values() for other in entry.parents}
    for entry in entries.values():
        if entry.kind == "anatomy" and entry.places:
            yield "error", entry.id, "places", "anatomy has no usual places; use part_of"
        is_group = entry.id in ROOTS or entry.id in parents
        if entry.kind != "anatomy" and not entry.places and not is_group:
            yield "error", entry.id, "places", "a finding or device names where it usually lies"
        for other in entry.places:
            if other in entries and entries[other].kind != "anatomy":
                yield "warning", entry.id, "places", f"'{other}' is not anatomy"
        if not entry.modalities and not is_group:
            yield "error", entry.id, "modalities", "name at least one modality that shows it"
        if entry.kind != "anatomy" and entry.laterality == "paired":
            yield "error", entry.id, "laterality", "a finding or device is 'any', not 'paired'"
