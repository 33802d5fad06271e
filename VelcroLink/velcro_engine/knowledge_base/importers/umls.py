"""UMLS Rich Release Format, from files that the user holds a licence for.

MRCONSO.RRF gives names and codes, MRDEF.RRF definitions, MRSTY.RRF (optional) tells anatomy,
findings and devices apart. They are read line by line; of the whole Metathesaurus a file with the
wanted concept ids (CUIs), one a line, picks the part that is kept in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import KnowledgeBaseError
from ..entry import MAXIMUM_DEFINITION, MAXIMUM_NAME
from ..rows import BadRows, ImportResult, Rows, root_parent, sentence_case, slug
from ..store import KnowledgeBase

MAXIMUM_CONCEPTS = 1_000_000
_CUI = re.compile(r"C[0-9]{7}\Z")
_CONSO_COLUMNS, _DEF_COLUMNS, _STY_COLUMNS = 18, 8, 6
_SYNONYMS_KEPT = 20
_BAD_LINES_KEPT = 1000
_SCHEME_OF_SOURCE = {
    "SNOMEDCT_US": ("SCT", re.compile(r"[1-9][0-9]{5,17}\Z")),
    "MSH": ("MESH", re.compile(r"[DC][0-9]{6,9}\Z")),
    "FMA": ("FMA", re.compile(r"[1-9][0-9]*\Z")),
    "RADLEX": ("RADLEX", re.compile(r"RID[1-9][0-9]*\Z")),
}
_ABBREVIATION_TYPES = {"AB", "ACR"}
_ANATOMY = {"T017", "T018", "T021", "T022", "T023", "T024", "T025", "T029", "T030", "T031"}
_PATHOLOGY = {"T019", "T020", "T033", "T037", "T046", "T047", "T184", "T190", "T191"}
_DEVICE = {"T074", "T203"}


@dataclass
class _Concept:
    line: int
    preferred: str = ""
    rank: int = 0
    names: dict[str, str] = field(default_factory=dict)
    abbreviations: dict[str, str] = field(default_factory=dict)
    codes: dict[tuple[str, str], str] = field(default_factory=dict)
    definition: str = ""
    kind: str | None = None


def import_umls(
    path: Path, kb: KnowledgeBase, kind: str = "anatomy", cuis: Path | None = None
) -> ImportResult:
    """Entries of MRCONSO.RRF (or of the folder it lies in) in English, suppressed names left out.

    With MRSTY.RRF beside it, concepts that are neither anatomy, finding nor device are left out;
    without, all are of `kind`. Raises BadRows when a line is torn.
    """
    folder = path if path.is_dir() else path.parent
    main = folder / "MRCONSO.RRF" if path.is_dir() else path
    rows = Rows(main, kb)
    wanted = None if cuis is None else _wanted(cuis)
    concepts = _concepts(main, wanted, rows)
    _add_kinds(folder / "MRSTY.RRF", concepts, rows)
    _add_definitions(folder / "MRDEF.RRF", concepts, rows)
    has_kinds = any(concept.kind for concept in concepts.values())
    left_out = 0
    for cui, concept in concepts.items():
        if has_kinds and concept.kind is None:
            left_out += 1
            continue
        own_kind = concept.kind or kind
        known = kb.find_code("UMLS", cui)
        identifier = (
            known[0].id
            if known and known[0].id not in rows.entries
            else slug(concept.preferred, {*rows.entries, *kb.by_id})
        )
        rows.add(f"line {concept.line}", _record(cui, concept, identifier, own_kind, kb))
    if left_out:
        rows.notes.append(f"{left_out} concepts left out: no anatomy, finding or device")
    if wanted is not None and len(wanted) > len(concepts):
        rows.notes.append(f"{len(wanted) - len(concepts)} wanted concepts have no English name")
    return rows.finish()


def _record(cui: str, concept: _Concept, identifier: str, kind: str, kb: KnowledgeBase) -> dict:
    name = sentence_case(concept.preferred)
    besides = {name.casefold(), *concept.abbreviations}
    synonyms = [shown for key, shown in concept.names.items() if key not in besides]
    codes = [{"scheme": "UMLS", "value": cui, "meaning": concept.preferred}]
    for (scheme, value), meaning in concept.codes.items():
        codes.append({"scheme": scheme, "value": value, "meaning": meaning})
    return {
        "id": identifier,
        "name": name,
        "definition": concept.definition,
        "kind": kind,
        "synonyms": synonyms[:_SYNONYMS_KEPT],
        "abbreviations": list(concept.abbreviations.values())[:_SYNONYMS_KEPT],
        "is_a": [parent for parent in root_parent(kind, kb) if parent != identifier],
        "codes": codes,
    }


def _concepts(path: Path, wanted: set[str] | None, rows: Rows) -> dict[str, _Concept]:
    concepts: dict[str, _Concept] = {}
    for number, cells in _lines(path, _CONSO_COLUMNS, rows):
        cui, language, status, _, form, _, preferred = cells[:7]
        source, term_type, code, name, suppressed = (
            cells[11],
            cells[12],
            cells[13],
            cells[14],
            cells[16],
        )
        if not _CUI.match(cui):
            _bad(rows, path, number, f"'{cui[:20]}' is not a concept id")
            continue
        if language != "ENG" or suppressed != "N" or (wanted is not None and cui not in wanted):
            continue
        name = " ".join(name.split())
        if not name or len(name) > MAXIMUM_NAME:
            continue
        concept = concepts.get(cui)
        if concept is None:
            if len(concepts) == MAXIMUM_CONCEPTS:
                raise KnowledgeBaseError(
                    f"{path.name}: holds more than {MAXIMUM_CONCEPTS} concepts; name the wanted "
                    "ones in a file with --cuis."
                )
            concept = concepts[cui] = _Concept(number)
        _take(concept, name, term_type, source, code)
        rank = 1 + (status == "P") * 4 + (form == "PF") * 2 + (preferred == "Y")
        if term_type not in _ABBREVIATION_TYPES and rank > concept.rank:
            concept.preferred, concept.rank = name, rank
    for concept in concepts.values():
        if not concept.preferred:
            concept.preferred = next(iter(concept.abbreviations.values()))
    return concepts


def _take(concept: _Concept, name: str, term_type: str, source: str, code: str) -> None:
    kept = concept.abbreviations if term_type in _ABBREVIATION_TYPES else concept.names
    kept.setdefault(name.casefold(), name)
    scheme, form = _SCHEME_OF_SOURCE.get(source, ("", None))
    if form is not None and form.match(code):
        concept.codes.setdefault((scheme, code), name)


def _add_definitions(path: Path, concepts: dict[str, _Concept], rows: Rows) -> None:
    if not path.is_file():
        rows.notes.append("no MRDEF.RRF beside it: entries have no definitions")
        return
    for _, cells in _lines(path, _DEF_COLUMNS, rows):
        concept = concepts.get(cells[0])
        if concept is not None and not concept.definition and cells[6] == "N":
            concept.definition = " ".join(cells[5].split())[:MAXIMUM_DEFINITION].rstrip()


def _add_kinds(path: Path, concepts: dict[str, _Concept], rows: Rows) -> None:
    if not path.is_file():
        return
    for _, cells in _lines(path, _STY_COLUMNS, rows):
        concept = concepts.get(cells[0])
        if concept is None:
            continue
        for kind, types in (("anatomy", _ANATOMY), ("pathology", _PATHOLOGY), ("device", _DEVICE)):
            if cells[1] in types:
                concept.kind = kind


def _lines(path: Path, columns: int, rows: Rows) -> Iterator[tuple[int, list[str]]]:
    """(number, cells) of each line of an RRF file; torn lines are noted in `rows`."""
    try:
        with open(path, encoding="utf-8", newline="\n") as stream:
            number = 0
            for number, line in enumerate(stream, start=1):
                cells = line.rstrip("\r\n").split("|")
                if len(cells) != columns + 1 or cells[-1]:
                    _bad(rows, path, number, f"has not the {columns} columns of {path.name}")
                    continue
                yield number, cells
    except UnicodeDecodeError:
        raise KnowledgeBaseError(f"{path.name}: line {number + 1} is not UTF-8 text.") from None
    except OSError as error:
        raise KnowledgeBaseError(f"'{path}' cannot be read.", repr(error)) from None


def _bad(rows: Rows, path: Path, number: int, reason: str) -> None:
    rows.bad(f"{path.name} line {number}", reason)
    if rows.bad_count >= _BAD_LINES_KEPT:  # this is no RRF file; the rest would read the same
        raise BadRows(rows.file, rows.bad_rows)


def _wanted(path: Path) -> set[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise KnowledgeBaseError(f"'{path}' cannot be read.", repr(error)) from None
    wanted = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    wrong = sorted(cui for cui in wanted if not _CUI.match(cui))
    if wrong or not wanted:
        shown = f"'{wrong[0][:20]}' is not a concept id" if wrong else "names no concepts"
        raise KnowledgeBaseError(f"{path.name}: {shown}.")
    return wanted
