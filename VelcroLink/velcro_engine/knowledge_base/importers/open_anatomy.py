"""OpenAnatomy atlas files: structures are matched to entries by name, and codes travel both ways.

An atlas file is a flat JSON list of objects; those of type "Structure" have a name in
`annotation.name`, those of type "Group" list members. Published atlases carry no codes:
`annotate_atlas` writes a copy with the codes of matching entries as `annotation.xref` (CURIEs).
Reading an atlas that has such codes adds them to the entries; structures that no entry is called
like become new entries.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import KnowledgeBaseError
from ...resources import write_atomically
from ..entry import Code, Entry, entry_to_dict
from ..rows import ImportResult, Rows, by_name, read_text, root_parent, sentence_case, slug
from ..spelling import fold
from ..store import KnowledgeBase
from .json_files import parse

_SIDE = re.compile(r"\b(?:left|right)\b", re.IGNORECASE)
_CURIE = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31}):(\S{1,64})\Z")


def import_atlas(path: Path, kb: KnowledgeBase) -> ImportResult:
    """New entries for structures that are not in the knowledge base, and entries with the codes
    that the atlas adds to them (`ImportResult.updates`)."""
    atlas = _read(path)
    rows = Rows(path, kb)
    known = by_name(kb)
    groups = _group_of_member(atlas)
    names = {item["@id"]: _name(item) for item in atlas if isinstance(item.get("@id"), str)}
    added: dict[str, tuple[str, list[Code]]] = {}
    matched = 0
    for number, item in enumerate(atlas, start=1):
        if not _is(item, "Structure"):
            continue
        place = f"object {number}"
        name = _name(item)
        if not name:
            rows.bad(place, "a Structure without annotation.name")
            continue
        codes = _codes(item, place, rows)
        plain = _without_side(name)
        entry = known.get(fold(plain))
        if entry is None:
            if fold(plain) in added:
                continue  # the other side of one just added
            identifier = slug(plain, {*rows.entries, *kb.by_id})
            parents = _parents(item, names, groups, known)
            sided = plain != name
            rows.add(place, _record(identifier, plain, sided, codes, parents, kb))
            added[fold(plain)] = (identifier, codes)
            continue
        matched += 1
        _update(entry, codes, place, rows)
    rows.notes.append(f"{matched} structures matched entries by name")
    if not rows.entries and matched and not rows.bad_count:
        return ImportResult((), tuple(rows.notes), frozenset(), {}, rows.file)
    return rows.finish()


def annotate_atlas(source: Path, kb: KnowledgeBase, target: Path) -> tuple[int, int]:
    """Write a copy of an atlas whose structures carry the codes of the entries they match.

    Returns (structures with codes, structures). Codes that are already there stay.
    """
    atlas = _read(source)
    known = by_name(kb)
    total = coded = 0
    for item in atlas:
        if not _is(item, "Structure") or not _name(item):
            continue
        total += 1
        entry = known.get(fold(_without_side(_name(item))))
        if entry is None or not entry.codes:
            continue
        coded += 1
        annotation = item["annotation"]
        present = annotation.get("xref", [])
        present = present if isinstance(present, list) else [present]
        own = [f"{code.key[0]}:{code.key[1]}" for code in entry.codes]
        annotation["xref"] = [*present, *(code for code in own if code not in present)]
    write_atomically(target, json.dumps(atlas, indent=1, ensure_ascii=False) + "\n")
    return coded, total


def _read(path: Path) -> list[dict[str, Any]]:
    atlas = parse(path, read_text(path))
    good = isinstance(atlas, list) and all(isinstance(item, dict) for item in atlas)
    if not good or not any(_is(item, "Structure") for item in atlas):
        raise KnowledgeBaseError(f"{path.name}: is not an OpenAnatomy atlas (a list of objects).")
    return atlas


def _is(item: dict[str, Any], kind: str) -> bool:
    own = item.get("@type")
    return own == kind or (isinstance(own, list) and kind in own)


def _name(item: dict[str, Any]) -> str:
    annotation = item.get("annotation")
    name = annotation.get("name") if isinstance(annotation, dict) else None
    return " ".join(name.replace("_", " ").split()) if isinstance(name, str) else ""


def _without_side(name: str) -> str:
    """Name without left and right, unless the side is part of it (left atrium, right ventricle)."""
    if re.search(r"\b(atrium|ventricle|auricle|lobe|bundle)\b", name, re.IGNORECASE) and not (
        "lateral" in name.lower() or "temporal" in name.lower() or "lobe of" in name.lower()
    ):
        return name
    return " ".join(_SIDE.sub(" ", name).replace(" of the ", " of ").split()) or name


def _codes(item: dict[str, Any], place: str, rows: Rows) -> list[Code]:
    found = []
    references = item["annotation"].get("xref", [])
    for reference in references if isinstance(references, list) else [references]:
        match = _CURIE.match(reference) if isinstance(reference, str) else None
        if match is None:
            rows.bad(place, f"xref {str(reference)[:60]!r} is not PREFIX:CODE")
            continue
        code = Code(match[1].upper(), match[2])
        found.append(replace(code, value=code.key[1]))
    return list({code.key: code for code in found}.values())


def _update(entry: Entry, codes: list[Code], place: str, rows: Rows) -> None:
    current = rows.entries.get(entry.id, entry)
    have = {code.key for code in current.codes}
    new = tuple(code for code in codes if code.key not in have)
    if new:
        rows.entries[entry.id] = replace(current, codes=current.codes + new)
        rows.places.setdefault(entry.id, place)
        rows.updates.add(entry.id)


def _record(
    identifier: str,
    name: str,
    sided: bool,
    codes: list[Code],
    parents: list[str],
    kb: KnowledgeBase,
) -> dict[str, Any]:
    entry = Entry(
        identifier,
        sentence_case(name),
        "",
        "anatomy",
        laterality="paired" if sided else "any",
        is_a=() if parents else tuple(root_parent("anatomy", kb)),
        part_of=tuple(parents),
        codes=tuple(codes),
    )
    return entry_to_dict(entry)


def _group_of_member(atlas: list[dict[str, Any]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for item in atlas:
        members = item.get("member")
        if _is(item, "Group") and isinstance(members, list):
            for member in members:
                if isinstance(member, str):
                    groups.setdefault(member, []).append(str(item.get("@id")))
    return groups


def _parents(
    item: dict[str, Any],
    names: dict[str, str],
    groups: dict[str, list[str]],
    known: dict[str, Entry],
) -> list[str]:
    """Entries of the knowledge base that the structure's groups are called like."""
    found = []
    for group in groups.get(str(item.get("@id")), []):
        entry = known.get(fold(_without_side(names.get(group, ""))))
        if entry is not None and entry.kind == "anatomy":
            found.append(entry.id)
    return list(dict.fromkeys(found))
